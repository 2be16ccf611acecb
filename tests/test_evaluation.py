"""Evaluation on held-out images: real bytes, strips; and the log of a run."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_compression.codec import Codec
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.training import evaluation
from cnn_compression.training.data import ImageReader
from cnn_compression.training.evaluation import HeldOutEvaluation, RunLog, strip


@pytest.fixture(scope="module", params=[3, 1], ids=["colour", "luma"])
def model(request):
    keras.utils.set_random_seed(1)
    channels = request.param
    return ComRec(
        FastComCNN(channels, filters=8, blocks=1),
        FastRecCNN(channels, filters=8, blocks=1, inner_blocks=1),
    )


@pytest.fixture(scope="module")
def files(photos, tmp_path_factory):
    """A colour and a grey photograph, of odd sizes, and between them what is none."""
    folder = tmp_path_factory.mktemp("held_out")
    pictures = {"0.png": photos["coffee"][:101, :83], "2.png": photos["camera"][:60, :141]}
    for name, picture in pictures.items():
        (folder / name).write_bytes(tf.io.encode_png(picture).numpy())
    (folder / "1.png").write_text("not a picture")
    return [folder / f"{i}.png" for i in range(3)]


@pytest.mark.slow
def test_figures_are_means_over_real_payloads_of_the_middles(model, files):
    held_out = HeldOutEvaluation(ImageReader(files), model.channels, size=80)
    assert [image.shape[:2] for image in held_out.images] == [(80, 80), (60, 80)]
    found, strips = held_out(model)
    assert len(found) == 6 and len(strips) == 2
    codec = Codec(model)
    for quality in (15, 40, 75):
        psnr, bpp = [], []
        for image in held_out.images:
            payload = codec.encode(image, quality)
            error = codec.decode(payload).astype(float) - image
            psnr.append(10 * np.log10(255**2 / np.mean(error**2)))
            bpp.append(8 * len(payload) / (image.shape[0] * image.shape[1]))
        assert found[f"psnr/q{quality}"] == pytest.approx(np.mean(psnr), abs=1e-3)
        assert found[f"bpp/q{quality}"] == pytest.approx(np.mean(bpp), rel=1e-6)
        if quality == 40:
            preview = coding.decode(payload).numpy()
            expected = strip(image, preview, codec.decode(payload))
            np.testing.assert_array_equal(strips[1], expected)


def test_the_middle_of_an_image_is_cut_with_the_models_channels(photos, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(tf.io.encode_png(photos["chelsea"]).numpy())
    (middle,) = HeldOutEvaluation(ImageReader([path]), 3, size=100).images
    np.testing.assert_array_equal(middle, photos["chelsea"][46:146, 78:178])
    (middle,) = HeldOutEvaluation(ImageReader([path]), 1, size=100).images
    assert middle.shape == (100, 100, 1)


def test_as_many_strips_as_asked_and_none_without_images(model, files):
    readers = [ImageReader(files[::2]), ImageReader([])]
    counts = [len(HeldOutEvaluation(r, model.channels, 64, strips=1)(model)[1]) for r in readers]
    assert counts == [1, 0]
    assert HeldOutEvaluation(readers[1], model.channels)(model) == ({}, [])


def test_a_strip_is_original_preview_restored_side_by_side():
    image, image_hat = (np.full((5, 7, 3), level, np.uint8) for level in (10, 30))
    preview = np.full((3, 4, 3), 20, np.uint8)
    canvas = strip(image, preview, image_hat, size=8)
    assert canvas.shape == (8, 24, 3) and canvas.dtype == np.uint8
    for column, level in enumerate((10, 20, 30)):
        picture = canvas[:, 8 * column : 8 * column + 8]
        assert (picture[:5, :7] == level).all()
        assert not picture[5:].any() and not picture[:, 7:].any()


def test_a_strip_shows_the_upper_left_of_large_images():
    rng = np.random.default_rng(0)
    image, image_hat = (rng.integers(0, 256, (20, 16, 1), np.uint8) for _ in range(2))
    preview = image[::2, ::2]
    canvas = strip(image, preview, image_hat, size=8)
    np.testing.assert_array_equal(canvas[:, :8], image[:8, :8])
    np.testing.assert_array_equal(canvas[:, 8:16], preview[:4, :4].repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(canvas[:, 16:], image_hat[:8, :8])


# The log.


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only by `clock.now += seconds`."""
    clock = types.SimpleNamespace(now=100.0)
    fake = types.SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr(evaluation, "time", fake)
    return clock


def test_input_wait_and_images_per_second_are_shares_of_the_steps(clock, tmp_path, caplog):
    log = RunLog(tmp_path, batch_size=6)

    def batches():
        while True:
            clock.now += 1.0
            yield "batch"

    source = batches()
    caplog.set_level("INFO")
    for lines in (1, 2):
        for _ in range(4):
            assert log.next_batch(source) == "batch"
            clock.now += 3.0  # the step
            log.done("joint", {"loss": tf.constant(2.0), "mse": tf.constant(65.025)})
        log.write(4 * lines, {"joint": 0.1})
        with log.paused():
            clock.now += 50.0  # an evaluation
    events = EventAccumulator(str(tmp_path)).Reload()
    expected = {"input_wait": 0.25, "images_per_second": 1.5, "loss": 2.0, "psnr": 30.0}
    for name, value in expected.items():
        found = events.Tensors(f"joint/{name}")
        assert [event.step for event in found] == [4, 8]
        assert [tf.make_ndarray(e.tensor_proto).item() for e in found] == pytest.approx([value] * 2)
    assert [m for m in caplog.messages if m.startswith("step 8 joint loss 2 mse 65.03 ")]
