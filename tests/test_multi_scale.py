"""Pairs of several scales behind one quality: tables, payloads of each scale, batches of both."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_compression import container, metrics
from cnn_compression.codec import Codec, fingerprint
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.models.multi_scale import MultiScale, as_multi_scale
from cnn_compression.ops import texture_squares

RANGES = [[1, 60, 5, 90], [61, 100, 30, 95]]
OVERLAPPING = [[1, 60, 5, 90], [41, 100, 20, 95]]
LIMITS = [[400, 25]]


def pair(scale, channels=3, chroma="4:2:0"):
    model = ComRec(
        FastComCNN(channels, scale, filters=8, blocks=1),
        FastRecCNN(channels, scale, filters=8, blocks=0, inner_blocks=1),
        chroma,
    )
    model.com.tail.bias.assign(np.full(model.com.tail.bias.shape, 0.33 / 255, np.float32))
    return model


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
    headers = [container.read_header(payload) for payload in codec.encode(images, 50)]
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
    header = container.read_header(payload)
    assert (header.scale, header.quality) == (scale, jpeg_quality)
    sides = tuple(-(-side // scale) for side in image.shape[:2])
    assert container.preview_size(payload) == sides
    assert metrics.psnr(image, both.decode(payload)) > 20


def test_a_batch_mixes_scales(both, photos):
    images = np.stack([photos["coffee"], photos["rocket"], photos["astronaut"], photos["coffee"]])
    qualities = [80, 20, 100, 60]
    payloads = both.encode(images, qualities)
    assert [container.read_header(payload).scale for payload in payloads] == [1, 2, 1, 2]
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


@pytest.mark.parametrize("target", [{"target_bytes": 6000}, {"target_bpp": 1.0}])
def test_a_size_is_met_by_the_highest_quality_that_fits(both, photos, target):
    image = photos["coffee"]
    limit = target.get("target_bytes", 1.0 * image[..., 0].size / 8)
    sizes = {quality: len(both.encode(image, quality)) for quality in range(1, 101)}
    payload = both.encode_to(image, **target)
    best = max(quality for quality, size in sizes.items() if size <= limit)
    assert len(payload) == sizes[best] <= limit
    tensor = both.encode_to(tf.constant(image), **target)
    assert tensor.numpy() == payload


def test_a_psnr_is_met_by_the_lowest_quality_that_reaches_it(both, photos):
    image = photos["coffee"]
    values = {q: float(metrics.psnr(image, both.decode(both.encode(image, q)))) for q in (20, 80)}
    target = (values[20] + values[80]) / 2
    payload = both.encode_to(image, target_psnr=target)
    assert metrics.psnr(image, both.decode(payload)) >= target
    assert len(payload) < len(both.encode(image, 80))


GAP = [[1, 60, 5, 30], [61, 100, 70, 95]]


@pytest.fixture(scope="module")
def gap(photos):
    """Payloads on both sides of the finer pair's beginning, and all of that pair's below it."""
    image, codec = photos["coffee"], Codec(MultiScale([pair(2), pair(1)], GAP))
    alone = Codec(codec.model.pairs[1])
    finer = {quality: alone.encode(image, quality) for quality in range(1, 70)}
    reached = {q: float(metrics.psnr(image, alone.decode(finer[q]))) for q in finer}
    return codec, image, {q: len(payload) for q, payload in finer.items()}, reached


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_bytes_that_a_gap_leaves_go_to_the_finer_pair(gap, share):
    codec, image, sizes, reached = gap
    below, above = (codec.encode(image, quality) for quality in (60, 61))
    limit = int((1 - share) * len(below) + share * len(above))
    best = max(quality for quality, size in sizes.items() if size <= limit)
    assert sizes[best] > len(below)
    assert reached[best] > metrics.psnr(image, codec.decode(below))
    payload, quality = codec.size_encoder()(image, limit)
    header = container.read_header(payload.numpy())
    assert (header.scale, header.quality, int(quality)) == (1, best, 60)
    assert len(payload.numpy()) == sizes[best]


def test_a_psnr_in_a_gap_is_reached_by_the_finer_pair_s_coarser_jpeg(gap):
    codec, image, _, reached = gap
    below, above = (
        float(metrics.psnr(image, codec.decode(codec.encode(image, quality))))
        for quality in (60, 61)
    )
    target = (below + above) / 2
    least = min(quality for quality, value in reached.items() if value >= target)
    payload, quality = codec.psnr_encoder()(image, target)
    header = container.read_header(payload.numpy())
    assert (header.scale, header.quality, int(quality)) == (1, least, 61)


def test_a_gap_is_left_open_where_the_finer_pair_is_worse(photos):
    image = photos["coffee"]
    worse = Codec(MultiScale([pair(2), pair(1)], GAP))
    bias = worse.model.pairs[1].rec.tail.bias
    bias.assign(np.full(bias.shape, 0.3, np.float32))
    below, above = (worse.encode(image, quality) for quality in (60, 61))
    payload = worse.encode_to(image, target_bytes=(len(below) + len(above)) // 2)
    assert payload == below


@pytest.mark.parametrize(
    "target, message",
    [
        ({"target_bytes": 100}, r"even quality 1 takes \d+ bytes. Target: 100 bytes"),
        ({"target_bpp": 0.001}, r"takes \d+ bytes, 0\.\d+ bpp. Target: 0.001 bpp"),
        ({"target_psnr": 70.0}, r"even quality 100 reaches \d+\.\d+ dB only. Target: 70 dB"),
        ({}, "expected one target above 0. Received: none"),
        ({"target_bytes": 0}, "expected one target above 0"),
        ({"target_bpp": 0.2, "target_psnr": 30.0}, "expected one target above 0"),
    ],
)
def test_targets_out_of_reach_say_what_can_be_had(both, photos, target, message):
    with pytest.raises(ValueError, match=message):
        both.encode_to(photos["coffee"], **target)


def test_the_target_s_search_works_in_a_graph(both, photos):
    image = photos["coffee"]
    payload, quality = both.size_encoder()(image, 5000)
    assert payload.numpy() == both.encode(image, int(quality))
    nothing, none = both.size_encoder()(image, 100)
    assert (nothing.numpy(), int(none)) == (b"", 0)
