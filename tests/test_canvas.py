"""What networks make of a picture on a canvas is what they make of the picture alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.codec import Codec
from cnn_compression.codec.pair import PairCodec
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.models.paper import PaperComCNN, PaperRecCNN
from cnn_compression.tensors.canvas import COMMON_SIDES, STEP, Frame, no_frame, on_canvas

QUALITY = np.array([40], np.int32)


@pytest.mark.parametrize("cell", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 8), (65, 100), (180, 99), (151, 300)])
def test_canvases_are_of_few_sizes_and_repeat_the_edges(size, cell):
    x = np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8)
    laid, kept = on_canvas(tf.constant(x), cell)
    assert tuple(map(int, kept)) == size
    sides = np.sort([*range(STEP, 1300, STEP), *COMMON_SIDES])
    for axis in (0, 1):
        assert laid.shape[1 + axis] * cell == sides[sides >= size[axis] * cell][0]
    edges = [(0, 0), *((0, n - m) for n, m in zip(laid.shape[1:3], size, strict=True)), (0, 0)]
    np.testing.assert_array_equal(laid, np.pad(x, edges, "edge"))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (6, 5), (3, 8), (6, 8)])
def test_a_frame_is_one_pixel_wide_and_ends_with_the_canvas(size):
    sides = (6, 8)
    expected = np.ones((1, *sides, 2), np.float32)
    expected[:, size[0] : size[0] + 1, : size[1] + 1] = 0
    expected[:, : size[0] + 1, size[1] : size[1] + 1] = 0

    @tf.function
    def framed(x):
        frame = Frame(size, sides)
        return frame(x + 0.0), frame(tf.cast(x, tf.float16))

    single, half = framed(tf.ones_like(expected))
    np.testing.assert_array_equal(single, expected)
    np.testing.assert_array_equal(half, expected)
    assert half.dtype == tf.float16
    assert no_frame(expected) is expected


def test_a_frame_without_tensorflow_is_the_same(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    x = np.ones((1, 4, 4, 1), np.float32)
    framed = np.array(Frame((2, 2), (4, 4))(x))[0, ..., 0]
    np.testing.assert_array_equal(framed, [[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1], [1] * 4])


PAIRS = {
    "full": lambda: ComRec(FastComCNN(3, 1, 8, 2), FastRecCNN(3, 1, 8, 1, 12, 2)),
    "half": lambda: ComRec(FastComCNN(3, 2, 8, 2), FastRecCNN(3, 2, 8, 1, 12, 2)),
    "quarter": lambda: ComRec(FastComCNN(3, 4, 8, 2), FastRecCNN(3, 4, 8, 1, 12, 2)),
    "paper": lambda: ComRec(PaperComCNN(1), PaperRecCNN(1)),
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request):
    """With weights and biases that let everything count, zeros beyond the edge above all."""
    keras.utils.set_random_seed(1)
    pair = PAIRS[request.param]()
    random = np.random.default_rng(2)
    for variable in pair.trainable_variables:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 1
        variable.assign(np.float32(random.standard_normal(variable.shape) / fan_in**0.5))
    return pair


SIZES = [(1, 1), (7, 9), (32, 64), (33, 31), (50, 84), (64, 65)]


@pytest.mark.parametrize("network", ["com", "rec"])
def test_networks_see_zeros_around_the_picture(pair, network):
    scale = pair.scale

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, pair.channels))])
    def alone(x):
        if network == "com":
            return pair.compact(x, QUALITY)
        return pair.restore(x, QUALITY, *(scale * side for side in tf.unstack(tf.shape(x)[1:3])))

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, pair.channels))])
    def laid(x):
        x, size = on_canvas(x, 1 if network == "com" else scale)
        if network == "com":
            return pair.compact(x, QUALITY, size=size)
        sides = (scale * side for side in tf.unstack(tf.shape(x)[1:3]))
        return pair.restore(x, QUALITY, *sides, size=size)

    for size in SIZES:
        x = np.random.default_rng(3).random((1, *size, pair.channels), np.float32)
        expected = alone(x).numpy()
        found = laid(x).numpy()[:, : expected.shape[1], : expected.shape[2]]
        # Sums may be taken in another order where a convolution is laid out otherwise.
        tolerance = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=tolerance, err_msg=f"{size}")


@pytest.mark.slow
def test_the_codec_writes_and_restores_what_it_would_without(codec, photos, monkeypatch):
    """The default model, at each of its scales."""
    sizes = [(33, 70), (100, 97)]
    made = []
    for lay in (on_canvas, lambda x, cell=1: (x, None)):
        monkeypatch.setattr("cnn_compression.codec.pair.on_canvas", lay)
        made.append([])
        for coder in map(PairCodec, codec.model.pairs):
            for height, width in sizes:  # by the same graph, as a codec does
                image = tf.constant(photos["chelsea"][:height, :width])
                file = coder.encode(image, tf.constant(60))
                restored = coder.restore(coding.decode(file), tf.constant(60), height, width)
                made[-1] += [coding.decode(file), restored]
    for laid, alone in zip(*made, strict=True):
        difference = np.abs(laid.numpy().astype(int) - alone.numpy())
        assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


def test_what_a_convolution_meets_is_of_few_sizes(monkeypatch):
    """Whatever sizes pictures have: those of the canvases, and nothing else."""
    met = set()
    convolve = tf.nn.convolution

    def note(x, *arguments, **settings):
        tf.numpy_function(lambda shape: met.add(tuple(shape)), [tf.shape(x)], [])
        return convolve(x, *arguments, **settings)

    monkeypatch.setattr(tf.nn, "convolution", note)
    codec = Codec(PAIRS["half"]())
    image = np.random.default_rng(4).integers(0, 256, (80, 80, 3), np.uint8)

    def sizes_after(*sizes):
        for height, width in sizes:
            codec.decode(codec.encode(image[:height, :width], 50))
        return len(met)

    few = sizes_after((32, 32))
    assert few >= 5 and sizes_after((1, 1), (5, 30), (17, 31)) == few
    assert few < sizes_after((33, 64), (50, 40), (64, 63)) <= 2 * few
