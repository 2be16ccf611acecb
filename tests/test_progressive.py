"""The progressive family: its networks, its bits and what it is trained for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import cnn_compression
from cnn_compression.models.progressive import ConvGRU, Progressive
from cnn_compression.tensors.distortion import absolute
from cnn_compression.tensors.metrics import psnr
from cnn_compression.training.objectives import ProgressiveObjective

SMALL = {"encoder": (4, 8, 8, 8), "decoder": (8, 8, 8, 4), "bits": 6}


@pytest.fixture(scope="module", params=["one_shot", "additive", "scaled"])
def model(request):
    keras.utils.set_random_seed(1)
    return Progressive(**SMALL, reconstruction=request.param)


@pytest.fixture(scope="module")
def image(photos):
    """float32 `[2, 48, 32, 3]`."""
    pieces = [photos[name][64:112, 64:96] for name in ("astronaut", "chelsea")]
    return np.stack(pieces).astype(np.float32) / 255.0


def weights_of_gru(inputs, filters, size, memory_size):
    gates = 3 * filters
    return gates * (inputs * size**2 + 1) + gates * filters * memory_size**2


def test_the_papers_widths_give_the_papers_weights():
    # Figure 1: each layer's inputs, filters, and sides of the kernels on input and on memory.
    units = [(64, 256, 3, 1), (256, 512, 3, 1), (512, 512, 3, 1)]
    units += [(512, 512, 3, 1), (128, 512, 3, 1), (128, 256, 3, 3), (64, 128, 3, 3)]
    plain = (3 * 9 + 1) * 64 + 512 * 32 + (32 + 1) * 512 + (32 + 1) * 3
    expected = plain + sum(weights_of_gru(*unit) for unit in units)
    variables = Progressive.from_preset("toderici").trainable_variables
    assert sum(np.prod(v.shape) for v in variables) == expected == 26_609_891


def test_a_quarter_of_the_widths_fits_into_8_megabytes():
    assert Progressive.from_preset().count_params() * 4 < 8e6


def test_a_unit_with_a_shut_gate_remembers_and_with_an_open_one_forgets():
    unit = ConvGRU(3, 2, 3)
    unit.build((None, None, None, 5))
    keras.utils.set_random_seed(2)
    x, memory = keras.random.normal((1, 4, 4, 5)), keras.random.normal((1, 2, 2, 3))
    for bias, expected in ((-50.0, memory), (50.0, None)):
        unit.of_input.bias.assign([bias] * 3 + [-50.0] * 3 + [0.0] * 3)
        if expected is None:  # with its memory reset too, it is a convolution and a tanh
            expected = np.tanh(unit.of_input(x)[..., 6:])
        np.testing.assert_allclose(unit(x, memory), expected, atol=1e-6)


def test_codes_are_bits_and_those_of_a_quality_begin_with_those_of_a_lower_one(model, image):
    codes = model.analyse(image, 5).numpy()
    assert (codes.shape, codes.dtype) == ((2, 3, 2, model.depth(5)), np.int32)
    assert set(np.unique(codes)) == {0, 1}
    for quality in (1, 3):
        np.testing.assert_array_equal(model.analyse(image, quality), codes[..., : 6 * quality])


def test_decoding_takes_each_iteration_up_where_training_does(model, image):
    halves = np.full((4, 2, 3, 2, 6), 0.5, np.float32)
    pictures = model.pictures(image, list(halves))
    codes = model.analyse(image, 4)
    for quality in (1, 4):
        image_hat = model.synthesise(codes[..., : 6 * quality], quality)
        np.testing.assert_allclose(image_hat, pictures[quality - 1], atol=1e-5)


def test_a_graph_of_any_size_gives_what_is_computed_eagerly(model, image):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def round_trip(image):
        return model.synthesise(model.analyse(image, 3), 3)

    expected = model.synthesise(model.analyse(image, 3), 3)
    np.testing.assert_allclose(round_trip(image), expected, atol=1e-5)
    sizes = [
        len(tf.function(lambda image: model.analyse(image, q))  # noqa: B023 - traced at once
            .get_concrete_function(image).graph.get_operations())
        for q in (2, 16)
    ]  # fmt: skip
    assert sizes[1] < 1.1 * sizes[0]


def test_bits_are_drawn_as_likely_as_the_encoder_says(image):
    keras.utils.set_random_seed(1)
    model = Progressive(**SMALL)
    said = model._say(2.0 * image - 1.0, model._start(2, 3, 2))[0].numpy()
    # Noise below all is below any threshold that is not certain: every bit is 1; and the reverse.
    for level, sign in ((0.0, 1.0), (1.0, -1.0)):
        noise = [np.full(said.shape, level, np.float32)]
        (picture,) = model.pictures(image, noise)
        signs = np.full(said.shape, sign, np.float32)
        expected = model.synthesise((signs > 0).astype(np.int32).reshape(2, 3, 2, 6), 1)
        np.testing.assert_allclose(picture, expected, atol=1e-5)


@pytest.mark.parametrize("level, power, weights", [
    (0, 0.0, [1 / 3] * 3), (128, 1.0, [1 / 6, 2 / 6, 3 / 6]), (255, 0.0, [1 / 3] * 3)
])  # fmt: skip
def test_loss_is_its_definition_and_gradients_are_finite(model, level, power, weights):
    flat = np.full((2, 32, 32, 3), level, np.uint8)
    objective = ProgressiveObjective(3, lambda shape: tf.fill(shape, 0.5), absolute, power)
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        losses = objective(model, flat, None)
    unit = flat.astype(np.float32) / 255.0
    pictures = model.pictures(unit, [np.full((2, 2, 2, 6), 0.5, np.float32)] * 3)
    expected = weights @ np.stack([2550.0 * np.mean(abs(p - unit), (1, 2, 3)) for p in pictures])
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-4)
    gradients = tape.gradient(losses["loss"], variables, unconnected_gradients="zero")
    assert all(np.isfinite(g).all() for g in gradients)
    trained = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True)
               if np.any(g)]  # fmt: skip
    assert any("encoder1" in path for path in trained) and any("binariser" in p for p in trained)


def test_a_saved_model_gives_the_same_codes(model, image, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.analyse(image, 2), model.analyse(image, 2))


@pytest.mark.parametrize("iterations, default", [(1, 1), (5, 3), (16, 8)])
def test_there_are_as_many_qualities_as_iterations(image, iterations, default):
    model = Progressive(**SMALL, iterations=iterations)
    assert model.qualities == range(1, iterations + 1)
    assert model.default_quality == default
    model.count_codes([image])
    assert model.frequencies(iterations).shape == (6 * iterations, 2)
    again = Progressive.from_config(model.get_config())
    assert again.qualities == model.qualities


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"reconstruction": "both"}, "one of .*one_shot.* Received: 'both'"),
        ({"encoder": (1, 2)}, r"four widths each. Received: \(1, 2\)"),
        ({"iterations": 0}, r"iterations must be 1..16. Received: 0"),
        ({"iterations": 17}, r"iterations must be 1..16. Received: 17"),
    ],
)
def test_what_there_is_not_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Progressive(**SMALL | arguments)
    with pytest.raises(ValueError, match="preset must be one of"):
        Progressive.from_preset("small")


def test_each_iteration_of_the_model_that_comes_along_makes_a_photograph_better(photos):
    codec, photo = cnn_compression.load("progressive"), photos["astronaut"][20:185, 150:311]
    payload = codec.encode(photo, 8)
    at_four = codec.encode(photo, 4)
    np.testing.assert_array_equal(
        codec.decode(payload[: len(at_four)], partial=True),
        codec.decode(at_four),
    )
    gains = [float(psnr(photo, codec.decode(codec.encode(photo, q)))) for q in (1, 2, 4, 8)]
    assert gains[0] > 20 and min(np.diff(gains)) > 0.5
