"""Encoding, decoding, packing and unpacking as transforms."""

import os

import apache_beam as beam
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference

from cnn_compression import images, metadata
from cnn_compression.beam.counts import namespace_of, split
from cnn_compression.beam.folders import any_name
from cnn_compression.codec.model_files import EXPORTED_FILE, find_model, latent_family
from cnn_compression.export.signatures import MAX_PIXELS
from cnn_compression.files import (
    is_packed_name,
    is_payload_name,
    is_restorable_name,
    packed_name,
    payload_name,
    restored_name,
)
from cnn_compression.packing import payloads as packing
from cnn_compression.packing import predictors
from cnn_compression.packing.layout import is_packed
from cnn_compression.payload.layout import PayloadError

BATCH = 8  # files; larger ones save little, and a batch's results are in memory together


def _is_image(name):
    return not is_restorable_name(name)


def _is_not_packed(name):
    return not is_packed_name(name)


def _is_not_payload(name):
    return not is_payload_name(name)


class EncodeImages(beam.PTransform):
    """Image files to payloads.

    From a collection of (name, bytes of an image file, of any format that `images` reads) to two
    collections:

    - `done`: (name, payload);
    - `failed`: (name, why).

    Args:
        quality: int, 1..100.
        model: as for `cnn_compression.load`, of exported models; or the folder of a SavedModel
            wherever TensorFlow reads files.
        batch_size: int, files that a worker takes at once.
        colour: as of `images.read`.
        keep_metadata: whether Exif, XMP and copyright go into the payloads.

    Raises:
        ValueError: for another quality or colour, or a model that is not exported.
    """

    verb, rename, keep = "encode", staticmethod(payload_name), staticmethod(_is_image)

    def __init__(
        self,
        quality=50,
        model="default",
        batch_size=BATCH,
        colour="srgb",
        keep_metadata=False,
    ):
        super().__init__()
        if quality not in range(1, 101):
            raise ValueError(f"quality must be an integer in 1..100. Received: {quality!r}")
        if colour not in images.COLOURS:
            known = ", ".join(images.COLOURS)
            raise ValueError(f"colour must be one of {known}. Received: {colour!r}")
        self.handler = _EncodeHandler(model, batch_size, quality, colour, keep_metadata)

    def expand(self, files):
        return _through(files, self.handler)


class DecodeImages(beam.PTransform):
    """Payloads, packed or not, to PNG files: (name, payload) to `done`, (name, PNG), and `failed`,
    (name, why).

    Args:
        model, batch_size: as of `EncodeImages`.

    Raises:
        ValueError: for a model that is not exported.
    """

    verb, rename, keep = "decode", staticmethod(restored_name), staticmethod(any_name)

    def __init__(self, model="default", batch_size=BATCH):
        super().__init__()
        self.handler = _DecodeHandler(model, batch_size)

    def expand(self, payloads):
        return _through(payloads, self.handler)


class PackPayloads(beam.PTransform):
    """Payloads to packed payloads: (name, payload) to `done`, (name, packed payload), and `failed`,
    (name, why).

    Raises:
        ValueError: the predicting networks are not installed.
    """

    verb, rename, keep = "pack", staticmethod(packed_name), staticmethod(_is_not_packed)

    def __init__(self):
        super().__init__()
        predictors.find()  # now rather than on a worker

    def expand(self, payloads):
        return _by(packing.pack, payloads, self.verb)


class UnpackPayloads(beam.PTransform):
    """Packed payloads to the payloads that they were: (name, packed payload) to `done`, (name,
    payload), and `failed`, (name, why)."""

    verb, rename, keep = "unpack", staticmethod(payload_name), staticmethod(_is_not_payload)

    def expand(self, packed):
        return _by(packing.unpack, packed, self.verb)


def _through(files, handler):
    return files | RunInference(KeyedModelHandler(handler)) | split(handler.verb)


def _by(function, files, verb):
    return files | beam.MapTuple(lambda name, data: (name, _tried(function, data))) | split(verb)


def _tried(function, data):
    """What a function makes of bytes, and why it does not."""
    try:
        return function(data), b""
    except PayloadError as error:
        return b"", str(error).encode()


class _Handler(ModelHandler):
    """An exported model: bytes to (bytes, status); `signature` is what of it is called."""

    def __init__(self, model, batch_size):
        super().__init__()
        self.model = os.fspath(model)
        self._batch_size = batch_size
        self._folder()  # now rather than on a worker

    def load_model(self):
        # On the worker, where the package lies elsewhere.
        return tf.saved_model.load(self._folder())

    def _folder(self):
        if "://" in self.model:
            return self.model
        file = find_model(self.model)
        if not file.match(str(EXPORTED_FILE)):
            raise ValueError(f"expected an exported model; see export --help. Received: {file}")
        if family := latent_family(file):
            raise ValueError(f"expected a model around JPEG. Received: one of the family {family}")
        return str(file.parents[1])

    def get_num_bytes(self, batch):
        return sum(map(len, batch))

    def batch_elements_kwargs(self):
        return {"min_batch_size": 1, "max_batch_size": self._batch_size}

    def get_metrics_namespace(self):
        return namespace_of(self.verb)


class _EncodeHandler(_Handler):
    """Image files to payloads: one picture at a time is in memory."""

    verb = "encode"

    def __init__(self, model, batch_size, quality, colour, keep_metadata):
        super().__init__(model, batch_size)
        self.quality, self.colour, self.keep_metadata = quality, colour, keep_metadata

    def run_inference(self, batch, model, inference_args=None):
        return [self._encode(contents, model.signatures["encode_pixels"]) for contents in batch]

    def _encode(self, contents, encode_pixels):
        how = {"max_pixels": MAX_PIXELS, "colour": self.colour}
        try:
            if self.keep_metadata:
                image, _, kept = images.read_with_metadata(contents, **how)
            else:
                (image, _), kept = images.read_contents(contents, **how), None
        except images.ImageError as error:
            return b"", str(error).encode()
        sizes = dict(zip(("height", "width", "channels"), image.shape, strict=True))
        numbers = {
            name: tf.constant([n]) for name, n in (sizes | {"quality": self.quality}).items()
        }
        outputs = encode_pixels(pixels_bytes=tf.constant([image.tobytes()]), **numbers)
        [payload], [status] = outputs["payload_bytes"].numpy(), outputs["status"].numpy()
        if kept and not status:
            payload = metadata.into_payload(payload, kept)
        return payload, status


class _DecodeHandler(_Handler):
    """Payloads to PNG files, with the metadata that they carry."""

    verb = "decode"

    def run_inference(self, batch, model, inference_args=None):
        unpacked = [
            _tried(packing.unpack, data) if is_packed(data) else (data, b"") for data in batch
        ]
        contents = tf.constant([payload for payload, _ in unpacked], tf.string)
        outputs = model.signatures["decode"](payload_bytes=contents)
        pngs, statuses = outputs["image_bytes"].numpy(), outputs["status"].numpy()
        return [
            (b"", why or status)
            if why or status
            else (metadata.into_png(png, metadata.of_payload(payload)), b"")
            for (payload, why), png, status in zip(unpacked, pngs, statuses, strict=True)
        ]
