"""Pairs of several scales behind one quality: tables, payloads of each scale, batches of both."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pairs import RANGES, pair

from cnn_compression.codec import Codec, fingerprint
from cnn_compression.models.multi_scale import MultiScale, as_multi_scale
from cnn_compression.payload import layout
from cnn_compression.tensors import metrics
from cnn_compression.tensors.texture import texture_squares

OVERLAPPING = [[1, 60, 5, 90], [41, 100, 20, 95]]
LIMITS = [[400, 25]]


@pytest.fixture(scope="module")
def both():
    return Codec(MultiScale([pair(2), pair(1, chroma="4:4:4")], RANGES))


def table_factor(quality):
    """What libjpeg multiplies its tables by."""
    return 50 / quality if quality < 50 else 2 - quality / 50


def test_steps_fall_geometrically_inside_a_range():
    model = MultiScale([pair(2), pair(1)], RANGES)
    assert model.jpeg_quality.shape == (2, 100)
    half, full = model.jpeg_quality.tolist()
    assert (half[0], half[59], set(half[60:])) == (5, 90, {90})
    assert (set(full[:60]), full[60], full[99]) == ({30}, 30, 95)
    for first, last, values in ((1, 60, half), (61, 100, full)):
        inside = values[first - 1 : last]
        assert inside == sorted(inside)
        low, high = (np.log(table_factor(values[end - 1])) for end in (first, last))
        for quality, value in enumerate(inside, first):
            wanted = low + (high - low) * (quality - first) / (last - first)
            nearest = min(
                range(1, 100),
                key=lambda q: (
                    abs(50 / q - np.exp(wanted))
                    if np.exp(wanted) > 1
                    else abs(2 - q / 50 - np.exp(wanted))
                ),
            )
            assert abs(value - nearest) <= 1
    assert (model.scales, model.channels) == ([2, 1], 3)


def test_the_highest_jpeg_quality_is_reached():
    model = MultiScale([pair(1)], [[1, 100, 1, 100]])
    assert model.jpeg_quality[0, [0, 99]].tolist() == [1, 100]


def route(model, images, quality):
    """Pairs and JPEG's qualities of images, float `[N, H, W, C]`, as arrays."""
    squares = texture_squares(images.astype(np.float32))
    return [np.array(numbers) for numbers in model.route(squares, quality)]


def test_without_overlap_quality_alone_chooses():
    model = MultiScale([pair(2), pair(1)], RANGES)
    assert model.limits.tolist() == [[np.inf] * 60 + [0.0] * 40]
    images = np.stack([np.zeros((6, 8, 3)), np.random.default_rng(1).random((6, 8, 3))])
    for quality, expected in ((60, 0), (61, 1)):
        pairs, jpeg_quality = route(model, images, np.full(2, quality, np.int32))
        assert pairs.tolist() == [expected] * 2
        assert set(jpeg_quality) == {model.jpeg_quality[expected, quality - 1]}


def checkers(amplitude, height=16, width=32):
    """Grey with a pattern that vanishes at half size: 255 x its texture is amplitude ** 2."""
    signs = (-1.0) ** np.add.outer(np.arange(height), np.arange(width))
    return np.repeat(128 + amplitude * signs[..., None], 3, axis=-1) / 255


def test_where_ranges_overlap_texture_chooses():
    model = MultiScale([pair(2), pair(1)], OVERLAPPING, LIMITS)
    limits = model.limits[0]
    assert np.isinf(limits[:40]).all() and not limits[60:].any()
    np.testing.assert_allclose(limits[40:60], np.geomspace(400, 25, 20), rtol=1e-6)
    qualities = np.arange(1, 101, dtype=np.int32)
    for amplitude, first in ((25, 41), (10, None), (4, 61), (0, 61)):
        images = np.repeat(checkers(amplitude)[None], 100, axis=0)
        pairs, jpeg_quality = route(model, images, qualities)
        first = first or 41 + int(np.argmax(limits[40:60] <= amplitude**2))
        assert pairs.tolist() == [0] * (first - 1) + [1] * (101 - first)
        np.testing.assert_array_equal(jpeg_quality, model.jpeg_quality[pairs, qualities - 1])


def test_contrast_keeps_a_picture_of_equal_detail_at_the_small_scale():
    model = MultiScale([pair(2), pair(1)], OVERLAPPING, LIMITS)
    stripes = 40 / 255 * (-1.0) ** (np.arange(32) // 8)[None, :, None]
    images = np.stack([checkers(12), checkers(12) + stripes])
    assert route(model, images, np.int32([50, 50]))[0].tolist() == [1, 0]


def test_a_batch_is_routed_picture_by_picture():
    codec = Codec(MultiScale([pair(2), pair(1)], OVERLAPPING, LIMITS))
    images = np.stack([checkers(amplitude, 32, 48) for amplitude in (30, 1, 12)])
    images = np.round(255 * images).astype(np.uint8)
    headers = [layout.read_header(payload) for payload in codec.encode(images, 50)]
    assert [header.scale for header in headers] == [1, 2, 1]
    half, full = codec.model.jpeg_quality[:, 49]
    assert [header.quality for header in headers] == [full, half, full]


def test_a_single_pair_keeps_the_jpegs_own_quality():
    model = as_multi_scale(pair(2))
    assert model.jpeg_quality.tolist() == [list(range(1, 101))]
    assert model.limits.shape == (0, 100)
    assert as_multi_scale(model) is model
    assert fingerprint(model) == fingerprint(model.pairs[0])


@pytest.mark.parametrize(
    "scales, ranges, message",
    [
        ([1, 2], RANGES, r"falling order. Received: \[1, 2\]"),
        ([2, 2], RANGES, r"falling order. Received: \[2, 2\]"),
        ([2, 1], None, "expected 2 ranges. Received"),
        ([2, 1], RANGES[:1], "expected 2 ranges. Received"),
        ([2, 1], [[1, 60, 5, 90], [62, 100, 30, 95]], "cover 1..100"),
        ([2, 1], [[1, 60, 5, 90], [61, 99, 30, 95]], "cover 1..100"),
        ([2, 1], [[2, 60, 5, 90], [61, 100, 30, 95]], "cover 1..100"),
        ([2, 1], [[1, 60, 5, 90], [1, 100, 30, 95]], "cover 1..100"),
        ([2, 1], [[1, 100, 5, 90], [61, 100, 30, 95]], "cover 1..100"),
        ([2, 1], [[1, 60, 90, 5], [61, 100, 30, 95]], "cover 1..100"),
        ([2, 1], [[1, 60, 5, 90], [61, 100, 30, 101]], "cover 1..100"),
    ],
)
def test_what_does_not_go_together_is_refused(scales, ranges, message):
    with pytest.raises(ValueError, match=message):
        MultiScale([pair(scale) for scale in scales], ranges)


@pytest.mark.parametrize(
    "ranges, handovers",
    [
        (OVERLAPPING, None),
        (OVERLAPPING, [[25, 400]]),
        (OVERLAPPING, [[400, 0]]),
        (OVERLAPPING, [[400, 25], [400, 25]]),
        (OVERLAPPING, [[400]]),
        (RANGES, LIMITS),
    ],
)
def test_limits_are_asked_for_where_ranges_overlap(ranges, handovers):
    needed = int(ranges is OVERLAPPING)
    with pytest.raises(ValueError, match=f"expected {needed} falling limits of texture"):
        MultiScale([pair(2), pair(1)], ranges, handovers)


def test_pairs_share_channels():
    with pytest.raises(ValueError, match=r"one number of channels. Received: \[3, 1\]"):
        MultiScale([pair(2, 3), pair(1, 1)], RANGES)


def test_limits_are_saved(tmp_path):
    MultiScale([pair(2), pair(1)], OVERLAPPING, LIMITS).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert (loaded.ranges, loaded.handovers) == (OVERLAPPING, LIMITS)


def test_it_is_saved_and_loaded_whole(both, tmp_path):
    both.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert loaded.ranges == RANGES
    assert [p.chroma for p in loaded.pairs] == ["4:2:0", "4:4:4"]
    assert fingerprint(loaded) == both.fingerprint
    for value, other in zip(loaded.get_weights(), both.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("name", ["coffee", "camera"])
@pytest.mark.parametrize("quality, scale, jpeg_quality", [(1, 2, 5), (60, 2, 90), (61, 1, 30)])
def test_the_quality_chooses_the_scale(both, photos, name, quality, scale, jpeg_quality):
    image = photos[name]
    payload = both.encode(image, quality)
    header = layout.read_header(payload)
    assert (header.scale, header.quality) == (scale, jpeg_quality)
    sides = tuple(-(-side // scale) for side in image.shape[:2])
    assert layout.preview_size(payload) == sides
    assert metrics.psnr(image, both.decode(payload)) > 20


def test_a_batch_mixes_scales(both, photos):
    images = np.stack([photos["coffee"], photos["rocket"], photos["astronaut"], photos["coffee"]])
    qualities = [80, 20, 100, 60]
    payloads = both.encode(images, qualities)
    assert [layout.read_header(payload).scale for payload in payloads] == [1, 2, 1, 2]
    restored = both.decode(payloads)
    for image, quality, payload, image_hat in zip(
        images, qualities, payloads, restored, strict=True
    ):
        alone = both.decode(both.encode(image, quality))
        # Sums differ by rounding between batch sizes: pixels may differ by single levels.
        assert metrics.psnr(alone, both.decode(payload)) > 45
        np.testing.assert_array_equal(image_hat, both.decode(payload))


def test_each_pair_alone_reads_only_its_own_scale(both, photos):
    payload = both.encode(photos["coffee"], 80)
    half = Codec(both.model.pairs[0])
    half.fingerprint = both.fingerprint
    with pytest.raises(ValueError, match="its scale is none of 2"):
        half.decode(payload)


def test_quality_out_of_range_in_a_graph(both, photos):
    encode = tf.function(lambda image, quality: both.encode(image, quality))
    with pytest.raises(tf.errors.InvalidArgumentError, match="quality must be in 1..100"):
        encode(tf.constant(photos["coffee"]), tf.constant(101))
