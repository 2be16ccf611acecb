"""image -> payload -> image, eagerly and in graphs, for arrays and tensors, one and many."""

import dataclasses
import io
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import cnn_compression
from cnn_compression.codec import Codec, fingerprint, model_files
from cnn_compression.codec.model_files import find_model, load_model
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.payload import layout
from cnn_compression.payload.layout import OtherModelError, PayloadError
from cnn_compression.tensors import metrics


def tiny_model(channels=3):
    model = ComRec(
        FastComCNN(channels, filters=8, blocks=1),
        FastRecCNN(channels, filters=8, blocks=0, inner_blocks=1),
    )
    # A third of a level: the mean of four pixels alone would lie on rounding edges everywhere.
    model.com.tail.bias.assign(np.full(channels, 0.33 / 255, np.float32))
    return model


def assert_same_pictures(payloads, others):
    """Up to single levels: batches and thread pools sum floats in another order.

    That may move a pixel of the compact image over a rounding edge before JPEG codes it.
    """
    for payload, other in zip(payloads, others, strict=True):
        header, other_header = layout.read_header(payload), layout.read_header(other)
        assert dataclasses.replace(header, checksum=b"") == dataclasses.replace(
            other_header, checksum=b""
        )
        difference = coding.decode(payload).numpy().astype(int) - coding.decode(other).numpy()
        assert np.abs(difference).mean() < 0.05


@pytest.fixture(scope="module")
def tiny():
    return Codec(tiny_model())


def test_arrays_give_bytes_and_arrays(tiny, photos):
    image = photos["coffee"]
    payload = tiny.encode(image, 50)
    image_hat = tiny.decode(payload)
    assert type(payload) is bytes
    assert type(image_hat) is np.ndarray
    assert image_hat.dtype == np.uint8
    assert image_hat.shape == image.shape
    assert metrics.psnr(image, image_hat) > 24


def test_tensors_give_tensors_of_the_same_values(tiny, photos):
    image = photos["coffee"]
    payload = tiny.encode(tf.constant(image), 50)
    assert payload.numpy() == tiny.encode(image, 50)
    np.testing.assert_array_equal(tiny.decode(payload), tiny.decode(payload.numpy()))


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (37, 1), (2, 2), (15, 17), (63, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back(tiny, shape, channels):
    image = np.full((*shape, channels), 117, np.uint8)
    payload = tiny.encode(image, 90)
    assert np.abs(tiny.decode(payload).astype(int) - 117).max() <= 8
    assert tiny.decode(payload).shape == image.shape


def test_header_says_what_was_encoded(tiny, photos):
    image = photos["camera"][:101, :77]
    header = layout.read_header(tiny.encode(image, 33))
    assert (header.height, header.width, header.channels) == (101, 77, 1)
    assert (header.scale, header.quality) == (2, 33)
    assert header.fingerprint == tiny.fingerprint


@pytest.mark.parametrize("name", ["astronaut", "camera"])
def test_payload_is_a_jpeg_of_the_image_s_own_kind(tiny, photos, name):
    image = photos[name]
    opened = Image.open(io.BytesIO(tiny.encode(image, 60)))
    assert opened.format == "JPEG"
    assert opened.mode == ("L" if image.shape[-1] == 1 else "RGB")
    assert opened.size == (image.shape[1] // 2, image.shape[0] // 2)


def test_batch_equals_one_by_one(tiny, photos):
    images = np.stack([photos["coffee"], photos["rocket"]])
    payloads = tiny.encode(images, [30, 60])
    alone = [tiny.encode(images[0], 30), tiny.encode(images[1], 60)]
    assert_same_pictures(payloads, alone)
    restored = tiny.decode(payloads)
    for payload, image_hat in zip(payloads, restored, strict=True):
        np.testing.assert_array_equal(image_hat, tiny.decode(payload))


def test_in_a_tf_data_pipeline(tiny, photos):
    """Single images, then batches, with the quality a tensor."""
    images = np.stack([photos["coffee"], photos["rocket"]])
    dataset = tf.data.Dataset.from_tensor_slices((images, [30, 60]))
    singles = list(dataset.map(tiny.encode).as_numpy_iterator())
    assert_same_pictures(singles, tiny.encode(images, [30, 60]))
    (batch,) = dataset.batch(2).map(tiny.encode).as_numpy_iterator()
    assert_same_pictures(batch, singles)
    decoded = list(tf.data.Dataset.from_tensor_slices(singles).map(tiny.decode))
    np.testing.assert_allclose(np.array(decoded, int), tiny.decode(singles), atol=1)
    (decoded_batch,) = tf.data.Dataset.from_tensors(singles).map(tiny.decode)
    np.testing.assert_allclose(np.array(decoded_batch, int), decoded, atol=1)


def test_pipeline_of_unknown_sizes_and_channels(tiny, photos):
    """As files come: grey and colour of several sizes, nothing of the shape known in the graph."""
    samples = [photos["camera"][:50, :70], photos["coffee"], photos["rocket"][:33]]
    dataset = tf.data.Dataset.from_generator(
        lambda: samples, output_signature=tf.TensorSpec((None, None, None), tf.uint8)
    )
    payloads = list(dataset.map(lambda image: tiny.encode(image, 40)).as_numpy_iterator())
    assert_same_pictures(payloads, [tiny.encode(image, 40) for image in samples])


def test_grey_equals_the_luma_of_its_colour_copy(tiny, photos):
    """A grey image goes through the networks as three equal channels, and only its luma is kept."""
    grey = photos["camera"]
    payload = tiny.encode(grey, 80)
    assert len(payload) < len(tiny.encode(np.repeat(grey, 3, axis=-1), 80))
    assert metrics.psnr(grey, tiny.decode(payload)) > 25


@pytest.mark.parametrize(
    "image, quality",
    [
        (np.zeros((8, 8, 3), np.uint8), 0),
        (np.zeros((8, 8, 3), np.uint8), 101),
        (np.zeros((8, 8, 3), np.uint8), "high"),
        (np.zeros((8, 8, 3), np.uint8), 50.0),
        (np.zeros((8, 8, 3), np.float32), 50),
        (np.zeros((8, 8, 2), np.uint8), 50),
        (np.zeros(8, np.uint8), 50),
        (np.array("image"), 50),
        (np.zeros((2, 8, 8, 3), np.uint8), [50, 50, 50]),
        (np.zeros((8, 8, 3), np.uint8), tf.constant(101)),
        (np.zeros((0, 8, 3), np.uint8), 50),
    ],
)
def test_encode_refuses(tiny, image, quality):
    with pytest.raises(ValueError, match="Received: "):
        tiny.encode(image, quality)


def test_encode_refuses_a_quality_in_a_graph(tiny):
    image = tf.zeros((8, 8, 3), tf.uint8)
    dataset = tf.data.Dataset.from_tensors(tf.constant(101)).map(lambda q: tiny.encode(image, q))
    with pytest.raises(tf.errors.InvalidArgumentError, match="quality must be in 1..100"):
        next(iter(dataset))


def test_decode_refuses(tiny, photos):
    payload = tiny.encode(photos["coffee"], 20)
    plain = coding.encode(photos["coffee"], 20).numpy()
    for bad in (b"", b"hello", plain):
        with pytest.raises(PayloadError, match="^not a payload"):
            tiny.decode(bad)
    for bad in (payload[:-1], payload[:200]):
        with pytest.raises(PayloadError, match="^damaged or cut short"):
            tiny.decode(bad)
    with pytest.raises(PayloadError, match="^damaged or cut short"):
        tiny.decode([payload, payload[:-1]])
    with pytest.raises(ValueError, match="images of one size"):
        tiny.decode([payload, tiny.encode(photos["coffee"][:50], 20)])
    for nothing in ([], tf.constant([], tf.string)):
        with pytest.raises(ValueError, match="at least one payload. Received: none"):
            tiny.decode(nothing)


def test_decode_takes_any_bytes(tiny, photos):
    payload = tiny.encode(photos["coffee"], 20)
    expected = tiny.decode(payload)
    for same in (bytearray(payload), memoryview(payload), np.bytes_(payload)):
        np.testing.assert_array_equal(tiny.decode(same), expected)


def test_decode_refuses_in_a_graph_with_the_same_words(tiny):
    dataset = tf.data.Dataset.from_tensors(b"hello").map(tiny.decode)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a payload"):
        next(iter(dataset))


def test_decode_names_both_models(tiny, photos):
    other = Codec(tiny_model())
    assert other.fingerprint != tiny.fingerprint
    with pytest.raises(OtherModelError) as error:
        other.decode(tiny.encode(photos["coffee"], 20))
    assert tiny.fingerprint in str(error.value)
    assert other.fingerprint in str(error.value)


def test_fingerprint_is_the_decoders(tiny):
    """What only ComCNN does to an image need not be known to restore it."""
    model = tiny_model()
    model.set_weights(tiny.model.get_weights())
    assert fingerprint(model) == tiny.fingerprint
    model.com.tail.bias.assign([0.1, 0.1, 0.1])
    assert fingerprint(model) == tiny.fingerprint
    model.rec.tail.bias.assign(np.full(12, 1e-6, np.float32))
    assert fingerprint(model) != tiny.fingerprint


def test_luma_model_takes_grey_images_only(photos):
    codec = Codec(tiny_model(channels=1))
    grey = photos["camera"]
    assert metrics.psnr(grey, codec.decode(codec.encode(grey, 50))) > 24
    with pytest.raises(ValueError, match=r"C in \(1,\)"):
        codec.encode(photos["coffee"], 50)


def test_models_are_found_by_name_and_by_path(tiny, tmp_path, monkeypatch):
    for version in (2, 10):
        model_files.write_exported(tiny.model, tmp_path / "mine" / str(version))
    (tmp_path / "mine" / "11").mkdir()  # without a model in it
    newest = tmp_path / "mine" / "10"
    file = newest / model_files.EXPORTED_FILE
    monkeypatch.setattr(model_files, "model_folders", lambda: [tmp_path])
    for place in ("mine", tmp_path / "mine", newest, file):
        assert find_model(place) == file
        loaded = cnn_compression.load(place)
        assert (loaded.name, loaded.fingerprint) == ("mine", tiny.fingerprint)
    with pytest.raises(ValueError, match="one of mine, .*Received: 'other'"):
        find_model("other")


def test_a_new_version_is_loaded_and_a_training_run_too(tiny, tmp_path):
    for version in (1, 2):
        folder = tmp_path / "mine" / str(version)
        model_files.write_exported(tiny.model, folder)
        assert find_model(tmp_path / "mine") == folder / model_files.EXPORTED_FILE
    run = tmp_path / "run" / "model.keras"
    run.parent.mkdir()
    tiny.model.save(run)
    assert cnn_compression.load(tmp_path / "run").name == "run"


def test_load_model_refuses_what_is_none(tmp_path):
    with pytest.raises(ValueError, match="expected a model"):
        load_model(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"hello")
    with pytest.raises(ValueError, match="cannot be read as a model"):
        load_model(tmp_path)


def test_an_exported_model_keeps_its_weights_once(tiny, tmp_path):
    model_files.write_exported(tiny.model, tmp_path / "1")
    loaded = load_model(tmp_path)
    for value, other in zip(loaded.get_weights(), tiny.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert size < 8 * tiny.model.count_params() + 100_000
    (tmp_path / "1" / "variables" / "variables.index").unlink()
    with pytest.raises(ValueError, match="cannot be read as a model"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket", "camera"])
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_default_preview_looks_like_the_picture(codec, photos, name, quality):
    image = photos[name]
    preview = coding.decode(codec.encode(image, quality))
    size = preview.shape[:2]
    plain = tf.cast(tf.round(tf.image.resize(image, size, "area")), tf.uint8)
    assert metrics.psnr(plain, preview) >= 20


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket", "camera"])
def test_default_quality_is_worth_its_bytes(codec, photos, name):
    """Bytes and PSNR rise with quality, in all scales, and beat a JPEG of no more bytes."""
    image = photos[name]
    payloads = [codec.encode(image, quality) for quality in (10, 30, 50, 70, 90)]
    sizes = [len(payload) for payload in payloads]
    values = [float(metrics.psnr(image, codec.decode(payload))) for payload in payloads]
    assert sizes == sorted(sizes)
    assert values == sorted(values)
    plain = [coding.encode(image, quality).numpy() for quality in range(1, 96)]
    for size, value in zip(sizes[1:], values[1:], strict=True):
        fitting = [data for data in plain if len(data) <= size] or plain[:1]
        assert value > float(metrics.psnr(image, coding.decode(fitting[-1])))


@pytest.mark.parametrize("tile", [0, -256, 128, 300])
def test_tiles_are_multiples_of_256(tiny, tile):
    with pytest.raises(ValueError, match=f"tile must be a multiple of 256. Received: {tile}"):
        Codec(tiny.model, tile=tile)


def test_sides_end_where_jpeg_s_end(codec):
    strip = np.tile(np.arange(250, dtype=np.uint8), (3, 262, 1)).reshape(3, 65_500, 1)
    restored = codec.decode(codec.encode(strip, 50))
    assert restored.shape == strip.shape
    too_long = np.zeros((65_501, 1, 1), np.uint8)
    with pytest.raises(ValueError, match="expected sides of 65500 at most. Received: 65501 x 1"):
        codec.encode(too_long)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected sides of 65500 at most"):
        codec.encoder()(tf.constant(too_long), tf.constant(50))


# What people hand over.


def test_a_picture_is_a_path_an_image_of_pillow_or_an_array(tiny, photos, tmp_path):
    colour, grey = photos["coffee"][:40, :56], photos["camera"][:40, :56, 0]
    for image in (colour, grey):
        expected = tiny.encode(image if image.ndim == 3 else image[..., None], 30)
        file = tmp_path / f"{image.ndim}.png"
        Image.fromarray(image).save(file)
        for given in (file, str(file), Image.fromarray(image), image):
            assert tiny.encode(given, 30) == expected
        assert tiny.encode(tf.constant(image), 30).numpy() == expected
        payload_file = tmp_path / f"{image.ndim}.cnn.jpg"
        payload_file.write_bytes(expected)
        restored = tiny.decode(expected)
        for given in (payload_file, str(payload_file)):
            np.testing.assert_array_equal(tiny.decode(given), restored)
    assert tiny.encode_to(grey, target_bpp=50) == tiny.encode_to(file, target_bpp=50)
    both = [tiny.encode(colour, 30)] * 2
    restored = tiny.decode([tmp_path / "3.cnn.jpg", both[1]])
    np.testing.assert_array_equal(restored, tiny.decode(both))


def test_what_a_path_has_to_say_names_it(tiny, tmp_path):
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(tmp_path / "clear.png")
    (tmp_path / "text.png").write_bytes(b"text")
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"clear.png: .*flatten"):
        tiny.encode(tmp_path / "clear.png")
    with pytest.raises(ValueError, match="text.png: not an image"):
        tiny.encode(str(tmp_path / "text.png"))
    with pytest.raises(FileNotFoundError, match="gone.png"):
        tiny.encode(tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError, match="gone.jpg"):
        tiny.decode(tmp_path / "gone.jpg")
    with pytest.warns(UserWarning, match="deep.png: 16-bit") as warned:
        tiny.encode(tmp_path / "deep.png")
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    "dtype, shape, values",
    [
        ("float32", (8, 6, 3), 1),
        ("float64", (8, 6), 1),
        ("float16", (2, 8, 6, 1), 255),
        ("float32", (8, 6, 4), 1),
        ("uint8", (8, 6, 4), 255),
        ("uint8", (8, 6, 2), 255),
        ("uint8", (2, 8, 6, 4), 255),
        ("uint8", (3, 8, 6), 255),
        ("float32", (3, 8, 6), 1),
        ("uint16", (8, 6, 3), 65535),
        ("bool", (8, 6), 1),
        ("int64", (8, 6, 3), 255),
    ],
)
def test_an_array_that_cannot_be_is_refused_with_the_line_that_mends_it(tiny, dtype, shape, values):
    image = np.random.default_rng(0).random(shape) * values
    image = (image if "float" in dtype else image.round()).astype(dtype)
    with pytest.raises(ValueError, match="Received: ") as error:
        tiny.encode(image)
    [cure] = re.findall(r": pass (.*)\. Received: ", str(error.value))
    pixels = eval(cure, {"image": image, "np": np})
    assert tiny.encode(pixels)
    depth = 1 if len(shape) == 2 or shape[-1] in (1, 2) else 3
    assert pixels.shape[-1] == depth or pixels.ndim == 2
    spread = pixels.astype(int).max() - pixels.min()
    assert spread > 150  # it is the picture, not black


def test_a_tensor_and_a_picture_of_pillow_have_their_own_cure(tiny):
    image = tf.random.uniform((8, 6, 4))
    with pytest.raises(ValueError, match="Received: float32") as error:
        tiny.encode(image)
    [cure] = re.findall(r": pass (.*)\. Received: ", str(error.value))
    assert eval(cure, {"image": image, "tf": tf}).shape == (8, 6, 3)
    for mode in ("RGBA", "LA", "P", "1", "CMYK", "I;16"):
        image = Image.new(mode, (8, 6))
        with pytest.raises(ValueError, match=f"Received: mode {mode}$") as error:
            tiny.encode(image)
        [cure] = re.findall(r": pass (.*)\. Received: ", str(error.value))
        assert tiny.encode(eval(cure, {"image": image, "np": np}))
