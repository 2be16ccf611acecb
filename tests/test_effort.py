"""Effort: the cost that refinement lowers, what it leaves alone, files that stay as they are."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.codec.effort import EFFORT_STEPS, refine
from cnn_compression.codec.pair import PairCodec
from cnn_compression.jpeg.twin import jpeg_twin
from cnn_compression.payload import layout
from cnn_compression.tensors.distortion import eyes


def cost(pair, image, compact, quality):
    """Distortion + lambda x rate, by its definition: float `[N]`."""
    compact_hat, bits = jpeg_twin(compact, quality, np.zeros(len(image), bool), pair.chroma)
    image_hat = pair.restore(compact_hat, quality, *image.shape[1:3])
    if pair.distortion_name == "mse":
        error = np.mean((255 * (image_hat - image)) ** 2, axis=(1, 2, 3))
    else:
        error = eyes(image, image_hat)
    bpp = bits / (image.shape[1] * image.shape[2])
    return error + pair.rate_slope(quality) * bpp


@pytest.mark.parametrize(
    "position, distortion, names",
    [(0, "mse", ("coffee", "rocket")), (-1, "mse", ("coffee", "rocket")), (-1, "eyes", ["coffee"])],
)
def test_each_picture_gets_cheaper(codec, photos, position, distortion, names):
    pair = codec.model.pairs[position].in_precision("float32", distortion=distortion)
    image = np.stack([photos[name] for name in names])[:, :64, :96] / np.float32(255)
    quality = np.array([30, 70])[: len(names)]
    compact = pair.compact(image, quality)
    refined = refine(pair, image, compact, quality, tf.constant(False), 6)
    before, after = (cost(pair, image, c, quality).numpy() for c in (compact, refined))
    assert refined.shape == compact.shape
    assert (after < before).all()


def test_no_step_is_no_change(codec, photos):
    pair = codec.model.pairs[0]
    image = photos["coffee"][None, :32, :32] / np.float32(255)
    compact = pair.compact(image, np.array([40]))
    refined = refine(pair, image, compact, np.array([40]), tf.constant(False), 0)
    np.testing.assert_array_equal(refined, compact)


def bytes_and_error(codec, image, payload):
    return len(payload), np.mean((codec.decode(payload).astype(float) - image) ** 2)


@pytest.mark.slow
def test_effort_grows_no_file_and_worsens_none(codec, photos):
    """At each scale less of one on most pictures, on none more of any, and the same header."""
    gains = collections.defaultdict(list)
    for name, quality in itertools.product(photos, (20, 45, 70)):
        image = photos[name]
        payloads = [codec.encode(image, quality, effort) for effort in (0, 1)]
        plain, refined = (layout.read_header(payload) for payload in payloads)
        assert (plain.scale, plain.quality) == (refined.scale, refined.quality)
        before, after = (bytes_and_error(codec, image, payload) for payload in payloads)
        assert np.less_equal(after, before).all(), (name, quality)
        gains[plain.scale].append(after != before)
    assert set(gains) == set(codec.model.scales)
    assert all(np.mean(of_scale) > 0.5 for of_scale in gains.values()), gains


@pytest.mark.parametrize("harm", ["bytes", "error"])
def test_what_refinement_makes_worse_is_left(codec, photos, monkeypatch, harm):
    """Noise takes more bytes, a flat image has a larger error: the plain file is kept."""

    def worsened(pair, image, compact, quality, grey, steps):
        noise = tf.random.stateless_normal(tf.shape(compact), [1, 2])
        return compact + 0.1 * noise if harm == "bytes" else tf.ones_like(compact) / 2

    monkeypatch.setattr("cnn_compression.codec.pair.refine", worsened)
    image, quality = tf.constant(photos["coffee"][:64, :96]), tf.constant(40)
    pair = PairCodec(codec.model.pairs[0])
    assert pair.encode(image, quality, steps=1) == pair.encode(image, quality)


@pytest.mark.slow
def test_effort_in_a_graph_and_to_a_target(codec, photos):
    image = photos["coffee"][:64, :96]
    payload = codec.encode(image, 40, 1)
    (in_graph,) = tf.data.Dataset.from_tensors(image).map(lambda x: codec.encode(x, 40, effort=1))
    assert abs(len(in_graph.numpy()) - len(payload)) <= 0.02 * len(payload)
    limited = codec.encode_to(image, target_bytes=len(payload), effort=1)
    assert len(limited) <= len(payload)


@pytest.mark.parametrize("effort", [-1, len(EFFORT_STEPS), 0.5, "high"])
def test_effort_out_of_range(codec, photos, effort):
    with pytest.raises(ValueError, match="effort must be an integer in 0..2. Received"):
        codec.encode(photos["coffee"], 40, effort)
