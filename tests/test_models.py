"""The presets: their sizes and costs, any image size, quality, precision, and saving."""

import ast
import functools
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.jpeg.twin import jpeg_twin, mean_luma_step
from cnn_compression.models.com_rec import PRESETS, ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.models.paper import PaperComCNN, PaperRecCNN
from cnn_compression.tensors.levels import to_unit
from cnn_compression.tensors.resampling import (
    downsample,
    upsample_bicubic,
    upsample_bicubic_mirrored,
)
from cnn_compression.tensors.shapes import crop, pad_to_multiple

PACKAGE = Path(__file__).parent.parent / "cnn_compression"
SIZES = [(1, 1), (1, 6), (5, 1), (7, 4), (9, 11), (16, 24)]


def new_model(preset, channels=3, scale=2, seed=0):
    keras.utils.set_random_seed(seed)
    return ComRec.from_preset(preset, channels, scale)


@pytest.fixture(scope="module")
def cached_model():
    """A function of preset, channels and scale to an untrained model that is not to be changed."""
    return functools.cache(new_model)


@pytest.fixture(scope="module")
def fast(cached_model):
    return cached_model("fast", 3)


@pytest.fixture
def small():
    """A little model with every weight at random: no zero hides a mistake."""
    keras.utils.set_random_seed(1)
    com = FastComCNN(3, filters=8, blocks=1, name="com")
    rec = FastRecCNN(3, filters=8, blocks=1, inner_blocks=1, name="rec")
    return randomised(ComRec(com, rec, name="small"))


def randomised(model, scale=0.1):
    rng = np.random.default_rng(2)
    model.set_weights([w + rng.normal(0, scale, w.shape) for w in model.get_weights()])
    return model


def noise(height, width, channels=3, batch=1):
    rng = np.random.default_rng(height * width)
    return rng.uniform(0, 1, (batch, height, width, channels)).astype(np.float32)


def weights_of(model, trainable=False):
    variables = model.trainable_variables if trainable else model.variables
    return sum(int(np.prod(v.shape)) for v in variables)


# --- the paper's preset --------------------------------------------------------------------------


def test_paper_has_the_published_number_of_weights(cached_model):
    model = cached_model("paper", 1)
    assert weights_of(model.com) == 38_145
    # 20 convolutions: 640 + 18 x 36,864 + 577; 18 normalisations of 4 x 64, half of it trained.
    assert weights_of(model.rec) == 669_377
    assert weights_of(model.rec, trainable=True) == 667_073


def test_paper_layers_are_the_published_ones(cached_model):
    model = cached_model("paper", 1)
    com, rec = model.com, model.rec
    assert [layer.name for layer in com.layers] == ["conv1", "conv2", "conv3"]
    kernels = [tuple(layer.kernel.shape) for layer in com.layers]
    assert kernels == [(3, 3, 1, 64), (3, 3, 64, 64), (3, 3, 64, 1)]
    assert [layer.strides for layer in com.layers] == [(1, 1), (2, 2), (1, 1)]
    assert [layer.activation.__name__ for layer in com.layers] == ["relu", "relu", "linear"]
    names = {layer.name for layer in rec.layers}
    assert names == {f"conv{i}" for i in range(1, 21)} | {f"norm{i}" for i in range(2, 20)}
    assert all(layer.kernel.shape == (3, 3, 64, 64) for layer in rec.convs)
    assert not any(layer.use_bias for layer in rec.convs)
    assert rec.conv1.use_bias and rec.conv20.use_bias


def test_paper_reconstruction_by_its_formula():
    """With training's batch statistics set by hand, layer by layer through `tf.nn`."""
    keras.utils.set_random_seed(0)
    rec = PaperRecCNN(1)
    x = noise(4, 5, 1)
    rec(x)
    rng = np.random.default_rng(3)
    for norm in rec.norms:
        norm.set_weights([rng.uniform(0.5, 1.5, 64) for _ in range(4)])
    rec.conv20.set_weights([rng.normal(0, 0.1, (3, 3, 64, 1)), np.array([0.25])])

    upsampled = upsample_bicubic_mirrored(x)
    kernel, bias = rec.conv1.get_weights()
    y = tf.nn.relu(tf.nn.conv2d(upsampled, kernel, 1, "SAME") + bias)
    for convolution, norm in zip(rec.convs, rec.norms, strict=True):
        y = tf.nn.conv2d(y, convolution.kernel.value, 1, "SAME")
        gamma, beta, mean, variance = norm.get_weights()
        y = tf.nn.relu((y - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta)
    expected = upsampled + tf.nn.conv2d(y, rec.conv20.kernel.value, 1, "SAME") + 0.25
    np.testing.assert_allclose(rec(x), expected, rtol=1e-3, atol=1e-3)


def test_paper_statistics_move_in_training_only():
    keras.utils.set_random_seed(0)
    rec = PaperRecCNN(1)
    x = noise(4, 4, 1)
    rec(x)
    before = rec.norms[0].get_weights()[2:]
    rec(x, training=False)
    np.testing.assert_array_equal(rec.norms[0].get_weights()[2:], before)
    rec(x, training=True)
    assert any(np.any(a != b) for a, b in zip(rec.norms[0].get_weights()[2:], before, strict=True))


# --- the fast preset -----------------------------------------------------------------------------


def multiply_adds(network, height, width, monkeypatch):
    """Number of convolutions run, and the multiply-adds of all, for an input of a size."""
    counted = []
    call = keras.layers.Conv2D.call

    def counting(layer, x):
        y = call(layer, x)
        counted.append(int(np.prod(layer.kernel.shape)) * y.shape[1] * y.shape[2])
        return y

    with monkeypatch.context() as patch:
        patch.setattr(keras.layers.Conv2D, "call", counting)
        # Of two images: one alone does not call its layers, but folds them.
        network(np.zeros((2, height, width, network.channels), np.float32), np.array([50, 60]))
    return len(counted), sum(counted)


@pytest.mark.parametrize("scale, rec_convolutions", [(1, 16), (2, 16), (4, 13)])
@pytest.mark.parametrize("channels", [1, 3])
def test_fast_keeps_to_its_budget(channels, scale, rec_convolutions, cached_model, monkeypatch):
    model = cached_model("fast", channels, scale)
    pixels = 64 * 64
    convolutions, com = multiply_adds(model.com, 64, 64, monkeypatch)
    assert convolutions == 6 and 1_000 < com / pixels <= 15_000
    convolutions, rec = multiply_adds(model.rec, 64 // scale, 64 // scale, monkeypatch)
    assert convolutions == rec_convolutions and 10_000 < rec / pixels <= 70_000


def test_the_count_itself_on_the_papers_665_thousand(cached_model, monkeypatch):
    _, total = multiply_adds(cached_model("paper", 1).rec, 8, 8, monkeypatch)
    assert total == (640 - 64 + 18 * 36_864 + 576) * 16 * 16


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "scale, upsample",
    [
        (1, lambda x: x),
        (2, upsample_bicubic),
        (4, lambda x: upsample_bicubic(upsample_bicubic(x))),
    ],
)
def test_untrained_fast_is_plain_resampling(scale, upsample, size, channels, cached_model):
    """And emphasis, which the restoration undoes."""
    model = cached_model("fast", channels, scale)
    image, quality = noise(*size, channels), np.array([30])
    expected = downsample(pad_to_multiple(image, scale), scale)
    np.testing.assert_allclose(model.com(pad_to_multiple(image, scale), quality), expected)
    compact = model.compact(image, quality)
    np.testing.assert_array_equal(compact, model.rec.emphasise(expected, quality))
    image_hat = model.restore(compact, quality, *size)
    np.testing.assert_allclose(image_hat, crop(upsample(expected), *size), atol=2e-4)


@pytest.mark.parametrize("scale, least", [(1, 60), (2, 25), (4, 20)])
def test_untrained_fast_restoration_looks_like_the_picture(photos, scale, least, cached_model):
    model = cached_model("fast", 3, scale)
    for name, photo in photos.items():
        if photo.shape[-1] == 3:
            image = to_unit(photo[None])
            error = np.mean((np.asarray(model(image, np.array([50]))) - image) ** 2)
            assert -10 * np.log10(error) > least, name


@pytest.mark.parametrize("network", ["com", "rec"])
@pytest.mark.parametrize("layer", ["embedding", "modulation"])
def test_quality_matters_once_the_modulation_is_trained(network, layer):
    """A new model ignores quality; a trained one must not."""
    model = new_model("fast")
    part = getattr(model, network)
    image = noise(16, 16)
    qualities = [np.array([10]), np.array([90])]
    rng = np.random.default_rng(0)
    part.tail.set_weights([rng.normal(0, 0.1, w.shape) for w in part.tail.get_weights()])
    np.testing.assert_array_equal(*[part(image, quality) for quality in qualities])
    for block in part._flatten_layers():
        if hasattr(block, "modulation"):
            block.modulation.set_weights(
                [rng.normal(0, 0.3, w.shape) for w in block.modulation.get_weights()]
            )
    if layer == "embedding":
        # A dead embedding would make it deaf again.
        part.embedding.out.set_weights([np.zeros_like(w) for w in part.embedding.out.get_weights()])
        np.testing.assert_array_equal(*[part(image, quality) for quality in qualities])
    else:
        low, high = (np.asarray(part(image, quality)) for quality in qualities)
        assert np.abs(low - high).mean() > 1e-4


def test_each_item_of_a_batch_has_its_own_quality(small):
    image = noise(12, 10).repeat(2, axis=0)
    both = np.asarray(small(image, np.array([10, 90])))
    for item, quality in enumerate((10, 90)):
        alone = small(image[:1], np.array([quality]))
        np.testing.assert_allclose(both[item], alone[0], atol=1e-4)
    assert np.abs(both[0] - both[1]).max() > 1e-4


# --- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "preset, channels, scale", [("fast", 3, 1), ("fast", 3, 2), ("fast", 1, 4), ("paper", 1, 2)]
)
def test_any_height_and_width(preset, channels, scale, size, cached_model):
    model = cached_model(preset, channels, scale)
    image, quality = noise(*size, channels, batch=2), np.array([20, 80])
    compact = model.compact(image, quality)
    assert compact.shape == (2, -(-size[0] // scale), -(-size[1] // scale), channels)
    image_hat = model.restore(compact, quality, *size)
    assert image_hat.shape == image.shape and np.isfinite(image_hat).all()
    np.testing.assert_allclose(model(image, quality), image_hat, atol=1e-5)


def test_sizes_known_only_at_run_time(small):
    run = tf.function(
        lambda image, quality: small(image, quality),
        input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None,), tf.int32)],
    )
    for size in SIZES:
        image = noise(*size)
        np.testing.assert_allclose(run(image, [50]), small(image, np.array([50])), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preset, scale", [("fast", 1), ("fast", 2), ("fast", 4), ("paper", 2)])
def test_a_saved_model_computes_the_same(tmp_path, preset, scale, channels):
    model = randomised(new_model(preset, channels, scale), scale=0.01)
    path = tmp_path / "model.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.save(path)
        loaded = keras.saving.load_model(path, compile=False)
    assert type(loaded) is ComRec and loaded.name == preset
    assert loaded.get_config() == model.get_config()
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    image, quality = noise(9, 14, channels), np.array([35])
    np.testing.assert_array_equal(loaded(image, quality), model(image, quality))


def test_weights_alone_can_be_saved_and_loaded(tmp_path, small):
    path = tmp_path / "model.weights.h5"
    small.save_weights(path)
    other = ComRec.from_config(small.get_config())
    image, quality = noise(6, 6), np.array([35])
    assert np.any(np.asarray(other(image, quality)) != small(image, quality))
    other.load_weights(path)
    np.testing.assert_array_equal(other(image, quality), small(image, quality))


@pytest.mark.parametrize(
    "network",
    [
        FastComCNN(1, filters=12, blocks=3),
        FastRecCNN(1, filters=12, blocks=2, inner_blocks=3),
        PaperComCNN(3),
        PaperRecCNN(3),
    ],
    ids=lambda network: type(network).__name__,
)
def test_configuration_round_trip(network):
    config = keras.saving.serialize_keras_object(network)
    assert config["registered_name"] == f"cnn_compression>{type(network).__name__}"
    other = keras.saving.deserialize_keras_object(config)
    assert other.get_config() == network.get_config()
    image, quality = noise(8, 8, network.channels), np.array([50])
    network(image, quality), other(image, quality)
    assert [w.shape for w in other.weights] == [w.shape for w in network.weights]
    for attribute in ("channels", "filters", "blocks", "inner_filters", "inner_blocks"):
        assert getattr(other, attribute, None) == getattr(network, attribute, None)


@pytest.mark.parametrize("preset, scale", [("fast", 1), ("fast", 2), ("fast", 4), ("paper", 2)])
def test_gradients_are_finite_at_the_start_and_reach_every_last_layer(preset, scale):
    """Through the twin; the zero-initialised tails must get a gradient, or nothing would learn."""
    model = new_model(preset, 3, scale)
    side = 8 * max(scale, 2)  # one whole block of the compact image at least
    image, quality = tf.constant(noise(side, side, batch=2)), tf.constant([10, 90])

    with tf.GradientTape() as tape:
        compact_hat, bits = jpeg_twin(model.compact(image, quality, training=True), quality)
        image_hat = model.restore(compact_hat, quality, side, side, training=True)
        loss = tf.reduce_mean((image_hat - image) ** 2) + 1e-6 * tf.reduce_mean(bits)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])

    reached = {}
    for variable, slope in zip(model.trainable_variables, gradients, strict=True):
        assert slope is not None and np.isfinite(slope).all(), variable.path
        reached[variable.path] = bool(np.any(slope != 0))
    ends = {
        "fast": ["com/tail", "rec/tail", "rec/emphasis/log_gains"],
        "paper": ["com/conv3", "rec/conv20"],
    }[preset]
    for end in ends:
        assert reached[f"{preset}/{end}/kernel"] and reached[f"{preset}/{end}/bias"], end


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_mixed_precision_keeps_edges_and_weights_float32(preset):
    exact = randomised(new_model(preset, 3), scale=0.01)
    model = exact.in_precision("mixed_bfloat16")
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.variables} == {"float32"}
    image, quality = noise(12, 12), np.array([50])
    compact = model.compact(image, quality)
    image_hat = model.restore(compact, quality, 12, 12)
    for output in (compact, image_hat):
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
    # Narrow inside: close to the exact model, but not the same.
    inside = [layer.compute_dtype for layer in model._flatten_layers() if layer.name == "conv1"]
    assert inside and set(inside) == {"bfloat16"}
    difference = np.abs(np.asarray(compact) - exact.compact(image, quality))
    assert 0 < difference.max() < 0.1


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match=r"one of \['fast', 'paper'\]. Received: 'slow'"):
        ComRec.from_preset("slow")


@pytest.mark.parametrize(
    "preset, scale, known", [("fast", 3, r"\(1, 2, 4\)"), ("paper", 1, r"\(2,\)")]
)
def test_a_scale_that_a_network_does_not_have(preset, scale, known):
    with pytest.raises(ValueError, match=f"must be one of {known}. Received: {scale}"):
        ComRec.from_preset(preset, 3, scale)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_bit_is_worth_its_law(power):
    model = ComRec(FastComCNN(1), FastRecCNN(1), rate_weight=3.0, rate_power=power)
    quality = np.arange(1, 101)
    step = np.asarray(mean_luma_step(quality))
    np.testing.assert_allclose(
        model.rate_slope(quality), 3 * step * (step / 58) ** (power - 1), rtol=1e-5
    )


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="com 3, 1; rec 3, 2"):
        ComRec(FastComCNN(3, 1), FastRecCNN(3, 2))
    with pytest.raises(ValueError, match="share channels and scale. Received: com 1, 2; rec 3, 2"):
        ComRec(FastComCNN(1), FastRecCNN(3))


NEUTRAL = [
    *(f"tensors/{name}.py" for name in "colour dct levels resampling shapes texture".split()),
    *(f"models/{path.name}" for path in (PACKAGE / "models").glob("*.py")),
    "jpeg/twin.py",
    "training/objectives.py",
    "training/optimizers.py",
]


@pytest.mark.parametrize("file", NEUTRAL)
def test_models_and_what_they_stand_on_know_no_tensorflow(file):
    """Pure `keras.ops`, so that another Keras backend could run them."""
    imported = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported <= {"keras", "numpy", "cnn_compression", "math", "functools", "dataclasses"}
