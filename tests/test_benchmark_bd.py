"""Bjontegaard deltas against published values, an independent integral, and closed forms."""

import math
import warnings

import numpy as np
import pytest

from cnn_compression.benchmark import bd

pytest.importorskip("bjontegaard")
scipy_interpolate = pytest.importorskip("scipy.interpolate")

EVERYTHING = (1e-9, 1e9)

# JCTVC-E137: curves in kbit/s and dB, and the BD-rates that its spreadsheet gives, as fractions;
# the reference values of VMAF's test of its own BD-rate.
PUBLISHED = [
    (
        ([108048.8736, 61279.976, 33905.6656, 18883.6928], [43.6471, 40.3953, 37.247, 34.2911]),
        ([108061.2784, 61299.9936, 33928.7472, 18910.912], [43.6768, 40.4232, 37.2761, 34.3147]),
        -0.00465215420752807,
    ),
    (
        ([40433.8848, 7622.7456, 2394.488, 1017.6184], [37.5761, 35.3756, 33.8977, 32.0603]),
        ([40370.12, 7587.0024, 2390.0944, 1017.0984], [37.5982, 35.4025, 33.9194, 32.0822]),
        -0.018779823450567612,
    ),
]
# What the package `bjontegaard` shows in its README: x265 at two presets.
ANCHOR = ([9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851])
TEST = ([9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987])


def straight(rates, start=30.0, slope=3.0):
    """A curve that gains `slope` dB an octave from `start` at 1 bpp."""
    return np.array(rates, float), start + slope * np.log2(rates)


def by_trapezoids(x, y, low, high):
    """The mean of a pchip over an interval, summed up finely."""
    order = np.argsort(x)
    grid = np.linspace(low, high, 200_001)
    heights = scipy_interpolate.PchipInterpolator(np.array(x)[order], np.array(y)[order])(grid)
    return np.mean((heights[1:] + heights[:-1]) / 2)


@pytest.mark.parametrize("anchor, test, expected", PUBLISHED)
def test_published_values(anchor, test, expected):
    delta = bd.bd_rate(anchor, test, EVERYTHING)
    assert delta.value == pytest.approx(100 * expected, abs=1e-3)
    assert (delta.low, delta.high) == (min(test[1]), max(anchor[1]))


def test_an_independent_integral():
    rates, psnrs = np.log([ANCHOR[0], TEST[0]]), np.array([ANCHOR[1], TEST[1]])
    low, high = max(psnrs.min(1)), min(psnrs.max(1))
    anchor, test = (by_trapezoids(p, r, low, high) for p, r in zip(psnrs, rates, strict=True))
    delta = bd.bd_rate(ANCHOR, TEST, EVERYTHING)
    assert delta.value == pytest.approx(100 * (math.exp(test - anchor) - 1), abs=1e-6)
    assert delta.value == pytest.approx(-4.4175, abs=1e-3)  # cubic fit: -4.4205
    low, high = max(rates.min(1)), min(rates.max(1))
    anchor, test = (by_trapezoids(r, p, low, high) for p, r in zip(psnrs, rates, strict=True))
    gain = bd.bd_value(ANCHOR, TEST, EVERYTHING)
    assert gain.value == pytest.approx(test - anchor, abs=1e-6)
    assert (gain.low, gain.high) == (pytest.approx(1358.24), pytest.approx(9487.76))


@pytest.mark.parametrize("factor", [0.5, 0.9, 1, 1.3])
def test_a_shifted_curve_gives_its_shift(factor):
    rates = np.array([0.05, 0.11, 0.3, 0.5, 0.9, 2.2])
    psnrs = np.array([22, 25.5, 29, 31, 33.2, 37])
    delta = bd.bd_rate((rates, psnrs), (factor * rates, psnrs), EVERYTHING)
    assert delta.value == pytest.approx(100 * (factor - 1), abs=1e-9)
    assert (delta.low, delta.high) == (22, 37)
    gain = bd.bd_value((rates, psnrs), (rates, psnrs + factor), EVERYTHING)
    assert gain.value == pytest.approx(factor)


def test_units_of_rate_do_not_matter():
    scaled = [(1000 * np.array(rates), psnrs) for rates, psnrs in (ANCHOR, TEST)]
    for delta in (bd.bd_rate, bd.bd_value):
        assert delta(*scaled, EVERYTHING).value == pytest.approx(
            delta(ANCHOR, TEST, EVERYTHING).value
        )


def test_values_below_zero_count_like_others():
    lowered = [(rates, np.array(values) - 37.5) for rates, values in (ANCHOR, TEST)]
    delta, plain = bd.bd_rate(*lowered, EVERYTHING), bd.bd_rate(ANCHOR, TEST, EVERYTHING)
    assert delta.value == pytest.approx(plain.value) and delta.low < 0 < delta.high
    gain, plain = bd.bd_value(*lowered, EVERYTHING), bd.bd_value(ANCHOR, TEST, EVERYTHING)
    assert gain.value == pytest.approx(plain.value)


def test_swapping_the_two_inverts_the_ratio():
    there, back = bd.bd_rate(ANCHOR, TEST, EVERYTHING), bd.bd_rate(TEST, ANCHOR, EVERYTHING)
    assert (1 + there.value / 100) * (1 + back.value / 100) == pytest.approx(1)
    gain, loss = bd.bd_value(ANCHOR, TEST, EVERYTHING), bd.bd_value(TEST, ANCHOR, EVERYTHING)
    assert gain.value == pytest.approx(-loss.value)


def test_the_order_of_points_does_not_matter():
    turned = [tuple(values[::-1] for values in curve) for curve in (ANCHOR, TEST)]
    assert bd.bd_rate(*turned, EVERYTHING) == bd.bd_rate(ANCHOR, TEST, EVERYTHING)


def test_only_the_range_counts():
    rates = np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
    anchor, test = straight(rates), straight(rates * 0.7)
    test = (test[0], np.where((test[0] > 0.09) & (test[0] < 1.1), anchor[1], test[1] + 5))
    changed_outside = (rates * 0.7, straight(rates)[1])
    delta = bd.bd_rate(anchor, changed_outside, (0.1, 1.0))
    # Within 0.1..1 bpp the anchor spans 20.0 to 30 dB, the test the same rates of its own.
    assert delta.value == pytest.approx(-30, abs=1e-6)
    assert (delta.low, delta.high) == (
        pytest.approx(30 + 3 * math.log2(0.1 / 0.7)), pytest.approx(30.0)
    )  # fmt: skip
    gain = bd.bd_value(anchor, changed_outside, (0.1, 1.0))
    assert gain.value == pytest.approx(-3 * math.log2(0.7))
    assert (gain.low, gain.high) == (pytest.approx(0.1), pytest.approx(1.0))


def test_a_partial_overlap_says_what_was_compared():
    delta = bd.bd_rate(straight([0.1, 0.2, 0.5]), straight([0.3, 0.6, 0.9], 31), (0.1, 1.0))
    assert delta.low == pytest.approx(31 + 3 * math.log2(0.3))
    assert delta.high == pytest.approx(30 + 3 * math.log2(0.5))
    assert delta.value == pytest.approx(100 * (2 ** (-1 / 3) - 1))
    gain = bd.bd_value(straight([0.1, 0.2, 0.5]), straight([0.3, 0.6, 0.9], 31), (0.1, 1.0))
    assert (gain.value, gain.low, gain.high) == tuple(map(pytest.approx, (1, 0.3, 0.5)))


@pytest.mark.parametrize(
    "function, anchor, test",
    [
        (bd.bd_rate, straight([0.1, 0.2, 0.4]), straight([0.1, 0.2, 0.4], 50)),
        (bd.bd_value, straight([0.1, 0.2]), straight([0.3, 0.6])),
        (bd.bd_rate, straight([0.1, 0.2, 0.4]), straight([0.2])),
        (bd.bd_rate, straight([0.1, 0.2, 0.4]), straight([2.0, 4.0, 8.0])),
        (bd.bd_value, straight([0.01, 0.02]), straight([0.01, 0.02])),
    ],
)
def test_no_overlap_is_said_not_extrapolated(function, anchor, test):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        delta = function(anchor, test, (0.1, 1.0))
    assert all(map(math.isnan, (delta.value, delta.low, delta.high)))


def test_points_that_cost_more_and_give_less_are_left_out():
    rates = [0.1, 0.2, 0.3, 0.4, 0.4, 0.8, 0.9]
    values = [20, 25, 24, 26, 25, math.inf, math.nan]
    kept = bd.efficient(rates, values)
    np.testing.assert_array_equal(kept, [[0.1, 0.2, 0.4], [20, 25, 26]])
    plain = straight([0.1, 0.2, 0.4, 0.8])
    folded = tuple(np.append(part, extra) for part, extra in zip(plain, (0.5, 20), strict=True))
    assert bd.bd_rate(plain, folded, EVERYTHING).value == pytest.approx(0, abs=1e-9)


def test_restricting_keeps_the_curve_and_adds_its_ends():
    rates, values = straight([0.05, 0.2, 0.5, 2.0])
    inside = bd.restrict(rates, values, 0.1, 1.0)
    np.testing.assert_allclose(inside, straight([0.1, 0.2, 0.5, 1.0]))
    np.testing.assert_allclose(bd.restrict(rates, values, 0.01, 0.5), straight([0.05, 0.2, 0.5]))
    assert bd.restrict(rates, values, 3, 4).shape == (2, 0)
