"""Latent models as SavedModels: pixels to codes and back, and `load` reads what was exported."""

import latent_models
import numpy as np
import pytest
import tensorflow as tf

import cnn_compression
from cnn_compression.codec.model_files import latent_family
from cnn_compression.export import export
from cnn_compression.export.onnx_models import export_onnx

SLOW = pytest.param("progressive", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["bottleneck", SLOW])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    (folder / "run").mkdir()
    getattr(latent_models, request.param)().save(folder / "run" / "model.keras")
    return export(folder / "run", "small", folder / "saved_models")


def test_signatures_give_what_the_codec_gives(exported):
    codec, served = cnn_compression.load(exported), tf.saved_model.load(str(exported))
    assert sorted(served.signatures) == ["analyse", "synthesise"]
    images, quality = np.stack([latent_models.photo(40, 56)] * 2), tf.constant([3, 3])
    codes = served.signatures["analyse"](pixels=tf.constant(images), quality=quality)["codes"]
    expected = codec.analyse(tf.constant(images[0]), 3)
    np.testing.assert_array_equal(codes[1], expected)
    pixels = served.signatures["synthesise"](codes=codes, quality=quality)["pixels"]
    assert pixels.dtype == tf.uint8 and pixels.shape[0] == 2
    image_hat = codec.decode(codec.encode(images[0], 3)).astype(int)
    assert np.abs(pixels[1, :40, :56].numpy() - image_hat).max() <= 1


def test_qualities_that_are_none_are_refused(exported):
    served = tf.saved_model.load(str(exported))
    analyse, synthesise = (served.signatures[name] for name in ("analyse", "synthesise"))
    pixels = tf.constant(latent_models.photo(32, 32)[None])
    codes = analyse(pixels=pixels, quality=tf.constant([3]))["codes"]
    for quality in (tf.constant([0]), tf.constant([101])):
        for call in (lambda q: analyse(pixels=pixels, quality=q),
                     lambda q: synthesise(codes=codes, quality=q)):  # fmt: skip
            with pytest.raises(tf.errors.InvalidArgumentError, match="expected qualities of 1.."):
                call(quality)


def test_more_pixels_than_the_export_was_told_are_refused(exported, tmp_path):
    served = tf.saved_model.load(str(export(exported, "few", tmp_path, max_pixels=48 * 64)))
    analyse, synthesise = (served.signatures[name] for name in ("analyse", "synthesise"))
    quality = tf.constant([3])
    codes = analyse(pixels=tf.constant(latent_models.photo(48, 63)[None]), quality=quality)["codes"]
    assert synthesise(codes=codes, quality=quality)["pixels"].shape == (1, 48, 64, 3)
    thin = tf.constant(np.zeros((1, 1, 800, 3), np.uint8))
    for call in (lambda: analyse(pixels=thin, quality=quality),
                 lambda: synthesise(codes=tf.concat([codes] * 2, 1), quality=quality)):  # fmt: skip
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most 3072 pixels in whole"):
            call()


def test_what_was_exported_is_loaded_by_its_name(exported):
    codec = cnn_compression.load(exported.parent)
    assert codec.name == "small" and codec.family == latent_family(exported.parent)
    assert codec.decode(codec.encode(latent_models.photo(9, 9))).shape == (9, 9, 3)


def test_there_is_no_onnx_and_no_joining(exported, tmp_path):
    with pytest.raises(ValueError, match="is not exported to ONNX"):
        export_onnx(exported, output=tmp_path)
    with pytest.raises(ValueError, match="expected models around JPEG.*Received: small"):
        export([exported, exported], output=tmp_path)
    assert not [*tmp_path.iterdir()]
