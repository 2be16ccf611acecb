"""Figures: every label in the SVG, something on the PNG, the same bytes each time."""

import io
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from rows_by_hand import ladder, row

from cnn_compression.benchmark import plots
from cnn_compression.benchmark.curves import curves

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

NAMES = ["mine", "JPEG", "WebP", "HEIC", "RecCNN alone (mine)"]


@pytest.fixture(scope="module")
def some():
    rows = [r for i, name in enumerate(NAMES) for r in ladder(name, start=20 + i)]
    rows += [row("nowhere", "a.png", 1, 40.0, 60.0, 0.999), row("tiny", "a.png", 1, 0.5, 30.0)]
    return curves(rows)


def texts(svg):
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [
        "".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.mark.parametrize("measure", plots.AXES)
def test_everything_is_said(some, measure):
    figure = plots.draw(some, measure, "set, 2 images", ours=["mine"])
    said = texts(figure["svg"])
    there = {*NAMES, "set, 2 images", "bits per pixel", plots.AXES[measure].label}
    assert there | {"0.1", "0.25", "0.5", "1", "2"} <= set(said)
    assert "nowhere" not in said  # beyond what is shown
    assert ("tiny" in said) == (measure != "ms_ssim")  # which it has not
    labels = [text for text in said if text in NAMES]
    assert sorted(labels) == sorted(NAMES)
    pixels = np.asarray(Image.open(io.BytesIO(figure["png"])).convert("RGB"))
    assert min(pixels.shape[:2]) > 800
    ours = np.array([int(plots.OURS[0][at : at + 2], 16) for at in (1, 3, 5)])
    assert (pixels == ours).all(2).sum() > 500 and (pixels == 255).all(2).mean() > 0.5


def test_the_same_curves_give_the_same_bytes(some):
    first, second = (plots.draw(some, "psnr", "t", ["mine"]) for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first["svg"] and b"Software" not in first["png"]


def test_nothing_to_draw():
    tiny = curves([row("a", "x", 1, 0.5, 30.0)])
    with pytest.raises(ValueError, match="expected a curve with ms_ssim"):
        plots.draw(tiny, "ms_ssim", "t")


def test_a_curve_is_cut_where_the_figure_ends():
    rates, values = np.array([0.05, 0.2, 3.2]), np.array([10.0, 20.0, 60.0])
    cut, heights = plots._visible(rates, values, 0.1, 0.8)
    np.testing.assert_allclose(cut, [0.1, 0.2, 0.8])
    np.testing.assert_allclose(heights, [15, 20, 40])
    for low, high in ((0.3, 0.4), (4, 5)):
        cut, _ = plots._visible(rates, values, low, high)
        assert list(cut) == ([low, high] if high < 3 else [])
    cut, heights = plots._visible(rates, np.array([10.0, math.inf, math.nan]), 0.01, 9)
    assert (list(cut), list(heights)) == ([0.05], [10])


def test_labels_keep_their_order_and_distance():
    heights = {"d": 0.99, "a": 0.5, "b": 0.501, "c": 0.502, "e": 0.1}
    placed = plots._spread(heights, 0.05)
    assert list(placed) == ["e", "a", "b", "c", "d"]
    values = list(placed.values())
    assert min(np.diff(values)) > 0.05 - 1e-4 and max(values) <= 1
    assert placed["b"] == pytest.approx(0.501, abs=0.01) and placed["e"] == 0.1


def test_the_axis_of_ms_ssim_inverts():
    forward, inverse = plots.AXES["ms_ssim"].scale
    np.testing.assert_allclose(inverse(forward(np.array([0.5, 0.9, 0.999]))), [0.5, 0.9, 0.999])
    assert forward(np.array([0.9, 0.99])).tolist() == pytest.approx([1, 2])
    assert np.isfinite(forward(np.array([1.0]))).all()
