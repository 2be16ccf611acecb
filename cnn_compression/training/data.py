"""`tf.data`: files -> decoded images -> crops -> batches; and TFRecord files of payloads.

Everything that is drawn (order, crop, flip, quality) is a function of the seed and of the sample's
number alone, so that a pipeline can start at any step and give what it would have given there.

An example of a TFRecord file is a `tf.train.Example` with the image file's bytes under
`image/encoded` and its format under `image/format`, as TensorFlow's own datasets have it; whatever
else it has stays.
"""

import logging
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from cnn_compression import images
from cnn_compression.files import find_files, is_image_name
from cnn_compression.payload.layout import MAX_PIXELS
from cnn_compression.tensors.metrics import luma

_log = logging.getLogger(__name__)

ENCODED, FORMAT = "image/encoded", "image/format"
PAYLOAD_FORMAT = b"cnn.jpg"


class TooManyBadFilesError(RuntimeError):
    """More files than the limit could not be read."""


class ImageReader:
    """Reads the images of a list by their number; an unreadable file is replaced by the next one.

    Each bad file is logged once, by name.

    Args:
        files: list of paths.
        max_bad_files: how many may be unreadable.
        colour: as of `images.read`.
    """

    def __init__(self, files, max_bad_files=10, colour="srgb"):
        self.files = list(files)
        self.max_bad_files = max_bad_files
        self.colour = colour
        self._bad = {}
        self._lock = threading.Lock()

    def __call__(self, number):
        """The image at `number`: uint8 `[H, W, 1]` or `[H, W, 3]`; transparency goes on white.

        Raises:
            TooManyBadFilesError: where more than `max_bad_files` were found, with the last reason.
        """
        position = int(number)
        while (image := self.read(position % len(self.files))) is None:
            self.check()  # raises once every file was tried
            position += 1
        return image

    def read(self, position):
        """The image at `position`, or None where it cannot be read."""
        if position in self._bad:
            return None
        try:
            return images.read(self.files[position], (255, 255, 255), colour=self.colour)[0]
        except (OSError, ValueError) as error:
            self._refuse(position, error)
            return None

    def check(self):
        """Raises `TooManyBadFilesError` where the limit is passed, or no file is left."""
        if len(self._bad) > self.max_bad_files:
            limit = f"more than max_bad_files={self.max_bad_files}"
            problem = f"{len(self._bad)} unreadable files, {limit}"
        elif len(self._bad) == len(self.files):
            problem = f"none of the {len(self.files)} files can be read"
        else:
            return
        position, reason = list(self._bad.items())[-1]
        raise TooManyBadFilesError(f"{problem}; the last: {self.files[position]}: {reason}")

    def _refuse(self, position, error):
        with self._lock:
            if position not in self._bad:
                self._bad[position] = error
                _log.warning("skipped %s: %s", self.files[position], error)
        self.check()


@dataclass(frozen=True)
class CropSettings:
    """What a training sample looks like.

    Attributes:
        crop_size: side of the square crops, pixels.
        crops_per_image: crops taken each time an image is decoded; they go to different batches.
        channels: 1 for luma, 3 for RGB.
        grey_fraction: share of the RGB crops that are turned grey, for the one-channel payloads.
        min_quality, max_quality: the quality of a sample is uniform over these, both included.
    """

    crop_size: int = 128
    crops_per_image: int = 4
    channels: int = 3
    grey_fraction: float = 0.05
    min_quality: int = 5
    max_quality: int = 95


def list_images(folders):
    """The image files of folders (and files), payloads left out.

    Raises:
        FileNotFoundError: where one is missing.
        ValueError: where they hold no image.
    """
    files = find_files(folders, is_image_name)
    if not files:
        raise ValueError(f"expected folders with images. Received: {', '.join(map(str, folders))}")
    return files


def split_held_out(files, count):
    """Training and held-out files: `count` of them, spread evenly over the list."""
    if count >= len(files):
        raise ValueError(
            f"expected photographs: {count + 1} or more, or --held_out below their number, since "
            f"{count} are kept from training. Received: {len(files)}"
        )
    held_out = {round((i + 0.5) * len(files) / count) for i in range(count)} if count else set()
    return (
        [file for i, file in enumerate(files) if i not in held_out],
        [file for i, file in enumerate(files) if i in held_out],
    )


def training_batches(reader, settings, batch_size, seed, first_step=0, worker=0, workers=1):
    """Endless batches of crops and qualities.

    Samples are numbered through; batch `step` of the global batch size has samples
    `step * batch_size ..`. Files are shuffled anew each epoch.

    Args:
        reader: `ImageReader`.
        settings: `CropSettings`.
        batch_size: over all workers; each of them gets an equal share of every batch.
        seed: int.
        first_step: number of the first batch given.
        worker, workers: whose share this is.

    Returns:
        `tf.data.Dataset` of (uint8 `[B, S, S, C]`, int32 `[B]`) with B = batch_size / workers.
    """
    share, repeats = batch_size // workers, settings.crops_per_image
    count = len(reader.files)

    def locate(image_number):
        chunk, row = image_number // share, image_number % share
        number = chunk * batch_size + worker * share + row
        epoch, position = number // count, number % count
        file = tf.random.experimental.index_shuffle(position, [seed, epoch], count - 1)
        return number, file

    def sample(number, file):
        image = tf.py_function(reader, [file], tf.uint8)
        image = as_channels(tf.ensure_shape(image, [None, None, None]), settings.channels)
        seeds = [[seed, number * repeats + k] for k in range(repeats)]
        crops, qualities = zip(*[_draw(image, s, settings) for s in seeds], strict=True)
        return tf.stack(crops), tf.stack(qualities)

    first_chunk, skipped = divmod(first_step, repeats)
    numbers = tf.data.Dataset.range(first_chunk * share, np.iinfo(np.int64).max)
    chunks = (
        numbers.map(locate)
        .map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(share, drop_remainder=True)
    )
    batches = chunks.map(lambda x, q: (tf.transpose(x, [1, 0, 2, 3, 4]), tf.transpose(q)))
    return batches.unbatch().skip(skipped).prefetch(tf.data.AUTOTUNE)


def as_channels(image, channels):
    """uint8 `[H, W, 1 or 3]` to `[H, W, channels]`: luma, or grey repeated."""
    has = tf.shape(image)[-1]
    if channels == 3:
        image = tf.cond(has == 1, lambda: tf.repeat(image, 3, axis=-1), lambda: image)
    else:
        image = tf.cond(has == 3, lambda: _luma(image), lambda: image)
    return tf.ensure_shape(image, [None, None, channels])


def _luma(image):
    return luma(tf.ensure_shape(image, [None, None, 3]))


def _draw(image, seed, settings):
    """A random crop, turned and mirrored at random, and its quality."""
    size = settings.crop_size
    draws = tf.random.stateless_uniform([6], seed)
    quality = settings.min_quality + tf.cast(
        draws[5] * (settings.max_quality - settings.min_quality + 1), tf.int32
    )
    for axis in (0, 1):
        # An image smaller than the crop is continued by its mirror image.
        length = tf.shape(image)[axis]
        places = tf.maximum(length - size, 0) + 1
        start = tf.cast(draws[axis] * tf.cast(places, tf.float32), tf.int32)
        index = (start + tf.range(size)) % (2 * length)
        image = tf.gather(image, tf.minimum(index, 2 * length - 1 - index), axis=axis)
    image = tf.cond(draws[2] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    image = tf.cond(draws[3] < 0.5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    if settings.channels == 3 and settings.grey_fraction:
        grey = draws[4] < settings.grey_fraction
        image = tf.cond(grey, lambda: tf.repeat(_luma(image), 3, axis=-1), lambda: image)
    return tf.ensure_shape(image, [size, size, settings.channels]), quality


def to_payload_records(
    records, output, codec, quality=50, effort=0, flatten=None, max_pixels=MAX_PIXELS
):
    """Copies the examples of TFRecord files with payloads in place of their images.

    Args:
        records: paths of TFRecord files, whose images are of any format that `images` reads.
        output: path of the file to write; a file there is replaced when the new one is whole.
        codec: `Codec`.
        quality, effort: as of `Codec.encode`.
        flatten, max_pixels: as of `images.read`.

    Returns:
        int: how many examples were written.

    Raises:
        ValueError: a record is no example, or has no image, a payload, or an image that cannot be
            read or is too large to code; names file and record. Nothing is written then.
        tf.errors.OpError: a file cannot be read or written, or is no TFRecord file.
    """
    output = Path(output)
    temporary = output.parent / f".{secrets.token_hex(8)}.tmp"
    count = 0
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for path in map(os.fspath, records):
                for number, record in enumerate(tf.data.TFRecordDataset(path)):
                    try:
                        example = tf.train.Example.FromString(record.numpy())
                        image = _image_of(example, flatten, max_pixels)
                        _set_payload(example, codec.encode(image, quality, effort))
                    except (ValueError, DecodeError, tf.errors.InvalidArgumentError) as error:
                        raise ValueError(f"{path}, example {number}: {error}") from error
                    writer.write(example.SerializeToString())
                    count += 1
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _image_of(example, flatten, max_pixels):
    """uint8 array `[H, W, C]`."""
    features = example.features.feature
    if ENCODED not in features or len(features[ENCODED].bytes_list.value) != 1:
        raise ValueError(f"expected one image under {ENCODED}. Received: {sorted(features)}")
    [contents] = features[ENCODED].bytes_list.value
    return images.read_contents(contents, flatten, max_pixels)[0]


def _set_payload(example, payload):
    features = example.features.feature
    features[ENCODED].bytes_list.value[:] = [payload]
    features[FORMAT].bytes_list.value[:] = [PAYLOAD_FORMAT]


def from_payload_records(
    records, codec, features=None, parallel_calls=tf.data.AUTOTUNE, max_pixels=MAX_PIXELS
):
    """A dataset of the images that TFRecord files hold as payloads.

    Args:
        records: paths of TFRecord files, read one after the other.
        codec: `Codec`; payloads of another model end the iteration with an error.
        features: what else of an example is wanted, as of `tf.io.parse_single_example`.
        parallel_calls: as of `tf.data.Dataset.map`; the order is the files' all the same.
        max_pixels: as of `Codec.decode`.

    Returns:
        `tf.data.Dataset` of dicts: `image`, uint8 `[H, W, C]`, and the `features`.
    """
    features = {ENCODED: tf.io.FixedLenFeature([], tf.string)} | dict(features or {})

    def restore(record):
        example = tf.io.parse_single_example(record, features)
        return {"image": codec.decode(example.pop(ENCODED), max_pixels), **example}

    return tf.data.TFRecordDataset(list(map(os.fspath, records))).map(restore, parallel_calls)
