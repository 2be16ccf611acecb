"""The tables say what hand-made rows come to."""

import math
import sys
from dataclasses import replace

import pytest
from rows_by_hand import ladder, row

from cnn_compression.benchmark import report


def cells_of(text, *, after, codec):
    """The row of a codec in the first table behind a line that contains `after`."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if after in line)
    line = next(line for line in lines[start:] if line.startswith(f"| {codec} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.fixture(scope="module")
def rows():
    """JPEG over two images, and a codec that takes half the bytes of it."""
    images = {"x": 20.0, "y": 26.0}
    made = [r for image, start in images.items() for r in ladder("JPEG", image, start)]
    for image, start in images.items():
        made += ladder("half", image, start + 5)
    return made


def make(rows, **options):
    return report.markdown(rows, report.Options("set, 2 images", **options))


def test_both_means_at_fixed_rates(rows):
    text = make(rows, rates=(0.125, 0.2, 8))
    # At the same rates for all images the two ways agree.
    for way in ("PSNR, dB: mean of each image's", "PSNR, dB: on the averaged curve"):
        expected = [28.0, 23 + 5 * math.log2(0.2 * 16)]
        assert cells_of(text, after=way, codec="JPEG") == [*(f"{v:.2f}" for v in expected), "–"]
    assert cells_of(text, after="Luma PSNR, dB: on the", codec="half")[0] == "34.00"
    assert cells_of(text, after="MS-SSIM: on the", codec="half")[0] == "0.9000"
    for way in ("SSIMULACRA2: mean of each image's", "SSIMULACRA2: on the averaged curve"):
        expected = [14.0, 3 * (23 + 5 * math.log2(0.2 * 16)) - 70]
        assert cells_of(text, after=way, codec="JPEG") == [*(f"{v:.2f}" for v in expected), "–"]


def test_a_mean_needs_every_image(rows):
    shorter = [r for r in rows if (r.image, r.quality) != ("x", 1)]
    text = make(shorter, rates=(0.07,))
    assert cells_of(text, after="mean of each image's", codec="JPEG") == ["–"]


def test_deltas(rows):
    pytest.importorskip("bjontegaard")
    text = make(rows, anchor="JPEG", bd_range=(0.125, 1.0))
    cells = cells_of(text, after="Bjontegaard", codec="half")
    assert cells[0] == cells[2] == "-50.0"  # 5 dB at 5 dB an octave
    assert cells[1] == "33.0 to 43.0"  # from half at 1/8 bpp to JPEG at 1
    assert cells[3] == cells[5] == "+5.00" and cells[4] == "0.12 to 1"
    assert "against JPEG, 0.125 to 1 bpp" in text
    # Three of SSIMULACRA2 a dB: the same rates.
    assert cells_of(text, after="| BD-SSIMULACRA2 |", codec="half") == [
        "-50.0", "29.0 to 59.0", "-50.0", "+15.00", "0.12 to 1", "+15.00"
    ]  # fmt: skip
    swapped = make(rows, anchor="half", bd_range=(0.125, 1.0))
    assert cells_of(swapped, after="Bjontegaard", codec="JPEG")[0] == "+100.0"


def test_no_overlap_and_partial_overlap_are_said(rows):
    pytest.importorskip("bjontegaard")
    far = [r for image in "xy" for r in ladder("far", image, 100)]
    part = [r for r in ladder("part", "x") + ladder("part", "y", 100)]
    text = make(rows + far + part, anchor="JPEG")
    assert cells_of(text, after="Bjontegaard", codec="far")[:3] == ["no overlap", "–", "no overlap"]
    assert cells_of(text, after="Bjontegaard", codec="part")[2] == "+0.0 (1 of 2)"


def test_scores_below_zero_count_like_others(rows):
    pytest.importorskip("bjontegaard")
    low = [replace(r, ssimulacra2=r.ssimulacra2 - 60) for r in rows]
    text = make(low, anchor="JPEG", bd_range=(0.125, 1.0), rates=(0.125, 8))
    cells = cells_of(text, after="| BD-SSIMULACRA2 |", codec="half")
    assert cells[:3] == ["-50.0", "-31.0 to -1.0", "-50.0"] and cells[3] == "+15.00"
    assert cells_of(text, after="SSIMULACRA2: on the", codec="JPEG") == ["-46.00", "–"]


def test_folds_are_counted(rows):
    pytest.importorskip("bjontegaard")
    folded = [*rows, *(row("half", image, 9, 0.3, 20.0, ssimulacra2=80.0) for image in "xy")]
    text = make(folded, anchor="JPEG")
    assert "cost more and give less PSNR: half 1, left out" in text
    assert "cost more and give less SSIMULACRA2: half 2, left out" in text
    assert "cost more" not in make(rows, anchor="JPEG")


def test_without_the_extra_it_says_so(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    text = make(rows, anchor="JPEG")
    assert "against JPEG, 0.1 to 1 bpp: need the extra `bench`." in text
    assert "Bjontegaard" not in make(rows)  # no anchor, no deltas


def test_areas_and_speed(rows):
    text = make(rows)
    assert cells_of(text, after="AUC of MS-SSIM", codec="JPEG") == [
        "0.9400", "0.9400", "0.9548", "0.02", "0.01"
    ]  # fmt: skip
    short = make([r for r in rows if r.quality != 7 and r.quality != 6])
    assert cells_of(short, after="AUC of MS-SSIM", codec="JPEG")[:3] == ["–", "–", "–"]


def test_qualities_and_libraries(rows):
    text = make(rows)
    assert "| JPEG | library 1.0 | none |" in text
    assert "| JPEG | 2 | 0.125 | 28.00 | 29.00 | 0.5000 | 0.9000 | 14.00 | 1.000 | 2.000 |" in text
    assert "200x100" in text


def test_sizes_are_reported_apart(rows):
    pytest.importorskip("bjontegaard")
    small = [
        row(r.codec, r.image, r.quality, r.bpp, r.psnr - 10 * (r.codec == "half"), r.ms_ssim,
            factor=2, height=50, width=100)
        for r in rows
    ]  # fmt: skip
    text = make(rows + small, anchor="JPEG")
    assert "## set, 2 images: 200x100" in text
    assert "## set, 2 images, scaled down by 2: 100x50" in text
    for measure in ("PSNR", "SSIMULACRA2"):
        after = f"BD-rate in {measure}, %, against JPEG"
        assert cells_of(text, after=after, codec="half") == ["-50.0", "+100.0"]
    assert "by size" not in make(rows, anchor="JPEG")


def test_titles(rows):
    assert report.title("kodak", rows) == "kodak, 2 images"
    assert report.title("", [rows[0]]) == "1 image"
    portrait = row("JPEG", "z", 1, 1, 1, height=300, width=100)
    assert report.sizes([*rows, portrait]) == "200x100 to 100x300"


def test_the_summary_is_two_tables_a_size(rows):
    pytest.importorskip("bjontegaard")
    small = [
        row(r.codec, r.image, r.quality, r.bpp, r.psnr, r.ms_ssim, factor=2, height=50, width=100)
        for r in rows
    ]
    options = {"anchor": "JPEG", "bd_range": (0.125, 1.0), "rates": (0.125, 0.2, 8)}
    text = report.summary(rows + small, report.Options("set, 2 images", **options))
    assert len(text.splitlines()) == 2 * (2 + 2 * 5) - 1
    for after in ("# set, 2 images: 200x100", "# set, 2 images, scaled down by 2: 100x50"):
        _, _, size = text.partition(after)
        assert cells_of(size, after="PSNR, dB", codec="half") == ["33.00", "36.39", "–", "-50.0"]
        assert cells_of(size, after="PSNR, dB", codec="JPEG") == ["28.00", "31.39", "–", ""]
        eyes = [cells_of(size, after="SSIMULACRA2", codec=codec) for codec in ("half", "JPEG")]
        assert eyes == [["29.00", "39.17", "–", "-50.0"], ["14.00", "24.17", "–", ""]]
    alone = report.summary(rows, report.Options("set, 2 images"))
    assert "BD-rate" not in alone and "| half | " in alone
