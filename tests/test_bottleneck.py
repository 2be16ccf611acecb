"""The bottleneck family: what a network of 64, 16 and 64 units makes of blocks."""

import keras
import numpy as np
import pytest

from cnn_compression.models.bottleneck import Bottleneck
from cnn_compression.models.latent import FREQUENCY_BITS


@pytest.fixture(scope="module")
def images(photos):
    """Photographs as the models take them."""
    names = ("astronaut", "coffee", "chelsea")
    return [photos[name][None].astype(np.float32) / 255.0 for name in names]


@pytest.fixture(scope="module")
def model(images):
    model = Bottleneck()
    model.solve(images)
    return model


def psnr(error):
    return -10 * np.log10(np.mean(np.square(error)))


def test_the_network_is_that_of_64_16_and_64_units():
    weights = Bottleneck().trainable_variables
    assert sum(np.prod(weight.shape) for weight in weights) == 64 * 16 + 16 + 16 * 64 + 64


@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_and_back_is_the_identity(channels, images):
    model, image = Bottleneck(channels), images[0][..., :channels]
    blocks = model.blocks(image)
    assert blocks.shape == (1, 24, 32, channels, 64)
    np.testing.assert_allclose(model.image(blocks), image, atol=1e-5)


def test_a_block_of_a_grey_image_is_its_pixels_by_rows(images):
    image = images[0][..., :1]
    blocks = np.asarray(Bottleneck(1).blocks(image))
    np.testing.assert_allclose(
        blocks[0, 2, 3, 0].reshape(8, 8), image[0, 16:24, 24:32, 0] - 128 / 255, atol=1e-6
    )


def test_solved_is_as_good_as_16_principal_components(model, images):
    blocks = np.concatenate([np.asarray(model.blocks(image)).reshape(-1, 64) for image in images])
    mean = blocks.mean(0)
    _, _, components = np.linalg.svd(blocks - mean, full_matrices=False)
    by_components = (blocks - mean) @ components[:16].T @ components[:16] + mean
    solved = np.asarray(model.second(model.first(blocks)))
    assert psnr(solved - blocks) == pytest.approx(psnr(by_components - blocks), abs=0.01)
    quantised = [
        np.asarray(model.blocks(model.synthesise(model.analyse(image, 100), 100))).reshape(-1, 64)
        for image in images
    ]
    assert psnr(np.concatenate(quantised) - blocks) > psnr(by_components - blocks) - 1


def test_64_units_with_a_fine_step_are_the_identity(images):
    model, grey = Bottleneck(1, hidden=64, steps=(2.0, 0.25)), images[0][..., :1]
    model.solve([grey])
    image_hat = model.synthesise(model.analyse(grey, 100), 100)
    assert np.abs(image_hat - grey).max() < 1 / 255
    np.testing.assert_allclose(model(grey), grey, atol=1e-4)


def test_higher_qualities_are_better(model, images):
    qualities = (1, 25, 50, 75, 100)
    found = [
        psnr(model.synthesise(model.analyse(images[0], quality), quality) - images[0])
        for quality in qualities
    ]
    assert found == sorted(found)
    steps = [float(model.step(quality)) for quality in (1, 100)]
    assert steps == pytest.approx([128 / 255, 8 / 255])


def test_codes_are_in_the_alphabet(model):
    lowest, highest = model.alphabet
    extremes = np.zeros((1, 16, 16, 3), np.float32), np.ones((1, 16, 16, 3), np.float32)
    for image in extremes:
        codes = np.asarray(model.analyse(image, 100))
        assert codes.dtype == np.int32 and codes.shape == (1, 2, 2, 48)
        assert codes.min() >= lowest and codes.max() <= highest


def test_tables_follow_what_was_counted(model, images):
    for quality in (1, 50, 100):
        frequencies = model.frequencies(quality)
        assert frequencies.dtype == np.int32 and frequencies.min() > 0
        assert (frequencies.sum(1) == 2**FREQUENCY_BITS).all()
    codes = np.concatenate(
        [np.asarray(model.analyse(image, 55)).reshape(-1, 48) for image in images]
    )
    lowest = model.alphabet[0]
    shares = np.bincount(codes[:, 5] - lowest, minlength=frequencies.shape[1]) / len(codes)
    np.testing.assert_allclose(model.frequencies(52)[5] / 2**FREQUENCY_BITS, shares, atol=0.01)


def test_config_and_weights_round_trip(model, images, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    assert (again.frequencies(30) == model.frequencies(30)).all()
    np.testing.assert_array_equal(again(images[0]), model(images[0]))


@pytest.mark.parametrize(
    "arguments, text",
    [({"channels": 2}, "channels must be 1 or 3. Received: 2"), ({"steps": (1, 2)}, "steps")],
)
def test_arguments_that_make_no_sense(arguments, text):
    with pytest.raises(ValueError, match=text):
        Bottleneck(**arguments)


def test_an_unknown_preset():
    with pytest.raises(ValueError, match="preset must be one of"):
        Bottleneck.from_preset("nothing")


def test_evened_out_weights_are_orthonormal_and_do_the_same(photos):
    keras.utils.set_random_seed(3)
    model = Bottleneck(3)
    for layer in (model.first, model.second):
        layer.bias.assign(keras.random.normal(layer.bias.shape, stddev=0.1))
    image = photos["chelsea"][None, :32, :40].astype(np.float32) / 255.0
    expected = model(image)
    model.even_out()
    kernel = model.first.get_weights()[0]
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(model.hidden), atol=1e-5)
    np.testing.assert_allclose(model(image), expected, atol=1e-5)
