"""Bjontegaard deltas: how much rate, or how much quality, lies between two curves on average.

Piecewise cubic (pchip) over log rate, as in the common test conditions of HEVC and VVC
(JCTVC-L1100, JVET-T2010), by the package `bjontegaard`: G. Bjontegaard, *Calculation of average
PSNR differences between RD-curves*, VCEG-M33, 2001. The values of a curve are PSNR in dB or another
measure that grows with quality, negative ones too. Curves are compared over what they share, which
is said with the value, and never extrapolated.
"""

import importlib.util
import math
from dataclasses import dataclass

import numpy as np

NEEDS = ("bjontegaard", "scipy", "matplotlib")


@dataclass(frozen=True)
class Delta:
    """A value, and the interval that it is the mean over; NaN, all of them, for no overlap.

    For `bd_rate` the value is in percent, negative where the test saves bytes, and the interval in
    the measure's unit; for `bd_value` it is in that unit, positive where the test is better, and
    the interval in bpp.
    """

    value: float
    low: float
    high: float


NO_OVERLAP = Delta(math.nan, math.nan, math.nan)


def is_installed():
    """Whether the packages of extra `bench` are there that this needs."""
    return all(importlib.util.find_spec(name) for name in NEEDS)


def bd_rate(anchor, test, bpp_range):
    """The test's rate over the anchor's at equal values, in percent more.

    Args:
        anchor, test: (rates, values): bpp and the measure of a curve's points, in any order.
        bpp_range: (low, high): only what lies between is compared.

    Returns:
        `Delta`.
    """
    return _delta("bd_rate", 1, anchor, test, bpp_range)


def bd_value(anchor, test, bpp_range):
    """The test's value less the anchor's at equal rate, in its unit; see `bd_rate`."""
    return _delta("bd_psnr", 0, anchor, test, bpp_range)


def _delta(function, axis, anchor, test, bpp_range):
    import bjontegaard

    both = [restrict(*efficient(*curve), *bpp_range) for curve in (anchor, test)]
    if min(curve.shape[1] for curve in both) < 2:
        return NO_OVERLAP
    low = max(curve[axis].min() for curve in both)
    high = min(curve[axis].max() for curve in both)
    if low >= high:
        return NO_OVERLAP
    value = getattr(bjontegaard, function)(
        *both[0], *both[1], method="pchip", require_matching_points=False, min_overlap=0
    )
    return Delta(float(value), float(low), float(high))


def efficient(rates, values):
    """The points that nobody would pass over, sorted: no other has less rate and as good a value.

    Codecs have qualities that cost more and give less. A curve with those in it is no function of
    the value, and averaging over its folds would hide them.

    Returns:
        float array `[2, N]` of rates and values, both rising; without values that are not finite.
    """
    kept = []
    for rate, value in sorted(zip(rates, values, strict=True), key=lambda p: (p[0], -p[1])):
        if math.isfinite(value) and (not kept or value > kept[-1][1]):
            kept.append((rate, value))
    return np.array(kept, float).reshape(-1, 2).T


def restrict(rates, values, low, high):
    """What lies between two rates, with end points where the curve goes on beyond them.

    Args:
        rates, values: as `efficient` gives them.
        low, high: rates.

    Returns:
        float array `[2, N]`, of fewer than two points where the curve has no part between.
    """
    inside = (rates > low) & (rates < high)
    spanned = [rate for rate in (low, high) if rates.size and rates[0] <= rate <= rates[-1]]
    if rates.size < 2:
        return np.array([rates, values])
    from scipy.interpolate import PchipInterpolator

    ends = PchipInterpolator(np.log(rates), values)(np.log(spanned))
    new_rates = np.concatenate([rates[inside], spanned])
    order = np.argsort(new_rates)
    return np.array([new_rates, np.concatenate([values[inside], ends])])[:, order]
