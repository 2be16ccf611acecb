"""The contact sheet: files that fit, the square where they differ, panels of the right pixels."""

import io

import numpy as np
import pytest

from cnn_compression import benchmark
from cnn_compression.benchmark import crops

Image = pytest.importorskip("PIL.Image")


def rows_of(codec, image, qualities):
    return [coded.row for coded in benchmark.measure(codec, "a.png", image, qualities)]


def test_the_best_quality_that_fits(photos):
    codec, image = benchmark.Jpeg(), photos["coffee"]
    rows = rows_of(codec, image, [5, 30, 90])
    sizes = [len(codec.encode(image, quality)) for quality in range(1, 101)]
    for target in (rows[0].bpp, 0.5, rows[1].bpp, 1.5):
        coded = crops.within(codec, rows, "a.png", image, target)
        best = max(q for q, size in enumerate(sizes, 1) if 8 * size <= target * 192 * 256)
        assert coded.row.quality == best and coded.row.bpp <= target
    top = crops.within(codec, rows, "a.png", image, 99)
    assert top.row.quality == 90  # not beyond the ladder
    assert crops.within(codec, rows, "a.png", image, rows[0].bpp * 0.99) is None


def test_a_ladder_of_fractions_is_not_searched(photos):
    class Fractions(benchmark.Jpeg):
        def encode(self, image, quality):
            return super().encode(image, int(100 * quality))

    codec, image = Fractions(), photos["coffee"]
    rows = rows_of(codec, image, [0.1, 0.3, 0.9])
    coded = crops.within(codec, rows, "a.png", image, rows[1].bpp * 1.1)
    assert coded.row.quality == 0.3


def test_the_square_is_where_pictures_differ_most():
    rng = np.random.default_rng(0)
    first = rng.integers(100, 110, (300, 400, 3), np.uint8)
    second = first.copy()
    second[60:100, 300:330] += 50
    left, top, right, bottom = crops.square([first, second, first], 64)
    assert (right - left, bottom - top) == (64, 64)
    assert left <= 300 and right >= 330 and top <= 60 and bottom >= 100
    assert crops.square([first[:50, :40], second[:50, :40]], 64) == (0, 0, 40, 50)


@pytest.mark.parametrize("photo", ["coffee", "camera"])
def test_the_sheet(photos, photo):
    image = photos[photo]
    codeds = {
        f"codec {quality}": coded
        for quality, coded in zip(
            (10, 90), benchmark.measure(benchmark.Jpeg(), "a", image, [10, 90]), strict=True
        )
    }
    scenes = [("one.png", image, codeds), ("two.png", image[:100, :100], {"none": None})]
    sheet = np.asarray(Image.open(io.BytesIO(crops.sheet(scenes, 0.25))))
    cell = (crops.LABEL + crops.ZOOM * 192 + crops.MARGIN, crops.ZOOM * 192 + crops.MARGIN)
    heights = [crops.MARGIN + cell[0], 2 * crops.MARGIN + crops.LABEL + crops.ZOOM * 100]
    assert sheet.shape == (sum(heights), crops.MARGIN + 3 * cell[1], 3)

    left, top, right, bottom = crops.square([image, *(c.image_hat for c in codeds.values())])
    pictures = [image, *(coded.image_hat for coded in codeds.values())]
    for index, picture in enumerate(pictures):
        corner = (crops.MARGIN + crops.LABEL, crops.MARGIN + index * cell[1])
        panel = sheet[corner[0] :, corner[1] :][: crops.ZOOM * 192, : crops.ZOOM * 192]
        expected = picture[top:bottom, left:right].repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(panel, np.broadcast_to(expected, panel.shape))
        label = sheet[crops.MARGIN :, corner[1] :][: crops.LABEL, : crops.ZOOM * 192]
        assert label.min() < 50  # there is text
    empty = sheet[heights[0] + crops.MARGIN + crops.LABEL :, crops.MARGIN + cell[1] :][:200, :200]
    assert (empty == 0xDD).all()


def test_panels_wrap(photos):
    [coded] = benchmark.measure(benchmark.Jpeg(), "a", photos["coffee"], [50])
    scene = ("a", photos["coffee"], {f"c{i}": coded for i in range(crops.COLUMNS)})
    sheet = Image.open(io.BytesIO(crops.sheet([scene], 1)))
    side = crops.ZOOM * 192 + crops.MARGIN
    assert sheet.size == (
        crops.MARGIN + crops.COLUMNS * side,
        crops.MARGIN + 2 * (side + crops.LABEL),
    )
