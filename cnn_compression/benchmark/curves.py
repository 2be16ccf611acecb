"""Rows -> rate-distortion curves, and what a table takes from them.

A curve is a dict of quality to dict of `MEASURES` to a value. Rates are bits a pixel, their axis is
logarithmic, and between its points a curve is a straight line. Nothing is extrapolated: what a
curve does not span is NaN.
"""

import math
from collections import defaultdict

import numpy as np

from cnn_compression.benchmark.rows import MEASURES


def curves(rows):
    """Means over the images at each quality.

    Returns:
        dict of codec name to curve; a mean is over the images that have a value, NaN where none
        has one.
    """
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.codec][row.quality].append(row)
    return {
        codec: {
            quality: {name: _mean([getattr(row, name) for row in same]) for name in MEASURES}
            for quality, same in sorted(qualities.items())
        }
        for codec, qualities in groups.items()
    }


def image_curves(rows):
    """Each image's own curves.

    Returns:
        dict of codec name to list of curves, one an image, in one order for all codecs.
    """
    images = defaultdict(list)
    for row in rows:
        images[row.image, row.pixels].append(row)
    found = defaultdict(list)
    for same in images.values():
        for codec, curve in curves(same).items():
            found[codec].append(curve)
    return dict(found)


def _mean(values):
    return math.nan if np.isnan(values).all() else float(np.nanmean(values))


def points(curve, measure="psnr"):
    """A curve as two arrays, rates and values of a measure, sorted by rate."""
    return np.array(sorted((point["bpp"], point[measure]) for point in curve.values())).T


def at_bpp(curve, rate, measure="psnr"):
    """A curve's measure at a rate, bits a pixel: float, NaN where the rate lies outside."""
    rates, values = points(curve, measure)
    return float(np.interp(np.log(rate), np.log(rates), values, left=np.nan, right=np.nan))


def auc(curve, low=0.125, high=2.0, measure="ms_ssim", octaves=True):
    """Area under the curve: the mean of a measure over log2 bpp between two rates.

    Args:
        curve: see the module.
        low, high: bits a pixel.
        measure: one of `MEASURES`.
        octaves: False for the mean over bpp itself, as in 1608.05148, and for lines that are
            straight there.

    Returns:
        float; NaN where the curve does not span both rates.
    """
    rates, values = points(curve, measure)
    if rates[0] > low or rates[-1] < high:
        return math.nan
    places, (start, end) = map(np.log2, (rates, [low, high])) if octaves else (rates, (low, high))
    knots = np.concatenate([[start], places[(places > start) & (places < end)], [end]])
    heights = np.interp(knots, places, values)
    area = np.sum(np.diff(knots) * (heights[1:] + heights[:-1]) / 2)
    return float(area / (end - start))


def mean_of_images(curves, value):
    """The mean of `value(curve)` over images' curves; NaN where any image has none."""
    return float(np.mean([value(curve) for curve in curves]))


def megapixels_per_second(rows):
    """Pixels over seconds, all rows together: (encoding, decoding)."""
    pixels = sum(row.height * row.width for row in rows) / 1e6
    seconds = (sum(row.encode_seconds for row in rows), sum(row.decode_seconds for row in rows))
    return tuple(pixels / total if total else math.nan for total in seconds)
