"""Objectives: equal to their definitions, and gradients go where they should and nowhere else."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_compression.jpeg.twin import jpeg_twin
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.models.paper import PaperComCNN, PaperRecCNN
from cnn_compression.tensors.levels import mean_squared_error
from cnn_compression.training.objectives import (
    JointObjective,
    ReduceObjective,
    RestoreObjective,
    is_grey,
    quality_weight,
)

QUALITY = np.array([10, 50, 90], np.int32)


@pytest.fixture
def model():
    """A tiny model none of whose weights is zero, unlike a new one's."""
    keras.utils.set_random_seed(1)
    model = ComRec(
        FastComCNN(3, filters=8, blocks=1), FastRecCNN(3, filters=8, blocks=1, inner_blocks=1)
    )
    for variable in model.trainable_variables:
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.02))
    return model


@pytest.fixture
def batch(photos):
    """Two photographs in colour and a grey one, uint8 `[3, 32, 48, 3]`."""
    grey = np.repeat(photos["camera"], 3, axis=-1)
    pictures = photos["astronaut"], photos["chelsea"], grey
    return np.stack([picture[64:96, 64:112] for picture in pictures])


def mean_steps(quality):
    """The mean luma step as libjpeg writes it into files."""
    steps = []
    for q in quality:
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=int(q))
        steps.append(np.mean(Image.open(file).quantization[0]))
    return np.array(steps)


def gradients(objective, model, batch, name="loss"):
    """Gradients of the summed losses to the weights of ComCNN and of RecCNN; None is 0."""
    sources = [[v.value for v in net.trainable_variables] for net in (model.com, model.rec)]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(objective(model, batch, QUALITY)[name])
    return [
        [g.numpy() for g in group]
        for group in tape.gradient(total, sources, unconnected_gradients="zero")
    ]


def norm(arrays):
    return float(np.sqrt(sum(np.sum(np.square(a, dtype=np.float64)) for a in arrays)))


def same_variables(a, b):
    return [id(v) for v in a] == [id(v) for v in b]


# Parts.


def test_mean_squared_error_is_in_squared_levels_of_each_image():
    a, b = np.zeros((2, 4, 5, 3), np.float32), np.zeros((2, 4, 5, 3), np.float32)
    b[1, 0, 0, 0] = 30 / 255
    np.testing.assert_allclose(mean_squared_error(a, b), [0, 900 / 60], rtol=1e-6)


def test_is_grey():
    images = np.repeat(np.arange(4 * 20, dtype=np.uint8).reshape(4, 4, 5, 1), 3, axis=-1)
    images[1, 3, 4, 2] ^= 1
    images[2, 0, 0] = [255, 0, 0]
    assert is_grey(images).numpy().tolist() == [True, False, False, True]
    assert is_grey(images[..., :1]).numpy().all()


def test_quality_weight_follows_the_root_of_the_mean_step():
    quality = np.arange(1, 101)
    expected = 0.001 / np.sqrt(mean_steps(quality) / 58)
    np.testing.assert_allclose(quality_weight(quality), expected, rtol=1e-5)


# Joint.


@pytest.mark.parametrize("preview_psnr", [0.0, 25.0, 60.0])
def test_joint_loss_is_its_definition(model, batch, preview_psnr):
    losses = JointObjective(preview_psnr)(model, batch, QUALITY)
    compact = model.compact(batch / np.float32(255), QUALITY)
    plain = batch.reshape(3, 16, 2, 24, 2, 3).mean(axis=(2, 4))
    preview = np.mean((plain - 255.0 * compact) ** 2, axis=(1, 2, 3))
    excess = np.maximum(0, preview - 255**2 / 10 ** (preview_psnr / 10))
    compact_hat, bits = jpeg_twin(compact, QUALITY, np.array([False, False, True]))
    image_hat = model.restore(compact_hat, QUALITY, 32, 48).numpy()
    mse = np.mean((batch - 255.0 * image_hat) ** 2, axis=(1, 2, 3))
    bpp = bits.numpy() / (32 * 48)
    steps = mean_steps(QUALITY)
    loss = 0.001 / np.sqrt(steps / 58) * (mse + 8.0 * steps * bpp + excess)
    definition = {"mse": mse, "bpp": bpp, "preview_mse": preview, "loss": loss}
    assert losses.keys() == definition.keys()
    for name, expected in definition.items():
        assert losses[name].dtype == "float32"
        np.testing.assert_allclose(losses[name], expected, rtol=1e-4, err_msg=name)


def test_a_grey_image_costs_less_than_the_same_with_one_coloured_pixel(model, batch):
    tinted = batch.copy()
    tinted[2, 0, 0] = [255, 0, 0]
    objective = JointObjective(25.0)
    grey_bpp = objective(model, batch, QUALITY)["bpp"][2]
    assert grey_bpp < objective(model, tinted, QUALITY)["bpp"][2] - 0.5


@pytest.mark.parametrize("name", ["mse", "bpp"])
def test_com_learns_from_the_distortion_and_from_the_rate(model, batch, name):
    objective = JointObjective(25.0)
    before = tf.reduce_sum(objective(model, batch, QUALITY)[name])
    com, _ = gradients(objective, model, batch, name)
    assert all(np.isfinite(g).all() and g.any() for g in com)
    # A small step against the gradient lowers it: rounding has not turned it around.
    for variable, gradient in zip(model.com.trainable_variables, com, strict=True):
        variable.assign(variable - 0.03 * gradient / norm(com))
    assert tf.reduce_sum(objective(model, batch, QUALITY)[name]) < before


def test_rec_learns_from_the_distortion_alone_but_for_its_emphasis(model, batch):
    """Which is applied before the JPEG, and follows the quality's embedding."""
    slopes = {
        name: gradients(JointObjective(25.0), model, batch, name)[1] for name in ("mse", "bpp")
    }
    before = [
        ("emphasis" in v.path or "embedding" in v.path) for v in model.rec.trainable_variables
    ]
    assert all(slope.any() for slope in slopes["mse"])
    assert [bool(slope.any()) for slope in slopes["bpp"]] == before


def test_joint_trains_both_networks(model, batch):
    assert same_variables(JointObjective(25.0).variables(model), model.trainable_variables)
    for group in gradients(JointObjective(25.0), model, batch):
        assert all(np.isfinite(g).all() and g.any() for g in group)


def test_a_faded_preview_counts(model, batch):
    """Where contrast is lost beyond what is allowed, and only there, the loss says so."""
    plain = JointObjective(0.0)(model, batch, QUALITY)["loss"]
    assert np.array_equal(plain, JointObjective(10.0)(model, batch, QUALITY)["loss"])
    model.com.tail.bias.assign_add([0.4, 0.4, 0.4])
    faded = JointObjective(10.0)(model, batch, QUALITY)["loss"]
    assert np.all(faded > JointObjective(0.0)(model, batch, QUALITY)["loss"])


@pytest.mark.parametrize("level", [0, 128, 255])
def test_gradients_are_finite_on_flat_images(model, level):
    flat = np.full((3, 32, 32, 3), level, np.uint8)
    for objective in (JointObjective(25.0), ReduceObjective()):
        for group in gradients(objective, model, flat):
            assert all(np.isfinite(g).all() for g in group)


# The paper's.


def test_restore_is_the_distortion_after_the_codec(model, batch):
    asked = []

    def codec(compact, quality, grey):
        asked.append((compact.numpy(), list(quality), grey.numpy().tolist()))
        return compact * 0.5

    losses = RestoreObjective(codec)(model, batch, QUALITY)
    compact = model.compact(batch / np.float32(255), QUALITY).numpy()
    ((received, quality, grey),) = asked
    np.testing.assert_allclose(received, compact, atol=1e-6)
    assert (quality, grey) == ([10, 50, 90], [False, False, True])
    image_hat = model.restore(compact * np.float32(0.5), QUALITY, 32, 48).numpy()
    mse = np.mean((batch - 255.0 * image_hat) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(losses["mse"], mse, rtol=1e-4)
    np.testing.assert_allclose(losses["loss"], quality_weight(QUALITY) * mse, rtol=1e-4)


def test_restore_trains_rec_alone(model, batch):
    # Even a codec that would let gradients through.
    objective = RestoreObjective(lambda compact, quality, grey: compact)
    com, rec = gradients(objective, model, batch)
    assert norm(com) == 0
    assert all(np.isfinite(g).all() and g.any() for g in rec)
    assert same_variables(objective.variables(model), model.rec.trainable_variables)


def test_reduce_trains_com_alone_through_rec(model, batch):
    objective = ReduceObjective()
    com, _ = gradients(objective, model, batch)
    assert all(np.isfinite(g).all() and g.any() for g in com)
    assert same_variables(objective.variables(model), model.com.trainable_variables)


def test_reduce_is_the_distortion_without_a_codec(model, batch):
    losses = ReduceObjective()(model, batch, QUALITY)
    image_hat = model(batch / np.float32(255), QUALITY).numpy()
    mse = np.mean((batch - 255.0 * image_hat) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(losses["mse"], mse, rtol=1e-4)
    np.testing.assert_allclose(losses["loss"], quality_weight(QUALITY) * mse, rtol=1e-4)


def test_the_statistics_of_batch_norm_belong_to_the_phase_that_trains_rec():
    model = ComRec(PaperComCNN(1), PaperRecCNN(1))
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), np.uint8)

    def statistics():
        return [v.numpy() for v in model.rec.non_trainable_variables]

    new = statistics()
    ReduceObjective()(model, image, QUALITY)
    np.testing.assert_equal(statistics(), new)
    RestoreObjective(lambda compact, quality, grey: compact)(model, image, QUALITY)
    assert all((a != b).any() for a, b in zip(statistics(), new, strict=True))
