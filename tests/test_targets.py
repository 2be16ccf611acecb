"""Payloads of a given size or PSNR, against all qualities tried one by one."""

import numpy as np
import pytest
import tensorflow as tf
from small_pairs import pair

from cnn_compression.codec import Codec
from cnn_compression.models.multi_scale import MultiScale
from cnn_compression.payload import layout
from cnn_compression.tensors import metrics

# With a gap between the pairs, in bytes and in PSNR, that the finer one's coarser JPEGs fill.
GAP = [[1, 60, 5, 30], [61, 100, 70, 95]]


@pytest.fixture(scope="module")
def both():
    return Codec(MultiScale([pair(2), pair(1, chroma="4:4:4")], GAP))


@pytest.mark.parametrize("target", [{"target_bytes": 12_000}, {"target_bpp": 2.0}])
def test_a_size_is_met_by_the_highest_quality_that_fits(both, photos, target):
    image = photos["coffee"]
    limit = target.get("target_bytes", 2.0 * image[..., 0].size / 8)
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


@pytest.fixture(scope="module")
def gap(both, photos):
    """Payloads on both sides of the finer pair's beginning, and all of that pair's below it."""
    image, codec = photos["coffee"], both
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
    header = layout.read_header(payload.numpy())
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
    header = layout.read_header(payload.numpy())
    assert (header.scale, header.quality, int(quality)) == (1, least, 61)


def test_a_gap_is_left_open_where_the_finer_pair_is_worse(both, photos):
    image = photos["coffee"]
    bias = both.model.pairs[1].rec.tail.bias
    before = bias.numpy()
    bias.assign(np.full(bias.shape, 0.3, np.float32))
    below, above = (both.encode(image, quality) for quality in (60, 61))
    payload = both.encode_to(image, target_bytes=(len(below) + len(above)) // 2)
    bias.assign(before)
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
    payload, quality = both.size_encoder()(image, 12_000)
    assert payload.numpy() == both.encode(image, int(quality))
    nothing, none = both.size_encoder()(image, 100)
    assert (nothing.numpy(), int(none)) == (b"", 0)
