"""Settings of a whole process that a host may have changed: nothing of ours follows them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pairs import RANGES, pair

from cnn_compression.codec import Codec
from cnn_compression.codec.model_files import load_model
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.multi_scale import MultiScale
from cnn_compression.tensors import metrics
from cnn_compression.training.config import TrainConfig
from cnn_compression.training.trainer import Trainer

SEED = 7


@pytest.fixture
def strange_keras():
    """All of Keras' settings at once as a host may have them."""
    config = keras.config
    before = config.image_data_format(), config.floatx(), config.dtype_policy(), config.epsilon()
    config.set_image_data_format("channels_first")
    config.set_floatx("float64")
    config.set_dtype_policy("mixed_float16")
    config.set_epsilon(1e-2)
    yield
    config.set_image_data_format(before[0])
    config.set_floatx(before[1])
    config.set_dtype_policy(before[2])
    config.set_epsilon(before[3])


@pytest.fixture
def checked_numerics():
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.fixture
def eager_functions():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


FLAT = np.full((16, 16, 3), 128, np.uint8)  # comes back exactly


def small_pair(scale=2):
    """A small pair whose weights are all the seed's."""
    keras.utils.set_random_seed(SEED)
    model = pair(scale)
    tail = model.rec.tail
    tail.kernel.assign(np.random.default_rng(1).normal(0, 0.01, tail.kernel.shape))
    return model


@pytest.fixture(scope="module")
def scene(photos):
    return photos["coffee"][:48, :40]


def coded(codec, image):
    """What a codec makes of an image, of its grey copy, and of a flat one."""
    payloads = [codec.encode(image, quality) for quality in (20, 90)]
    payloads += [codec.encode(image[..., :1], 60), codec.encode(FLAT, 50)]
    return payloads, [codec.decode(payload) for payload in payloads]


@pytest.fixture(scope="module")
def usual():
    """The codec under no setting of a host's."""
    return Codec(small_pair())


@pytest.fixture(scope="module")
def expected(usual, scene):
    return usual.fingerprint, *coded(usual, scene)


def assert_as_expected(codec, scene, expected):
    payloads, restored = coded(codec, scene)
    assert (codec.fingerprint, payloads) == expected[:2]
    for image_hat, other in zip(restored, expected[2], strict=True):
        np.testing.assert_array_equal(image_hat, other)


def test_keras_settings_change_no_byte(expected, scene, strange_keras):
    assert_as_expected(Codec(small_pair()), scene, expected)


def test_a_model_loads_as_ever_under_keras_settings(strange_keras):
    model = load_model("default")
    assert {variable.dtype for variable in model.variables} == {"float32"}
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]
    assert {layer.compute_dtype for layer in layers} == {"float32"}
    formats = {layer.data_format for layer in layers if hasattr(layer, "data_format")}
    assert formats == {"channels_last"}


@pytest.mark.parametrize("preset", ["fast", "paper"])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_every_family_are_built_alike(preset, channels, request):
    image = np.random.default_rng(0).random((1, 16, 16, channels), np.float32)

    def outputs():
        keras.utils.set_random_seed(SEED)
        model = ComRec.from_preset(preset, channels, 2)
        return model(image, np.array([30])).numpy()

    plain = outputs()
    request.getfixturevalue("strange_keras")
    np.testing.assert_array_equal(outputs(), plain)


@pytest.mark.slow
def test_training_takes_the_same_steps_under_keras_settings(photos, tmp_path, request):
    for number, name in enumerate(("astronaut", "chelsea")):
        file = tf.io.encode_png(photos[name][:48, :48]).numpy()
        (tmp_path / f"{number}.png").write_bytes(file)
    config = TrainConfig(
        data=(str(tmp_path),), output=str(tmp_path / "run"), strategy="one_device", held_out=0,
        rec="filters=8,blocks=0,inner_filters=8,inner_blocks=1", batch_size=2, crop_size=32,
        steps=20, finish_steps=0, warmup_steps=3,
    )  # fmt: skip

    def weights():
        trainer = Trainer(config)
        batches = trainer.batches(0)
        for step in range(4):  # from the third on the rate is no whole number of quarters
            trainer.train_step(step, next(batches))
        return [*trainer.model.get_weights(), *trainer.averaged_model().get_weights()]

    plain = weights()
    request.getfixturevalue("strange_keras")
    for a, b in zip(weights(), plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bfloat16_leaves_the_hosts_policy_alone():
    before = keras.config.dtype_policy()
    model = ComRec.from_preset("paper", 1, precision="mixed_bfloat16")
    assert keras.config.dtype_policy() is before
    inner = [model.com.conv1, model.rec.conv1, *model.rec.convs, *model.rec.norms]
    assert {layer.compute_dtype for layer in inner} == {"bfloat16"}
    assert {layer.compute_dtype for layer in (model.com.conv3, model.rec.conv20)} == {"float32"}
    wide = model.in_precision("float32")
    assert {layer.compute_dtype for layer in wide._flatten_layers()} == {"float32"}
    for a, b in zip(wide.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_functions_run_eagerly_give_the_same(expected, scene, eager_functions):
    assert_as_expected(Codec(small_pair()), scene, expected)


@pytest.mark.slow
def test_no_infinity_or_nan_where_a_host_looks_for_them(scene, checked_numerics):
    codec = Codec(MultiScale([small_pair(2), small_pair(1)], RANGES))
    for image in (scene, scene[..., :1]):
        assert codec.decode(codec.encode(image, 60)).shape == image.shape
    assert len(codec.encode_to(FLAT, target_psnr=45.0)) > 0
    assert len(codec.encode_to(scene, target_bytes=1500)) <= 1500


@pytest.mark.slow
def test_effort_meets_no_infinity_or_nan_either(scene, checked_numerics):
    assert len(Codec(small_pair()).encode(scene, 30, effort=1)) > 0


def test_psnr_of_what_comes_back_exactly_is_a_number(usual):
    class Exact(Codec):
        def restore(self, compact_hat, header):
            return tf.constant(FLAT)

    codec = Exact(usual.model)
    assert np.isinf(metrics.psnr(FLAT, FLAT))
    assert 200 < codec.psnr_of(FLAT, tf.constant(usual.encode(FLAT, 60))) < np.inf
