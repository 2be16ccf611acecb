"""The generative family: five levels, what is made up, and the two that train by turns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import cnn_compression
from cnn_compression.models.generative import PRESETS, Generative, PatchDiscriminator, quantise
from cnn_compression.tensors.levels import mean_squared_error
from cnn_compression.tensors.metrics import psnr
from cnn_compression.tensors.texture import texture_squares
from cnn_compression.training import objectives
from cnn_compression.training.objectives import (
    DiscriminateObjective,
    GenerateObjective,
    random_mask,
)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return Generative(widths=(4, 6, 8, 8, 8), blocks=1, codes=3)


@pytest.fixture(scope="module")
def discriminator():
    keras.utils.set_random_seed(2)
    return PatchDiscriminator(widths=(4, 6), scales=2)


@pytest.fixture(scope="module")
def batch(photos):
    """uint8 `[2, 32, 48, 3]`."""
    return np.stack([photos[name][64:96, 64:112] for name in ("astronaut", "chelsea")])


def halves(shape):
    return tf.fill(shape, 0.5)


def weights_of(widths, blocks):
    """Section 8 (supplement): c7s1-60, d120, d240, d480, d960, c3s1-C; c3s1-960, R960 x 9, ..."""
    pairs = [*zip(widths, widths[1:], strict=False)]
    layers = [(3, widths[0], 7), *((a, b, 3) for a, b in pairs), (8, widths[-1], 3)]
    layers += 2 * blocks * [(widths[-1], widths[-1], 3)] + [(b, a, 3) for a, b in pairs]
    layers += [(widths[-1], 8, 3), (widths[0], 3, 7)]
    return sum((inputs * size**2 + 1) * filters for inputs, filters, size in layers)


@pytest.mark.parametrize(
    "preset", ["generative", pytest.param("agustsson", marks=pytest.mark.slow)]
)
def test_a_preset_has_the_weights_of_its_widths(preset):
    variables = Generative.from_preset(preset).trainable_variables
    expected = weights_of(**PRESETS[preset])
    assert sum(np.prod(v.shape) for v in variables) == expected


def test_the_papers_widths_and_the_preset_that_fits_into_8_megabytes():
    assert weights_of(**PRESETS["agustsson"]) == 160_492_091
    assert Generative.from_preset().count_params() * 4 < 8e6


def test_levels_are_the_nearest_and_their_gradient_is_soft():
    x = tf.constant([-9.0, -2.4, -0.6, 0.0, 0.4, 1.5001, 7.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        levels = quantise(x)
    np.testing.assert_allclose(levels, [-2, -2, -1, 0, 0, 2, 2], atol=1e-6)

    def soft(x):
        weights = np.exp(-((x[:, None] - np.arange(-2.0, 3.0)) ** 2))
        return (weights * np.arange(-2.0, 3.0)).sum(-1) / weights.sum(-1)

    step, places = 1e-5, x.numpy().astype(np.float64)
    slope = (soft(places + step) - soft(places - step)) / (2 * step)
    np.testing.assert_allclose(tape.gradient(levels, x), slope, atol=1e-5)


def test_codes_take_all_five_levels(model, batch):
    codes = model.analyse(batch / np.float32(255.0), 1).numpy()
    assert (codes.shape, codes.dtype) == ((2, 2, 3, 3), np.int32)
    # New networks give about a standard normal variable: both signs, which a ReLU would not.
    large = Generative.from_preset()
    noise = keras.random.uniform((2, 128, 128, 3), seed=3)
    values = {*np.unique(codes), *np.unique(large.analyse(noise, 1))}
    assert values <= {-2, -1, 0, 1, 2} and min(values) < 0 < max(values)


def test_what_is_trained_is_what_is_used(model, batch):
    image = batch / np.float32(255.0)
    image_hat = model.synthesise(model.analyse(image, 1), 1)
    assert image_hat.shape == image.shape
    np.testing.assert_allclose(model(image), image_hat, atol=1e-5)


def test_what_a_mask_leaves_out_has_no_say(model, batch):
    image = batch / np.float32(255.0)
    mask = np.zeros((2, 2, 3, 1), np.float32)
    mask[:, :, 0] = 1.0
    codes = model.analyse(image, 1, mask).numpy()
    np.testing.assert_array_equal(codes[:, :, 1:], 0)
    np.testing.assert_array_equal(codes[:, :, :1], model.analyse(image, 1)[:, :, :1])
    np.testing.assert_array_equal(model(image, np.ones_like(mask)), model(image))


def test_a_saved_model_gives_the_same_codes(model, batch, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    image = batch / np.float32(255.0)
    np.testing.assert_array_equal(loaded.analyse(image, 1), model.analyse(image, 1))


# The objectives.


def test_masks_are_rectangles_of_as_many_pictures_as_asked(model):
    image = np.zeros((400, 128, 96, 3), np.float32)
    rng = np.random.default_rng(1)
    draws = lambda shape: tf.constant(rng.random(shape, np.float32))  # noqa: E731
    assert np.all(random_mask(model, image, draws, 0.0) == 1.0)
    masks = random_mask(model, image, draws, 0.25).numpy()[..., 0]
    assert masks.shape == (400, 8, 6)
    partial = masks[masks.min((1, 2)) == 0]
    assert 60 < len(partial) < 140
    for mask in partial:
        rows, columns = mask.any(1), mask.any(0)
        np.testing.assert_array_equal(mask, np.outer(rows, columns))


def test_without_an_adversary_the_loss_is_the_distortion(model, batch):
    losses = GenerateObjective(None, halves, mean_squared_error, 0.0)(model, batch, None)
    image = batch / np.float32(255.0)
    expected = mean_squared_error(image, model(image))
    np.testing.assert_allclose(losses["mse"], expected, rtol=1e-5)
    weighted = objectives.DISTORTION_WEIGHT * expected
    np.testing.assert_allclose(losses["loss"], weighted, rtol=1e-5)
    assert losses.keys() == {"loss", "mse"}


def test_losses_of_both_are_their_definitions(model, discriminator, batch):
    image = batch / np.float32(255.0)
    real, fake = discriminator(image), discriminator(model(image))
    mean = lambda x: np.mean(x, (1, 2, 3))  # noqa: E731
    adversary = np.mean([mean((stack[-1] - 1.0) ** 2) for stack in fake], axis=0)
    features = [mean(np.abs(a - b)) for x, y in zip(real, fake, strict=True)
                for a, b in zip(x[:-1], y[:-1], strict=True)]  # fmt: skip
    features = np.mean(features, axis=0)
    generate = GenerateObjective(discriminator, halves, mean_squared_error, 0.5)
    losses = generate(model, batch, None)
    expected = objectives.DISTORTION_WEIGHT * losses["mse"].numpy()
    expected += 0.5 * (adversary + objectives.FEATURES_WEIGHT * features)
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-4)

    errors = [0.5 * mean((x[-1] - 1.0) ** 2 + np.square(y[-1]))
              for x, y in zip(real, fake, strict=True)]  # fmt: skip
    found = DiscriminateObjective(discriminator, halves)(model, batch, None)
    np.testing.assert_allclose(found["loss"], np.mean(errors, axis=0), rtol=1e-4)


def test_each_trains_its_own_and_what_is_made_up_has_no_distortion(model, discriminator, batch):
    generate = GenerateObjective(discriminator, halves, mean_squared_error, 1.0)
    discriminate = DiscriminateObjective(discriminator, halves)
    assert generate.variables(model) == model.trainable_variables
    assert discriminate.variables(model) == discriminator.trainable_variables
    sources = [v.value for v in model.trainable_variables + discriminator.trainable_variables]
    own = len(model.trainable_variables)
    for level in (0, 255):
        flat = np.full_like(batch, level)
        for objective in (generate, discriminate):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(objective(model, flat, None)["loss"])
            gradients = tape.gradient(loss, sources)
            if objective is discriminate:
                assert all(g is None for g in gradients[:own])
            assert all(np.isfinite(g).all() for g in gradients if g is not None)
    # A rectangle as small as there is, in all pictures: the errors around it do not count.
    small = lambda shape: tf.constant([[0.5], [0.0], [0.5], [0.0], [0.0]] * shape[0], shape=shape)  # noqa: E731
    masked = GenerateObjective(None, small, mean_squared_error, 0.0, made_up=1.0)
    losses = masked(model, batch, None)
    assert (losses["loss"] < objectives.DISTORTION_WEIGHT * losses["mse"]).numpy().all()


@pytest.mark.parametrize("size", [(32, 48), (64, 32)])
def test_a_discriminator_looks_at_two_sizes(discriminator, size):
    seen = discriminator(np.zeros((1, *size, 3), np.float32))
    height, width = size
    assert [features.shape for features in seen[0]] == [
        (1, height // 2, width // 2, 4), (1, height // 4, width // 4, 6),
        (1, height // 4, width // 4, 1),
    ]  # fmt: skip
    assert seen[1][-1].shape == (1, height // 8, width // 8, 1)


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"five widths. Received: \(1, 2\)"):
        Generative(widths=(1, 2))
    with pytest.raises(ValueError, match="preset must be one of"):
        Generative.from_preset("small")


def test_the_model_that_comes_along_paints_texture_where_it_knows_little(photos):
    codec, photo = cnn_compression.load("generative"), photos["astronaut"][:165, :251]
    payload = codec.encode(photo)
    assert 8 * len(payload) / photo[..., 0].size < 0.1
    image_hat = codec.decode(payload)
    assert psnr(photo, image_hat) > 19
    kept, whole = (
        np.mean(texture_squares(image[None].astype(np.float32) / 255.0), axis=(0, 1, 2))[:2]
        for image in (image_hat, photo)
    )
    assert min(kept / whole) > 0.4
    mask = np.zeros(photo.shape[:2], bool)
    mask[:, :128] = True
    without_half = codec.encode(photo, mask=mask)
    assert len(without_half) < 0.7 * len(payload)
    # Two cells from the edge of what is kept the picture is about as near as without a mask.
    near, masked = image_hat[:, :96], codec.decode(without_half)[:, :96]
    assert psnr(photo[:, :96], masked) > psnr(photo[:, :96], near) - 0.5
