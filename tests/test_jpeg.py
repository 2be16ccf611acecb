"""The bytes codec against Pillow, which stands on libjpeg-turbo too."""

import io

import numpy as np
import pytest
import skimage
import tensorflow as tf
from PIL import Image

from cnn_compression.jpeg import coding


def by_pillow(image, quality, chroma="4:2:0"):
    """The same JPEG by Pillow: optimised, the smaller of two; TensorFlow writes 300 dpi."""
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    settings = {"quality": quality, "optimize": True, "dpi": (300, 300)}
    settings |= {} if image.shape[-1] == 1 else {"subsampling": chroma}
    files = []
    for progressive in (False, True):
        file = io.BytesIO()
        picture.save(file, "JPEG", progressive=progressive, **settings)
        files.append(file.getvalue())
    return min(files, key=len)


def read_by_pillow(data):
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels.reshape(*pixels.shape[:2], -1)


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 95, 100])
@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
def test_bytes_and_pixels_are_pillows(photos, quality, chroma):
    for name, photo in photos.items():
        image = photo[:-1, :-3]
        data = coding.encode(image, quality, chroma).numpy()
        assert data == by_pillow(image, quality, chroma), name
        decoded = coding.decode(data).numpy()
        assert decoded.shape == image.shape and decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, read_by_pillow(data), name)


def test_all_qualities_at_once_in_a_dataset(photos):
    """In graph mode the quality is a tensor; each one has a table of its own, finer and finer."""
    image = photos["coffee"][:48, :64]
    dataset = tf.data.Dataset.range(1, 101).map(
        lambda quality: coding.encode(image, tf.cast(quality, tf.int32))
    )
    files = list(dataset.as_numpy_iterator())
    assert [by_pillow(image, quality) for quality in range(1, 101)] == files
    tables = [sum(Image.open(io.BytesIO(data)).quantization[0]) for data in files]
    assert all(finer < coarser for coarser, finer in zip(tables, tables[1:], strict=False))


def test_fine_files_are_progressive_and_coarse_ones_baseline():
    image = skimage.data.astronaut()
    kinds = [
        Image.open(io.BytesIO(coding.encode(image, quality).numpy())).info.get("progressive", 0)
        for quality in (90, 30)
    ]
    assert kinds == [1, 0]


@pytest.mark.parametrize("quality", [0, 101, -1, 2**31 - 1, -(2**31)])
def test_quality_out_of_range_raises_eagerly_and_in_a_dataset(quality):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(tf.errors.InvalidArgumentError, match="quality must be in 1..100"):
        coding.encode(image, quality)
    dataset = tf.data.Dataset.from_tensors(quality).map(lambda q: coding.encode(image, q))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(dataset)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 19, 3), (23, 1, 1), (17, 9, 3)])
def test_any_size_and_colour_keeps_its_shape(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = coding.encode(image, 90)
    assert coding.decode(data).shape == shape
    assert coding.decode(data, channels=3).shape == (*shape[:2], 3)
    assert coding.decode(data, channels=1).shape == (*shape[:2], 1)


def test_a_flat_image_survives_any_quality():
    image = np.full((20, 30, 1), 128, np.uint8)
    for quality in (1, 50, 100):
        np.testing.assert_array_equal(coding.decode(coding.encode(image, quality)), image)


@pytest.mark.parametrize("kept", [0, 2, 100, 0.5, -1])
def test_truncated_data_raises(photos, kept):
    data = coding.encode(photos["rocket"], 50).numpy()
    kept = int(len(data) * kept) if isinstance(kept, float) else kept
    with pytest.raises(tf.errors.InvalidArgumentError):
        coding.decode(data[:kept])


def test_round_trip_is_one_by_one(photos):
    names, qualities = ("astronaut", "coffee", "chelsea"), np.array([5, 50, 95], np.int32)
    images = np.stack([photos[name] for name in names])
    expected = np.stack(
        [coding.decode(coding.encode(*item)) for item in zip(images, qualities, strict=True)]
    )
    batch = tf.constant(images)
    np.testing.assert_array_equal(coding.round_trip(batch, qualities), expected)
    unknown = tf.function(
        coding.round_trip,
        input_signature=[
            tf.TensorSpec((None, None, None, None), tf.uint8),
            tf.TensorSpec((None,), tf.int32),
        ],
    )
    np.testing.assert_array_equal(unknown(batch, qualities), expected)
    grey = batch[..., :1]
    assert coding.round_trip(grey, qualities).shape == grey.shape


def test_what_could_not_be_read_again_is_not_written():
    image = tf.zeros([8200, 65_500, 1], tf.uint8)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 536870911 samples"):
        coding.encode(image, 50)
