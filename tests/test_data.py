"""Training batches: what is drawn depends on the seed and the sample's number alone."""

import collections
import logging
import threading
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.tensors import metrics
from cnn_compression.training.data import (
    CropSettings,
    ImageReader,
    TooManyBadFilesError,
    as_channels,
    list_images,
    split_held_out,
    training_batches,
)

TINY = CropSettings(crop_size=16, crops_per_image=1, grey_fraction=0.0)


class Pictures:
    """Images in memory where `training_batches` wants an `ImageReader`."""

    def __init__(self, pictures):
        self.files = pictures

    def __call__(self, number):
        return self.files[int(number)]


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def some_pictures(count=5, height=20, width=23):
    return Pictures([noise(height, width, seed=i) for i in range(count)])


def take(count, reader, settings, batch_size=4, seed=7, **kwargs):
    """The first batches as lists of images and of qualities."""
    batches = training_batches(reader, settings, batch_size, seed, **kwargs).take(count)
    images, qualities = zip(*batches.as_numpy_iterator(), strict=True)
    return list(images), list(qualities)


def draw(count, image, settings):
    """`count` crops of one image, and their qualities."""
    images, qualities = take(count // 10, Pictures([image]), settings, 10)
    return np.concatenate(images), np.concatenate(qualities)


def symmetries(image):
    """As it is, mirrored, transposed, both; as bytes, to be looked for in a set."""
    mirrored = image[:, ::-1]
    return [x.tobytes() for x in (image, mirrored, image.swapaxes(0, 1), mirrored.swapaxes(0, 1))]


def write_png(path, image):
    path.write_bytes(tf.io.encode_png(image).numpy())
    return path


# The order of samples.


@pytest.mark.parametrize("crops_per_image", [1, 3])
@pytest.mark.parametrize("first_step", [1, 3, 5])
def test_a_pipeline_can_start_at_any_step(crops_per_image, first_step):
    settings = CropSettings(crop_size=16, crops_per_image=crops_per_image, grey_fraction=0.3)
    images, qualities = take(8, some_pictures(), settings)
    later_images, later_qualities = take(3, some_pictures(), settings, first_step=first_step)
    np.testing.assert_array_equal(later_images, images[first_step : first_step + 3])
    np.testing.assert_array_equal(later_qualities, qualities[first_step : first_step + 3])


@pytest.mark.parametrize("crops_per_image", [1, 3])
def test_the_shares_of_two_workers_make_up_the_batch(crops_per_image):
    settings = CropSettings(crop_size=16, crops_per_image=crops_per_image)
    whole = take(5, some_pictures(), settings, first_step=1)
    shares = [
        take(5, some_pictures(), settings, first_step=1, worker=worker, workers=2)
        for worker in (0, 1)
    ]
    for of_whole, *of_shares in zip(whole, *shares, strict=True):
        np.testing.assert_array_equal(of_whole, np.concatenate(of_shares, axis=1))


@pytest.mark.parametrize("crops_per_image", [1, 2])
def test_an_epoch_visits_every_file_once_in_an_order_of_its_own(crops_per_image):
    settings = CropSettings(crop_size=16, crops_per_image=crops_per_image, grey_fraction=0.0)
    pictures = Pictures([np.full((16, 16, 3), i, np.uint8) for i in range(6)])

    def epochs(seed):
        images, _ = take(6 * crops_per_image, pictures, settings, batch_size=2, seed=seed)
        seen = np.array([[crop[0, 0, 0] for crop in batch] for batch in images])
        # The crops of one image go to batches that follow each other.
        seen = seen.reshape(6, crops_per_image, 2)
        assert (seen == seen[:, :1]).all()
        return seen[:, 0].reshape(2, 6).tolist()

    first, second = epochs(seed=7)
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second
    assert epochs(seed=8) != [first, second]


def test_one_file_is_enough():
    images, _ = take(3, Pictures([np.full((16, 16, 3), 9, np.uint8)]), TINY)
    assert np.unique(images) == [9]


def test_crops_of_one_image_and_of_two_epochs_differ():
    images, _ = take(4, some_pictures(1, 40, 40), CropSettings(crop_size=16, crops_per_image=2), 1)
    assert len({image.tobytes() for image in images}) == 4


# A sample.


def test_crops_are_windows_turned_and_mirrored_and_all_of_them_occur():
    image = noise(17, 18)
    windows = [image[y : y + 16, x : x + 16] for y in range(2) for x in range(3)]
    possible = [crop for window in windows for crop in symmetries(window)]
    counts = collections.Counter(crop.tobytes() for crop in draw(600, image, TINY)[0])
    assert counts.keys() == set(possible)
    # Each has a chance of 1/24: 25 are expected, with a standard deviation of 4.9.
    assert min(counts.values()) > 5 and max(counts.values()) < 50


@pytest.mark.parametrize("height, width", [(5, 7), (1, 1), (5, 20), (20, 3), (15, 16)])
def test_an_image_smaller_than_the_crop_is_continued_by_its_mirror_image(height, width):
    image = noise(height, width)
    padding = [(0, max(0, 16 - length)) for length in (height, width)]
    padded = np.pad(image, [*padding, (0, 0)], "symmetric")
    places = [(y, x) for y in range(padded.shape[0] - 15) for x in range(padded.shape[1] - 15)]
    possible = {c for y, x in places for c in symmetries(padded[y : y + 16, x : x + 16])}
    assert {crop.tobytes() for crop in draw(20, image, TINY)[0]} <= possible


def test_qualities_are_uniform_and_both_ends_are_drawn():
    settings = CropSettings(crop_size=16, min_quality=3, max_quality=7)
    values, counts = np.unique(draw(2000, noise(16, 16), settings)[1], return_counts=True)
    assert values.tolist() == [3, 4, 5, 6, 7]
    # 400 each are expected, with a standard deviation of 18.
    assert np.abs(counts - 400).max() < 90


def test_one_quality_alone_can_be_asked_for():
    settings = CropSettings(crop_size=16, min_quality=100, max_quality=100)
    assert set(draw(20, noise(16, 16), settings)[1]) == {100}


def test_grey_crops_are_the_luma_of_the_colour_ones():
    image = noise(30, 30)
    colour, _ = draw(10, image, TINY)
    grey, _ = draw(10, image, replace(TINY, grey_fraction=1.0))
    luma = metrics.luma(colour).numpy()
    np.testing.assert_array_equal(grey, np.repeat(luma, 3, axis=-1))
    np.testing.assert_array_equal(draw(10, image, replace(TINY, channels=1))[0], luma)


def test_the_share_of_grey_crops_is_what_was_asked():
    crops, _ = draw(1000, noise(20, 20), CropSettings(crop_size=16, grey_fraction=0.2))
    grey = (crops == crops[..., :1]).all(axis=(1, 2, 3)).sum()
    assert 140 < grey < 260  # 200 expected, with a standard deviation of 13


def test_as_channels():
    colour, grey = noise(4, 5), noise(4, 5, 1)
    np.testing.assert_array_equal(as_channels(tf.constant(colour), 3), colour)
    np.testing.assert_array_equal(as_channels(tf.constant(grey), 1), grey)
    np.testing.assert_array_equal(as_channels(tf.constant(grey), 3), np.repeat(grey, 3, axis=-1))
    # Rounded, not cut.
    luma = as_channels(tf.constant(colour), 1).numpy()[..., 0]
    np.testing.assert_allclose(luma, colour @ [0.299, 0.587, 0.114], atol=0.5 + 1e-4)


# Files.


@pytest.fixture
def files(tmp_path):
    """Four images, constant at 0, 10, 20, 30, of which those numbered 1 and 2 cannot be read."""
    paths = [
        write_png(tmp_path / f"{i}.png", np.full((16, 16, 3), 10 * i, np.uint8)) for i in range(4)
    ]
    paths[1].write_text("not a picture")
    paths[2].unlink()
    return paths


def test_unreadable_files_are_replaced_by_the_next_and_reported_once_by_name(files, caplog):
    reader = ImageReader(files)
    for _ in range(3):
        assert [int(reader(i)[0, 0, 0]) for i in range(4)] == [0, 30, 30, 30]
    reader.check()
    assert len(caplog.messages) == 2
    for message, path in zip(caplog.messages, files[1:3], strict=True):
        assert str(path) in message and "\n" not in message
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_bad_file_is_reported_once_by_many_threads(files, caplog):
    reader, barrier = ImageReader(files[:2]), threading.Barrier(8)

    def read():
        barrier.wait()
        reader(1)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caplog.messages) == 1


def test_beyond_the_limit_the_reader_stops_and_says_which_and_why(files):
    reader = ImageReader(files, max_bad_files=1)
    with pytest.raises(TooManyBadFilesError) as caught:
        reader(1)  # goes on to 2
    assert str(files[2]) in str(caught.value)
    assert "max_bad_files=1" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(TooManyBadFilesError):
        reader.check()


def test_where_no_file_can_be_read_the_reader_stops_below_the_limit_too(files):
    reader = ImageReader(files[1:3], max_bad_files=10)
    with pytest.raises(TooManyBadFilesError, match=r"none of the 2 files .*\.png: "):
        reader(0)
    for again in (reader.check, lambda: reader(1)):
        with pytest.raises(TooManyBadFilesError, match="none of the 2 files"):
            again()


def test_a_pipeline_goes_on_over_bad_files_and_stops_beyond_the_limit(files, caplog):
    images, _ = take(6, ImageReader(files), TINY)
    assert set(np.unique(images)) == {0, 30}
    assert len(caplog.messages) == 2
    reader = ImageReader(files, max_bad_files=1)
    with pytest.raises(tf.errors.OpError):
        take(6, reader, TINY)
    with pytest.raises(TooManyBadFilesError):
        reader.check()


def test_list_images_leaves_out_payloads_and_what_is_no_image(tmp_path):
    for name in ("b.png", "a.JPG", "a.cnn.jpg", "A.CNN.JPG", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images([tmp_path])] == ["a.JPG", "b.png"]
    assert list_images([tmp_path / "a.JPG", tmp_path]) == [
        tmp_path / name for name in ("a.JPG", "a.JPG", "b.png")
    ]


def test_list_images_says_which_folders_hold_none(tmp_path):
    with pytest.raises(ValueError, match=f"Received: {tmp_path}"):
        list_images([tmp_path])
    with pytest.raises(FileNotFoundError):
        list_images([tmp_path / "missing"])


def test_split_held_out_is_disjoint_complete_ordered_and_spread():
    for total in range(1, 30):
        files = list(range(total))
        for count in range(total):
            training, held_out = split_held_out(files, count)
            assert len(held_out) == count
            assert sorted(training + held_out) == files
            assert training == sorted(training) and held_out == sorted(held_out)
            gaps = np.diff(held_out)
            assert count < 2 or gaps.max() - gaps.min() <= 2


@pytest.mark.parametrize("count", [3, 4])
def test_holding_out_everything_is_refused(count):
    with pytest.raises(ValueError, match=f"{count + 1} or more, or --held_out .* Received: 3"):
        split_held_out([1, 2, 3], count)
