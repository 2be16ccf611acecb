"""Means, interpolation and areas, against what they are on paper."""

import math
import warnings

import numpy as np
import pytest
from rows_by_hand import ladder, row

from cnn_compression.benchmark import curves as c


def test_curves_are_means_over_images():
    rows = [row("a", "x", 10, 0.2, 30), row("a", "y", 10, 0.4, 32), row("b", "x", 10, 1, 1)]
    point = c.curves(rows)["a"][10]
    assert (point["bpp"], point["psnr"], point["psnr_y"]) == (pytest.approx(0.3), 31, 32)
    assert list(c.curves(rows)) == ["a", "b"]


def test_images_without_a_value_do_not_count():
    rows = [row("a", "x", 10, 0.2, 30, value) for value in (0.9, math.nan, 0.7)]
    rows += [row("b", "x", 10, 0.2, 30, value) for value in (math.nan, math.nan)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves = c.curves(rows)
    assert curves["a"][10]["ms_ssim"] == pytest.approx(0.8)
    assert math.isnan(curves["b"][10]["ms_ssim"])


def test_rates_are_interpolated_in_log_bpp_and_never_beyond():
    rows = [row("a", "x", 10, 0.1, 20), row("a", "x", 50, 0.4, 30)]
    curve = c.curves(rows)["a"]
    assert c.at_bpp(curve, 0.2) == pytest.approx(25)
    assert c.at_bpp(curve, 0.2, "psnr_y") == pytest.approx(26)
    assert c.at_bpp(curve, 0.4) == pytest.approx(30)
    assert np.isnan(c.at_bpp(curve, 0.41)) and np.isnan(c.at_bpp(curve, 0.099))


def test_the_two_means_differ_and_each_is_what_it_says():
    # Of two straight lines, the mean at a rate is the line between; the averaged curve, at each
    # quality the mean rate and the mean PSNR, is another one where the images' rates differ.
    rows = ladder("a", "x") + ladder("a", "y", 30, rates=[r / 4 for r in (0.25, 1, 4)])
    rows = [r for r in rows if r.image == "y" or r.quality <= 3]
    own = c.image_curves(rows)["a"]
    assert len(own) == 2
    assert c.mean_of_images(own, lambda curve: c.at_bpp(curve, 0.125)) == pytest.approx(
        (25 + 35) / 2
    )
    averaged = c.curves(rows)["a"]
    assert c.at_bpp(averaged, (0.125 + 0.25) / 2) == pytest.approx((25 + 40) / 2)
    assert math.isnan(c.mean_of_images(own, lambda curve: c.at_bpp(curve, 0.5)))  # x ends before


def test_images_of_one_name_are_not_mixed_up():
    rows = [row("a", "x", 1, 1, 20), row("a", "x", 1, 2, 30, pixels="other")]
    assert [curve[1]["psnr"] for curve in c.image_curves(rows)["a"]] == [20, 30]


def test_auc_of_a_straight_line_is_its_value_in_the_middle():
    curve = c.curves(ladder("a"))["a"]  # MS-SSIM 0.88 at 1/16 bpp and 0.02 more an octave
    assert c.auc(curve) == pytest.approx(0.88 + 0.02 * 3)  # 0.5 bpp, halfway from 0.125 to 2
    assert c.auc(curve, 0.1, 0.4) == pytest.approx(0.88 + 0.02 * math.log2(0.2 * 16))


def test_auc_of_two_lines_by_hand():
    rows = [
        row("a", "x", q, bpp, 1, m) for q, bpp, m in ((1, 0.125, 0.5), (2, 0.5, 0.9), (3, 4, 0.96))
    ]
    # Trapezoids: 2 octaves from 0.5 to 0.9, 2 octaves from 0.9 to 0.94.
    assert c.auc(c.curves(rows)["a"]) == pytest.approx((2 * 0.7 + 2 * 0.92) / 4)
    # Over bpp itself: 0.375 from 0.5 to 0.9, 1.5 from 0.9 to 0.9 + 1.5 / 3.5 * 0.06.
    linear = (0.375 * 0.7 + 1.5 * (0.9 + 0.75 / 3.5 * 0.06)) / 1.875
    assert c.auc(c.curves(rows)["a"], octaves=False) == pytest.approx(linear)


@pytest.mark.parametrize("rates", [(0.126, 0.5, 2), (0.125, 0.5, 1.99)])
def test_auc_needs_the_whole_range(rates):
    rows = [row("a", "x", q, rate, 1, 0.9) for q, rate in enumerate(rates)]
    assert math.isnan(c.auc(c.curves(rows)["a"]))


def test_auc_of_what_has_no_value_is_none():
    rows = [row("a", "x", q, rate, 1) for q, rate in enumerate((0.1, 1, 4))]
    assert math.isnan(c.auc(c.curves(rows)["a"]))


def test_speed_is_all_pixels_over_all_seconds():
    rows = [
        row("a", "x", 1, 1, 1, seconds=(1.0, 0.5), height=1000, width=1000),
        row("a", "y", 1, 1, 1, seconds=(3.0, 0.5), height=1000, width=3000),
    ]
    assert c.megapixels_per_second(rows) == (pytest.approx(1), pytest.approx(4))
