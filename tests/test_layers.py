"""Blocks: what they compute, how they start, and that they come back from their configuration."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.jpeg import coding
from cnn_compression.jpeg.tables import LUMA_TABLE
from cnn_compression.jpeg.twin import quantisation_steps
from cnn_compression.models.layers import Emphasis, QualityEmbedding, ResidualBlock, conv
from cnn_compression.tensors.colour import luma
from cnn_compression.tensors.dct import BLOCK_DCT, block_dct, map_blocks

RNG = np.random.default_rng(0)


def randomise(layer, seed=0, scale=0.3):
    """Gives every weight a value of its own, also those that start at zero."""
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(0, scale, w.shape) for w in layer.get_weights()])


def build_block(filters=6, units=5):
    block = ResidualBlock(filters)
    block.build((None, None, None, filters), (None, units))
    return block


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 7)])
def test_conv_keeps_height_and_width(size):
    assert conv(3)(np.zeros((2, *size, 4), np.float32)).shape == (2, *size, 3)


def test_embedding_is_finite_and_tells_all_qualities_apart():
    embedding = QualityEmbedding(16)
    vectors = np.asarray(embedding(np.arange(1, 101)))
    assert vectors.shape == (100, 16) and np.isfinite(vectors).all()
    assert np.abs(vectors[:, None] - vectors[None]).max(-1)[~np.eye(100, dtype=bool)].min() > 1e-4


def test_embedding_features_stay_small():
    """So that no quality drowns the others: the dense layers see numbers of about one."""
    embedding = QualityEmbedding(3)
    embedding.build((None,))
    for layer in (embedding.hidden, embedding.out):
        layer.set_weights([np.eye(3), np.full(3, 10)])
    features = np.asarray(embedding(np.arange(1, 101))) - 20
    assert np.abs(features).max() <= 2


def test_embedding_takes_any_integer_or_float_type():
    embedding = QualityEmbedding(4)
    expected = embedding(np.array([10, 90], np.int32))
    for dtype in (np.int64, np.uint8, np.float32):
        np.testing.assert_allclose(embedding(np.array([10, 90], dtype)), expected, atol=1e-6)


def test_block_by_its_formula():
    block = build_block(filters=4, units=3)
    randomise(block)
    x = RNG.normal(size=(2, 5, 6, 4)).astype(np.float32)
    embedding = RNG.normal(size=(2, 3)).astype(np.float32)
    kernel, bias = block.modulation.get_weights()
    scale, shift = np.split(embedding @ kernel + bias, 2, axis=-1)

    def convolve(x, layer):
        kernel, bias = layer.get_weights()
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        return np.einsum("nhwcij,ijcd->nhwd", windows, kernel) + bias

    hidden = convolve(x, block.conv1) * (1 + scale)[:, None, None] + shift[:, None, None]
    expected = x + convolve(np.maximum(hidden, 0), block.conv2)
    np.testing.assert_allclose(block(x, embedding), expected, rtol=1e-3, atol=1e-4)
    # One image takes another way to the same.
    alone = block(x[:1], embedding[:1])
    np.testing.assert_allclose(alone, expected[:1], rtol=1e-3, atol=1e-4)


def test_a_new_block_ignores_quality_and_is_near_the_identity():
    block = build_block(filters=32)
    x = RNG.normal(size=(1, 8, 8, 32)).astype(np.float32)
    outputs = [np.asarray(block(x, np.full((1, 5), value, np.float32))) for value in (-3, 3)]
    np.testing.assert_array_equal(*outputs)
    change = np.std(outputs[0] - x) / np.std(x)
    assert 0.01 < change < 0.5


def test_block_gradients_reach_every_weight():
    block = build_block()
    randomise(block)
    x = tf.constant(RNG.normal(size=(2, 5, 5, 6)), tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block(x, tf.ones((2, 5))) ** 2)
    for weight, slope in zip(
        block.trainable_weights,
        tape.gradient(loss, [w.value for w in block.trainable_weights]),
        strict=True,
    ):
        assert slope is not None and np.isfinite(slope).all() and np.any(slope != 0), weight.path


@pytest.mark.parametrize(
    "layer, inputs",
    [
        (QualityEmbedding(7, name="quality"), [np.array([1, 50, 100])]),
        (ResidualBlock(4, name="block"), [np.ones((1, 3, 3, 4)), np.ones((1, 2))]),
    ],
    ids=["QualityEmbedding", "ResidualBlock"],
)
def test_configuration_round_trip(layer, inputs):
    inputs = [x.astype(np.float32) for x in inputs]
    expected = layer(*inputs)
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == f"cnn_compression>{type(layer).__name__}"
    twin = keras.saving.deserialize_keras_object(config)
    assert type(twin) is type(layer) and twin.get_config() == layer.get_config()
    twin(*inputs)
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(twin(*inputs), expected)


def emphasis(gains):
    """An `Emphasis` of the same 65 gains at every quality, and an embedding for it."""
    layer = Emphasis()
    layer.build((None, None, None, 3), (None, 4))
    layer.log_gains.set_weights([np.zeros((4, 65)), np.log(gains)])
    return layer, np.ones((1, 4), np.float32)


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (7, 9), (29, 37), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_emphasis_is_undone_by_its_inverse(size, channels):
    layer, embedding = emphasis(np.exp(RNG.normal(0, 0.5, 65)))
    x = RNG.random((1, *size, channels), np.float32)
    emphasised = layer(x, embedding)
    assert emphasised.shape == x.shape
    assert (np.abs(emphasised - x).max() > 0.1) == (min(size) >= 8)
    np.testing.assert_allclose(layer(emphasised, embedding, inverse=True), x, atol=1e-4)


def test_emphasis_leaves_blocks_that_are_not_whole():
    layer, embedding = emphasis(np.full(65, 1.7))
    x = RNG.random((1, 20, 12, 3), np.float32)
    emphasised = np.asarray(layer(x, embedding))
    np.testing.assert_array_equal(emphasised[:, 16:], x[:, 16:])
    np.testing.assert_array_equal(emphasised[:, :, 8:], x[:, :, 8:])
    # One gain for all frequencies is plain contrast.
    contrast = 0.5 + 1.7 * (x[:, :16, :8] - 0.5 - 0.5 / 255)
    np.testing.assert_allclose(emphasised[:, :16, :8], contrast, atol=2e-2)


def test_emphasis_multiplies_the_dct_of_luma_and_all_of_chroma():
    gains = np.exp(RNG.normal(0, 0.5, 65)).astype(np.float32)
    layer, embedding = emphasis(gains)
    x = RNG.random((1, 16, 24, 3), np.float32)
    emphasised = layer(x, embedding)
    before, after = (block_dct(255 * luma(image) - 128) for image in (x, emphasised))
    np.testing.assert_allclose(after, before * gains[:64], atol=1)  # whole eighths times gains
    for channel in (0, 2):  # R - Y and B - Y are chroma but for a factor
        before, after = (
            np.asarray(i[..., channel : channel + 1] - luma(i)) for i in (x, emphasised)
        )
        np.testing.assert_allclose(after, before * gains[64], atol=1e-3)


def test_emphasis_and_jpeg_are_a_jpeg_with_tables_divided_by_the_gains(photos):
    """Two ways to the same picture: gains around libjpeg, or quantisation by finer steps."""
    gains = np.append(0.6 * (LUMA_TABLE.reshape(64) / 12) ** 0.3, 1.0).astype(np.float32)
    layer, embedding = emphasis(gains)
    grey = photos["camera"][None] / np.float32(255)
    carried = np.clip(np.round(255 * layer(grey, embedding)), 0, 255).astype(np.uint8)
    decoded = coding.round_trip(tf.constant(carried), tf.constant([40])).numpy() / np.float32(255)
    one_way = 255 * np.asarray(layer(decoded, embedding, inverse=True))
    steps = np.asarray(quantisation_steps(np.array([40])))[0] / gains[:64]
    levels = np.round(np.asarray(block_dct(255 * grey - 128)) / steps)
    by_rows = tf.nn.depth_to_space((levels * steps).astype(np.float32), 8)
    other_way = np.asarray(map_blocks(by_rows, BLOCK_DCT.T[None])) + 128
    # Whole pixels in between move a few coefficients to the next level.
    assert np.sqrt(np.mean((one_way - other_way) ** 2)) < 2.5
    errors = [np.mean((way - 255 * grey) ** 2) for way in (one_way, other_way)]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


def test_emphasis_starts_between_the_table_and_a_flat_one():
    layer = Emphasis()
    layer.build((None, None, None, 3), (None, 4))
    gains = np.exp(layer.log_gains(np.ones((1, 4)))[0])
    np.testing.assert_allclose(gains[:64], 0.8 * (LUMA_TABLE.reshape(64) / 12) ** 0.25, rtol=1e-5)
    assert gains[64] == pytest.approx(1)
    assert 1 < np.ptp(np.log(LUMA_TABLE)) / np.ptp(np.log(LUMA_TABLE.reshape(64) / gains[:64])) < 2
