"""Tiles change neither what is written nor, beyond rounding, what is restored."""

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf

from cnn_compression.codec.pair import PairCodec
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.tensors.levels import to_unit

QUALITY = tf.constant(40)
PAIRS = [("fast", 3, 1), ("fast", 3, 2), ("fast", 3, 4), ("fast", 1, 2)]
PAIRS += [pytest.param(("paper", 1, 2), marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: "-".join(map(str, pair)))
def pair(request):
    """Of a preset, with weights that let everything count as far as the network reaches."""
    preset, channels, scale = request.param
    keras.utils.set_random_seed(1)
    pair = ComRec.from_preset(preset, channels, scale)
    for variable in pair.trainable_variables:
        if len(variable.shape) > 1:
            fan_in = np.prod(variable.shape[:-1])
            noise = np.random.default_rng(2).standard_normal(variable.shape)
            variable.assign(np.float32(noise * (1.5 / fan_in) ** 0.5))
    return pair


def photograph(channels):
    image = np.tile(skimage.data.astronaut(), (1, 2, 1))[:301, :560]
    return image if channels == 3 else image[..., 1:2]


def test_tiles_change_nothing(pair):
    image = photograph(pair.channels)
    tiled, whole = PairCodec(pair, tile=256), PairCodec(pair, tile=2048)
    file = tf.function(tiled.encode)(image, QUALITY)
    assert file == tf.function(whole.encode)(image, QUALITY)
    compact_hat = coding.decode(file)
    restored = [
        tf.function(codec.restore)(compact_hat, QUALITY, *image.shape[:2]).numpy().astype(int)
        for codec in (tiled, whole)
    ]
    difference = np.abs(restored[0] - restored[1])
    assert restored[0].shape == image.shape
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-4


@pytest.mark.parametrize("network", ["com", "rec"])
def test_reach_is_as_far_as_a_pixel_counts(pair, network):
    """And not much further: a tile's overlap costs time."""
    scale = pair.scale
    # The middle of the picture is a corner of the blocks of 8 x 8 compact pixels.
    side = 2 * 16 * scale * (-(-pair.reach // (16 * scale)) + 1)
    random = np.random.default_rng(3)
    x = random.random((1, side, side, pair.channels), np.float32)
    if network == "rec":
        x = x[:, : side // scale, : side // scale]

    def run(x):
        if network == "com":
            return pair.compact(x, QUALITY[None])
        return pair.restore(x, QUALITY[None], side, side)

    other = x.copy()
    other[:, :, : x.shape[2] // 2] = random.random(other[:, :, : x.shape[2] // 2].shape)
    changed = np.abs(np.array(run(x)) - np.array(run(other))).max(axis=(0, 1, 3))
    per_column = scale if network == "com" else 1
    seen = np.flatnonzero(changed > 1e-7).max() + 1 - changed.size // 2
    assert 0 < per_column * seen <= pair.reach
    own = getattr(pair, network).reach
    assert own - 8 * scale <= per_column * seen


def test_a_grey_picture_is_coded_as_three_equal_channels_and_stays_grey():
    codec = PairCodec(ComRec.from_preset("fast", 3, 2))
    image = photograph(1)[:90, :101]
    file = codec.encode(tf.constant(image), QUALITY)
    compact_hat = coding.decode(file)
    assert compact_hat.shape == (45, 51, 1)
    restored = codec.restore(compact_hat, QUALITY, *image.shape[:2])
    x = to_unit(np.repeat(compact_hat, 3, axis=-1)[None])
    expected = 255 * codec.pair.restore(x, QUALITY[None], *image.shape[:2])
    luma = np.array(expected)[0] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(restored.numpy()[..., 0], np.clip(luma, 0, 255), atol=0.51)


def test_what_would_be_too_large_to_read_again_is_refused_before_the_networks(monkeypatch):
    monkeypatch.setattr(coding, "MAX_SAMPLES", 32 * 32 * 3 - 1)
    tiles = []
    codec = PairCodec(ComRec.from_preset("fast", 3, 2), report=lambda *tile: tiles.append(tile))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 3071 samples"):
        codec.encode(tf.zeros([63, 64, 3], tf.uint8), QUALITY)
    assert not tiles
    assert codec.encode(tf.zeros([62, 64, 3], tf.uint8), QUALITY)


def test_tiles_are_reported():
    reports = []

    def report(done, count):
        reports.append((int(done), int(count)))

    codec = PairCodec(ComRec.from_preset("fast", 3, 2), 256, report)
    image = tf.zeros([300, 513, 3], tf.uint8)
    codec.encode(image, QUALITY)
    assert reports == [(number, 6) for number in range(1, 7)]
