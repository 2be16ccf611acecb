"""SSIMULACRA 2.1: how people would judge what a codec did to a picture, without the people.

J. Sneyers, Cloudinary, 2022 and 2023, as the tool `ssimulacra2` of libjxl computes it; its weights
were fitted to human judgements (CID22, TID2013, KADID-10k, KonFiG-IQA). In NumPy, on all cores.
"""

import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SCALES = 6
# A scale is halved while its sides have as many pixels; a smaller picture has no score.
SMALLEST = 8
C2 = np.float32(0.0009)

# Of each level of sRGB (IEC 61966-2-1), its light.
_UNIT = np.arange(256) / 255
LINEAR = np.where(_UNIT <= 0.04045, _UNIT / 12.92, ((_UNIT + 0.055) / 1.055) ** 2.4)
LINEAR = LINEAR.astype(np.float32)
# JPEG XL's XYB (ISO/IEC 18181-1): light as the three kinds of cones take it in, and its bias.
CONES = np.array(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.55180986650955360],
    ],
    np.float32,
)
BIAS = np.float32(0.0037930732552754493)
# The middle tap and those on either side of it: what the reference's recursive Gaussian of sigma
# 1.5 comes to (Charalampidis, *Recursive implementation of the Gaussian filter using truncated
# cosine functions*, IEEE TSP 64(14), 2016). Outside the picture is 0.
TAPS = np.float32([0.2646211055, 0.2129285920, 0.1093353728, 0.0360111147, 0.0094143678])
# For each of X, Y and B, for each scale: a line for the mean of each error (see `_errors`), and one
# for the fourth root of the mean of its fourth power.
# fmt: off
WEIGHTS = np.array([
    0, 0.0007376606707406586, 0,
    0, 0.0007793481682867309, 0,
    0, 0.0004371155730107379, 0,
    1.1041726426657346, 0.00066284834129271, 0.00015231632783718752,
    0, 0.0016406437456599754, 0,
    1.8422455520539298, 11.441172603757666, 0,
    0.0007989109436015163, 0.000176816438078653, 0,
    1.8787594979546387, 10.94906990605142, 0,
    0.0007289346991508072, 0.9677937080626833, 0,
    0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053,
    0.0004550992113792063, 0, 0,
    0.0013648766163243398, 0, 0,
    0, 0, 0,
    7.466890328078848, 0, 17.445833984131262,
    0.0006235601634041466, 0, 0,
    6.683678146179332, 0.00037724407979611296, 1.027889937768264,
    225.20515300849274, 0, 0,
    19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
    176.39317598450694, 0, 0,
    24.43300999870476, 0.28520802612117757, 0.0004485436923833408,
    0, 0, 0,
    34.77906344483772, 44.835625328877896, 0,
    0, 0, 0,
    0, 0, 0,
    0, 0.0008680556573291698, 0,
    0, 0, 0,
    0, 0.0005313191874358747, 0,
    0.00016533814161379112, 0, 0,
    0, 0, 0,
    0.0004179171803251336, 0.0017290828234722833, 0,
    0.0020827005846636437, 0, 0,
    8.826982764996862, 23.19243343998926, 0,
    95.1080498811086, 0.9863978034400682, 0.9834382792465353,
    0.0012286405048278493, 171.2667255897307, 0.9807858872435379,
    0, 0, 0,
    0.0005130064588990679, 0, 0.00010854057858411537,
])
# fmt: on


def ssimulacra2(a, b):
    """The score of a picture beside its original.

    A grey picture counts as one whose red, green and blue are equal. Original and copy do not
    change places: an edge that was not there weighs other than one that was lost.

    Args:
        a: the original, uint8 `[H, W, 1]` or `[H, W, 3]`, sRGB.
        b: uint8 of the same shape.

    Returns:
        float, 100 where they are identical: 90 cannot be told apart side by side, 70 is high
        quality, 50 medium, 30 low, and below 0 there is no end; NaN where H or W is under 8.

    Raises:
        ValueError: they are not uint8, their shapes differ, or are no picture's.
    """
    a, b = np.asarray(a), np.asarray(b)
    for image in (a, b):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise ValueError(
                "Expected a uint8 image [H, W, C] of 1 or 3 channels. "
                f"Received: {image.dtype}, shape {image.shape}"
            )
    if a.shape != b.shape:
        raise ValueError(f"Expected images of the same shape. Received: {a.shape} and {b.shape}")
    if min(a.shape[:2]) < SMALLEST:
        return math.nan
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = list(pool.map(_errors, *pool.map(_planes, (a, b))))
    # [scale, channel, norm, error] -> the order of the weights. With fewer scales than six the
    # weights of later ones move up, as the reference has it.
    errors = np.reshape(errors, (-1, 3, 2, 3)).swapaxes(0, 1).ravel()
    return _score(float(WEIGHTS.ravel()[: errors.size] @ errors))


def _score(error):
    error *= 0.9562382616834844
    bent = 2.326765642916932 * error
    bent += -0.020884521182843837 * error**2 + 6.248496625763138e-05 * error**3
    return 100 - 10 * max(bent, 0) ** 0.6276336467831387


def _planes(image):
    """X, Y and B of each scale in turn: list of float32 `[h, w]`."""
    linear = LINEAR[np.broadcast_to(image, (*image.shape[:2], 3)).transpose(2, 0, 1)]
    planes = [*_xyb(linear)]
    while len(planes) < 3 * SCALES and min(linear.shape[1:]) >= SMALLEST:
        linear = _halved(linear)
        planes += _xyb(linear)
    return planes


def _xyb(linear):
    """Light `[3, h, w]` to X, Y and B - Y, all more or less within 0..1."""
    cones = np.tensordot(CONES, linear, 1) + BIAS
    long, middle, short = np.cbrt(cones, out=cones) - np.cbrt(BIAS)
    x, y = (long - middle) / 2, (long + middle) / 2
    return 14 * x + np.float32(0.42), y + np.float32(0.01), short - y + np.float32(0.55)


def _halved(linear):
    """Means over 2x2 pixels, at odd ends over those that are there."""
    odd = [(0, side % 2) for side in linear.shape]
    linear = np.pad(linear, [(0, 0), *odd[1:]], "edge")
    return sum(linear[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def _errors(x, y):
    """What a plane lost: float64 `[2, 3]`, two norms of three maps.

    The maps are of SSIM without luminance's denominator (the planes are gamma-compressed), of edges
    that were not there (ringing, blocks), and of edges that are no longer (blur).
    """
    mean_x, mean_y = _blurred(x), _blurred(y)
    covariance = _blurred(x * y) - mean_x * mean_y
    variances = _blurred(x * x + y * y) - (mean_x * mean_x + mean_y * mean_y)
    luminance = 1 - np.square(mean_x - mean_y)
    structure = 1 - luminance * (2 * covariance + C2) / (variances + C2)
    edges = (1 + np.abs(y - mean_y)) / (1 + np.abs(x - mean_x)) - 1
    return np.transpose([_norms(error) for error in (structure, edges, -edges)])


def _norms(error):
    error = np.maximum(error, 0)
    fourth = np.square(np.square(error))
    return error.mean(dtype=np.float64), fourth.mean(dtype=np.float64) ** 0.25


def _blurred(plane):
    for axis in (0, 1):
        reach, length = len(TAPS) - 1, plane.shape[axis]
        padded = np.pad(plane, [(reach, reach) if axis == side else (0, 0) for side in (0, 1)])
        lines, plane = padded.swapaxes(0, axis), TAPS[0] * plane
        for step, tap in itertools.islice(enumerate(TAPS), 1, None):
            before, after = (lines[at : at + length] for at in (reach - step, reach + step))
            plane += (tap * (before + after)).swapaxes(0, axis)
    return plane
