"""The reference's own scores, the filter it means, and what is no picture."""

import math

import numpy as np
import pytest

from cnn_compression.tensors import ssimulacra2 as module
from cnn_compression.tensors.ssimulacra2 import ssimulacra2


def flat(side, level):
    return np.full((side, side, 3), level, np.uint8)


def gradient(side):
    levels = (np.arange(side) * 255 // (side - 1)).astype(np.uint8)
    return np.tile(levels[None, :, None], (side, 1, 3))


def noise(side, seed):
    """Bytes of a linear congruential generator (Knuth's MMIX), its bits 33 to 40."""
    values = []
    for _ in range(side * side * 3):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(seed >> 33 & 255)
    return np.reshape(values, (side, side, 3)).astype(np.uint8)


# Scores that libjxl's tool `ssimulacra2` (2.1) gives. On flat pictures it feels its own rounding.
REFERENCE = [
    (gradient(64), flat(64, 128), -64.56872148, 0.005),
    (noise(64, 42), flat(64, 128), -47.33572558, 0.005),
    (flat(32, 128), flat(32, 178), 85.01409588, 0.5),
    (flat(64, 128), flat(64, 178), -8.75942256, 0.1),
    (flat(128, 128), flat(128, 178), -9.82383315, 0.1),
    (flat(256, 128), flat(256, 178), -0.39085784, 0.1),
    (flat(256, 128), flat(256, 148), 59.77892918, 0.1),
]


@pytest.mark.parametrize("a, b, score, tolerance", REFERENCE)
def test_the_reference_s_scores(a, b, score, tolerance):
    assert ssimulacra2(a, b) == pytest.approx(score, abs=tolerance)


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (101, 77), (192, 256)])
@pytest.mark.parametrize("name", ["astronaut", "camera"])
def test_identical_pictures_have_100(photos, name, size):
    image = photos[name][: size[0], : size[1]]
    assert ssimulacra2(image, image) == 100


def test_a_photograph_s_scores_stay(photos):
    image = photos["coffee"]
    scores = [ssimulacra2(image, image // step * step + step // 2) for step in (4, 16, 64)]
    assert scores == pytest.approx([94.44, 68.84, -19.09], abs=0.02)
    odd = image[:181, :133]
    assert ssimulacra2(odd, odd // 16 * 16 + 8) == pytest.approx(73.30, abs=0.02)


def test_original_and_copy_do_not_change_places():
    textured, smooth = noise(64, 42), flat(64, 128)
    assert abs(ssimulacra2(textured, smooth) - ssimulacra2(smooth, textured)) > 1


def test_turning_both_changes_nothing(photos):
    image = photos["coffee"]
    other = image // 16 * 16 + 8
    turned = ssimulacra2(image.swapaxes(0, 1), other.swapaxes(0, 1))
    assert turned == pytest.approx(ssimulacra2(image, other), abs=0.01)


def test_grey_is_equal_red_green_and_blue(photos):
    grey = photos["camera"][:, :, :1]
    other = grey // 16 * 16 + 8
    rgb = ssimulacra2(np.repeat(grey, 3, 2), np.repeat(other, 3, 2))
    assert ssimulacra2(grey, other) == rgb < 90


@pytest.mark.parametrize("size", [(7, 64), (64, 7), (1, 1)])
def test_what_is_too_small_has_none(size):
    assert math.isnan(ssimulacra2(*np.zeros((2, *size, 3), np.uint8)))


@pytest.mark.parametrize(
    "a, b, reason",
    [
        (np.zeros((16, 16, 3)), flat(16, 0), "float64"),
        (flat(16, 0), flat(17, 0), "the same shape"),
        (flat(16, 0), flat(16, 0)[..., :1], "the same shape"),
        (flat(16, 0)[..., 0], flat(16, 0)[..., 0], "1 or 3 channels"),
        (*np.zeros((2, 16, 16, 4), np.uint8), "1 or 3 channels"),
    ],
)
def test_what_is_no_pair_of_pictures(a, b, reason):
    with pytest.raises(ValueError, match=reason):
        ssimulacra2(a, b)


def test_the_taps_are_the_recursive_filter_s():
    """Charalampidis 2016: three cosines, cut off, whose sum has the Gaussian's variance."""
    sigma = 1.5
    reach = round(3.2795 * sigma + 0.2546)  # equation 57
    odd = np.array([1, 3, 5])
    omega = odd * np.pi / (2 * reach)
    n = np.arange(-reach, reach + 1)
    cosines = np.cos(omega[:, None] * n)
    sums, squares = cosines.sum(1), (n**2 * cosines).sum(1)
    taps = np.array([*module.TAPS[:0:-1], *module.TAPS])
    taps = np.pad(taps.astype(np.float64), 1)
    weights, *_ = np.linalg.lstsq(cosines.T, taps, rcond=None)
    np.testing.assert_allclose(weights @ cosines, taps, atol=1e-7)
    assert weights @ sums == pytest.approx(1, abs=1e-6)
    assert weights @ squares == pytest.approx(sigma**2, abs=1e-5)
