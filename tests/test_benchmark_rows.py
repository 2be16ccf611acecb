"""Rows are what the codec really wrote; as text they lose nothing."""

import csv
import io
import json
import math
import types
from dataclasses import asdict, replace

import numpy as np
import pytest
from rows_by_hand import row

from cnn_compression import benchmark
from cnn_compression.benchmark import rows
from cnn_compression.jpeg import coding
from cnn_compression.tensors import metrics
from cnn_compression.tensors.ssimulacra2 import ssimulacra2


@pytest.mark.parametrize("name", ["coffee", "camera"])
def test_rows_are_what_was_written(photos, name):
    image = photos[name]
    codeds = list(benchmark.measure(benchmark.Jpeg(), name, image, [20, 70], factor=2))
    assert [(coded.row.image, coded.row.quality) for coded in codeds] == [(name, 20), (name, 70)]
    data = coding.encode(image, 70).numpy()
    decoded = coding.decode(data).numpy()
    row = codeds[1].row
    assert (codeds[1].payload, row.bytes) == (data, len(data))
    assert (row.codec, row.library, row.settings) == (
        "JPEG", benchmark.Jpeg.library, benchmark.Jpeg.settings
    )  # fmt: skip
    assert (row.height, row.width, row.factor) == (192, 256, 2)
    assert row.bpp == pytest.approx(8 * len(data) / (192 * 256))
    np.testing.assert_array_equal(codeds[1].image_hat, decoded)
    assert row.psnr == pytest.approx(float(metrics.psnr(image, decoded)))
    luma = metrics.psnr(metrics.luma(image), metrics.luma(decoded))
    assert row.psnr_y == pytest.approx(float(luma))
    assert row.ssim == pytest.approx(float(metrics.ssim(image, decoded)))
    assert row.ms_ssim == pytest.approx(float(metrics.ms_ssim(image, decoded)))
    assert row.ssimulacra2 == ssimulacra2(image, decoded)
    assert codeds[0].row.ssimulacra2 < row.ssimulacra2


def test_seconds_are_of_the_fastest_run_after_one_that_is_not_counted(monkeypatch, photos):
    now = [0.0]
    encodings, decodings = iter([50.0, 4.0, 3.0, 5.0]), iter([60.0, 7.0, 9.0, 8.0])

    class Slow(benchmark.Jpeg):
        def encode(self, image, quality):
            now[0] += next(encodings)
            return super().encode(image, quality)

        def decode(self, payload):
            now[0] += next(decodings)
            return super().decode(payload)

    monkeypatch.setattr(rows, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    [coded] = benchmark.measure(Slow(), "coffee", photos["coffee"], [20], runs=3)
    assert (coded.row.encode_seconds, coded.row.decode_seconds) == (3, 7)


@pytest.mark.parametrize("photo, channels", [("camera", 3), ("coffee", 1)])
def test_what_comes_back_in_other_channels_is_measured_in_the_originals(photos, photo, channels):
    class Turns(benchmark.Jpeg):
        def decode(self, payload):
            return coding.decode(payload, channels).numpy()

    image = photos[photo]
    [coded] = benchmark.measure(Turns(), photo, image, [90])
    assert coded.image_hat.shape == image.shape
    expected = coding.decode(coded.payload, channels).numpy()
    np.testing.assert_array_equal(coded.image_hat[..., :1], metrics.luma(expected))


def test_an_image_is_known_by_its_pixels_too(photos):
    def about(image, name="a.png"):
        return rows.subject(benchmark.Jpeg(), name, image)

    image = photos["coffee"]
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    turned = np.ascontiguousarray(image[:, ::-1])
    assert about(image) == about(image.copy())
    assert len({about(i)["pixels"] for i in (image, changed, turned, image[:, ::2])}) == 4
    one, other = (replace(row("a", "x", 1, 1, 1), pixels=p) for p in ("01", "02"))
    assert one.key != other.key


def test_seconds_and_scores_are_no_part_of_the_key():
    one = row("a", "x", 10, 0.2, 30)
    assert one.key == replace(one, encode_seconds=9.0, psnr=1.0).key
    for name in ("codec", "library", "settings", "image", "factor", "height", "width", "quality"):
        assert one.key != replace(one, **{name: 7}).key


def test_lines_are_json_that_any_reader_takes():
    def forbidden(constant):
        raise ValueError(constant)

    lines = [rows.json_line(row("a", "x", 10, 0.2, math.inf, m)) for m in (math.nan, 0.9)]
    values = [json.loads(line, parse_constant=forbidden) for line in lines]
    assert [value["ms_ssim"] for value in values] == [None, 0.9]
    expected = asdict(row("a", "x", 10, 0.2, 0, 0.9))
    assert values[1] == expected | dict.fromkeys(("psnr", "psnr_y", "ssimulacra2"))
    assert "".join(lines).count("\n") == 2


def test_a_line_gives_its_row_back():
    missing = {"ssim": math.nan, "ssimulacra2": math.nan}
    original = row("a", "ü\n", 2.5, 0.2, math.inf, math.nan, **missing)
    back = rows.from_json(rows.json_line(original))
    assert repr(back) == repr(original)  # equal, NaN included


@pytest.mark.parametrize("line", ["", "{", "[1]", "null", '{"codec": "a"}', '{"bytes": null}'])
def test_a_line_that_is_no_row(line):
    with pytest.raises(ValueError, match="expected a row of the benchmark. Received"):
        rows.from_json(line)


def test_csv_says_what_json_says():
    some = [row("a,b", 'x"\n', 10, 0.25, math.inf), row("a", "y", 1.5, 0.5, 31, 0.9)]
    table = list(csv.DictReader(io.StringIO(rows.csv_text(some))))
    values = [json.loads(rows.json_line(r)) for r in some]
    assert [list(line) for line in table] == [list(value) for value in values]
    for line, value in zip(table, values, strict=True):
        assert line == {name: "" if v is None else str(v) for name, v in value.items()}


def test_cells():
    values = {"bpp": 0.25, "psnr": 31.256, "ms_ssim": math.nan}
    assert rows.cells(values, ("bpp", "psnr", "ms_ssim")) == ["0.250", "31.26", "–"]
    assert rows.cells(values, ("ms_ssim",), missing="-") == ["-"]
