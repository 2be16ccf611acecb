"""image -> payload -> image: what users, `tf.data`, the command line and the export all call."""

import functools
import hashlib

import keras
import numpy as np
import tensorflow as tf

from cnn_compression import container, container_ops, jpeg, targets
from cnn_compression.container import PayloadError
from cnn_compression.metrics import bpp, psnr
from cnn_compression.model_files import EXPORTED_FILE, find_model, load_model
from cnn_compression.models.multi_scale import as_multi_scale
from cnn_compression.objectives import mean_squared_error
from cnn_compression.ops import luma, to_uint8, to_unit
from cnn_compression.refine import EFFORT_STEPS, refine

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "the codec runs on Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow. "
        f"Received: {keras.backend.backend()}"
    )

_IMAGE = tf.TensorSpec((None, None, None), tf.uint8)


class TargetError(ValueError):
    """No quality meets a target of size or PSNR."""


def fingerprint(model):
    """16 hexadecimal digits that name a decoder: SHA-256 over what its RecCNNs compute with.

    Two models with the same RecCNNs read each other's payloads, whatever their ComCNNs and
    whichever quality takes which scale.
    """
    digest = hashlib.sha256()
    for pair in as_multi_scale(model).pairs:
        digest.update(f"{type(pair.rec).__name__} {pair.scale}".encode())
        for variable in pair.rec.variables:
            value = np.asarray(variable.value, np.float32)
            digest.update(str(value.shape).encode())
            digest.update(value.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def load(name_or_path="default"):
    """Loads a codec.

    Args:
        name_or_path: see `find_model`.

    Returns:
        `Codec`; the same one where the same file is asked for again.

    Raises:
        ValueError: where no such model is found, or it cannot be read.
    """
    return _load(find_model(name_or_path))


@functools.lru_cache(maxsize=4)
def _load(file):
    # .../<name>/<version>/assets.extra/model.json, or <run>/model.keras
    exported = file.parent.name == EXPORTED_FILE.parent.name
    return Codec(load_model(file), name=file.parents[2 if exported else 0].name)


class Codec:
    """A model with JPEG between its networks.

    Args:
        model: `MultiScale`, or a `ComRec`, which then serves all qualities.
        name: what to call it.

    Attributes:
        model: `MultiScale`.
        name: as given.
        fingerprint: 16 hexadecimal digits that payloads carry; see `fingerprint`.
    """

    def __init__(self, model, name="codec"):
        self.model, self.name = as_multi_scale(model), name
        self.fingerprint = fingerprint(self.model)
        self._functions = {}

    def encode(self, image, quality=50, effort=0):
        """Compresses an image or a batch of images of one size.

        Args:
            image: uint8 `[H, W, C]` or `[N, H, W, C]`, C = 1 or 3; an array, or a tensor in eager
                or in graph mode.
            quality: int in 1..100, or int32 `[N]` for a batch.
            effort: int, 0..3: above 0, encoder time is spent for bytes; see `refine`.

        Returns:
            The payload: `bytes` for an array, a string scalar for a tensor; for a batch a list of
            `bytes`, or a string tensor `[N]`.

        Raises:
            ValueError: for another shape, dtype, quality or effort (in graph mode, where the values
                are known only later, `tf.errors.InvalidArgumentError`).
        """
        images, single = self._as_batch(image)
        quality = self._as_qualities(quality, images)
        payloads = self.encoder(effort)(images, quality)
        if isinstance(image, tf.Tensor):
            return payloads[0] if single else payloads
        return payloads[0].numpy() if single else payloads.numpy().tolist()

    def encode_to(self, image, *, target_bytes=None, target_bpp=None, target_psnr=None, effort=0):
        """Compresses an image to a size or to a PSNR: exactly one target is given.

        Args:
            image: uint8 `[H, W, C]`, C = 1 or 3; an array or an eager tensor.
            target_bytes: int: the payload of the highest quality with no more bytes is taken.
            target_bpp: float: the same, in bits a pixel of the image.
            target_psnr: float, dB: the payload of the lowest quality that reaches it is taken.
            effort: as for `encode`, at each quality that is tried.

        Returns:
            The payload: `bytes` for an array, a string scalar for a tensor.

        Raises:
            TargetError: where even the lowest quality takes more bytes, or even the highest does
                not reach the PSNR.
            ValueError: for another shape or dtype, or not exactly one target.
        """
        values = {"bytes": target_bytes, "bpp": target_bpp, "psnr": target_psnr}
        given = {name: value for name, value in values.items() if value is not None}
        if len(given) != 1 or not 0 < min(given.values()) < float("inf"):
            raise ValueError(f"expected one target above 0. Received: {given or 'none'}")
        images, single = self._as_batch(image)
        if not single:
            raise ValueError(f"expected one image [H, W, C]. Received: {tuple(images.shape)}")
        height, width = images.shape[1:3]
        if target_psnr is not None:
            payload, quality = self.psnr_encoder(effort)(images[0], target_psnr)
        else:
            limit = target_bytes if target_bpp is None else target_bpp * height * width / 8
            payload, quality = self.size_encoder(effort)(images[0], int(min(limit, 2**31 - 1)))
        if quality == 0:
            raise TargetError(self._out_of_reach(image, effort, *given.popitem()))
        return payload if isinstance(image, tf.Tensor) else payload.numpy()

    def _out_of_reach(self, image, effort, name, target):
        """Why a target cannot be met, with what comes nearest to it."""
        quality = targets.HIGHEST if name == "psnr" else targets.LOWEST
        payload = self.encode(np.asarray(image), quality, effort)
        if name == "psnr":
            best = float(psnr(image, self.decode(payload)))
            return f"even quality {quality} reaches {best:.2f} dB only. Target: {target:g} dB"
        size = f"{len(payload)} bytes"
        if name == "bpp":
            size += f", {bpp(len(payload), *image.shape[:2]):.4f} bpp"
        return f"even quality {quality} takes {size}. Target: {target:g} {name}"

    def size_encoder(self, effort=0):
        """`tf.function`: the payload of the highest quality that is no larger than a limit.

        uint8 `[H, W, C]` and int32 scalar, bytes, to payload string scalar and its quality int32
        scalar: "" and 0 where even the lowest quality takes more.
        """

        def encode_to_size(image, max_bytes):
            return targets.highest_that_fits(
                functools.partial(self._encode_one, image, effort),
                lambda payload: tf.strings.length(payload) <= max_bytes,
            )

        signature = [_IMAGE, tf.TensorSpec((), tf.int32)]
        return self._kept("size", effort, encode_to_size, signature)

    def psnr_encoder(self, effort=0):
        """`tf.function`: the payload of the lowest quality that restores to at least a PSNR.

        uint8 `[H, W, C]` and float32 scalar, dB, to payload string scalar and its quality int32
        scalar: "" and 0 where even the highest quality does not reach it.
        """

        def encode_to_psnr(image, target):
            return targets.lowest_that_reaches(
                functools.partial(self._encode_one, image, effort),
                lambda payload: psnr(image, self.decode_one(payload)) >= target,
            )

        signature = [_IMAGE, tf.TensorSpec((), tf.float32)]
        return self._kept("psnr", effort, encode_to_psnr, signature)

    def _encode_one(self, image, effort, quality):
        return self.encoder(effort)(image[None], quality[None])[0]

    def _kept(self, name, effort, function, signature):
        """`function` as the `tf.function` of this name and effort, made once."""
        if effort not in range(len(EFFORT_STEPS)):
            most = len(EFFORT_STEPS) - 1
            raise ValueError(f"effort must be an integer in 0..{most}. Received: {effort!r}")
        if (name, effort) not in self._functions:
            self._functions[name, effort] = tf.function(function, signature)
        return self._functions[name, effort]

    def decode(self, payload):
        """Restores an image, or a batch of images of one size.

        Args:
            payload: `bytes`, or a list of them; a string tensor `[]` or `[N]`, also in graph mode.

        Returns:
            uint8 `[H, W, C]`, or `[N, H, W, C]` for a batch; an array for bytes, a tensor for a
            tensor.

        Raises:
            PayloadError: for bytes that are not a payload, are damaged, or are of another model (in
                graph mode `tf.errors.InvalidArgumentError`, with the same words).
            ValueError: for a batch of images of different sizes.
        """
        if isinstance(payload, (bytearray, memoryview)):
            payload = bytes(payload)
        payloads = tf.convert_to_tensor(payload, tf.string)
        if payloads.shape.rank not in (0, 1):
            raise ValueError(f"expected a payload or a list. Received shape: {payloads.shape}")
        if tf.executing_eagerly():
            self._check(tf.reshape(payloads, [-1]))
        decode = self.decode_one if payloads.shape.rank == 0 else self.decode_batch
        images = decode(payloads)
        return images if isinstance(payload, tf.Tensor) else images.numpy()

    def _check(self, payloads):
        """Raises what `decode` documents, with its words, before anything is decoded."""
        for status in self._statuses(payloads).numpy():
            if status:
                raise PayloadError(status.decode())
        headers = map(container.read_header, payloads.numpy())
        sizes = {(header.height, header.width, header.channels) for header in headers}
        if len(sizes) > 1:
            raise ValueError(f"expected images of one size in a batch. Received: {sorted(sizes)}")

    def encoder(self, effort=0):
        """`tf.function`: uint8 `[N, H, W, C]`, int32 `[N]` of 1..100 to payloads string `[N]`."""

        def encode_batch(images, quality):
            one_each = tf.debugging.assert_equal(
                tf.shape(images)[0], tf.shape(quality)[0], "expected a quality for each image"
            )
            in_range = tf.debugging.assert_equal(
                tf.clip_by_value(quality, 1, 100), quality, "quality must be in 1..100"
            )
            with tf.control_dependencies([one_each, in_range]):
                quality = tf.identity(quality)
            pair_of_image, jpeg_quality = self.model.route(to_unit(images), quality)
            positions, payloads = [], []
            for number, pair in enumerate(self.model.pairs):
                mine = tf.where(tf.equal(pair_of_image, number))[:, 0]
                encode = functools.partial(
                    self._encode_all,
                    pair,
                    tf.gather(images, mine),
                    tf.gather(jpeg_quality, mine),
                    EFFORT_STEPS[effort],
                )
                positions.append(tf.cast(mine, tf.int32))
                none = functools.partial(tf.zeros, [0], tf.string)
                payloads.append(tf.cond(tf.size(mine) > 0, encode, none))
            return tf.dynamic_stitch(positions, payloads)

        images = tf.TensorSpec((None, None, None, None), tf.uint8)
        return self._kept("batch", effort, encode_batch, [images, tf.TensorSpec((None,), tf.int32)])

    @functools.cached_property
    def decode_one(self):
        """`tf.function`: payload string scalar to uint8 `[H, W, C]`; a bad one raises."""

        def decode_one(payload):
            status = container_ops.verify(payload, self.fingerprint, self.model.scales)
            message = tf.strings.join(["bad payload: ", status])
            with tf.control_dependencies([tf.debugging.Assert(tf.equal(status, ""), [message])]):
                payload = tf.identity(payload)
            return self.restore(jpeg.decode(payload), container_ops.unpack(payload))

        return tf.function(decode_one, [tf.TensorSpec((), tf.string)])

    def restore(self, compact_hat, header):
        """A decoded JPEG, uint8 `[h, w, C]`, and what `container_ops.unpack` gives to the image."""
        quality, sides = header["quality"][None], (header["height"], header["width"])
        restored = [
            (
                tf.equal(header["scale"], pair.scale),
                functools.partial(self._restore, pair, compact_hat[None], quality, *sides),
            )
            for pair in self.model.pairs
        ]
        return tf.case(restored)[0]

    @functools.cached_property
    def decode_batch(self):
        """`tf.function`: payloads string `[N]` of images of one size to uint8 `[N, H, W, C]`."""
        return tf.function(
            lambda payloads: tf.map_fn(self.decode_one, payloads, fn_output_signature=_IMAGE),
            [tf.TensorSpec((None,), tf.string)],
        )

    @functools.cached_property
    def _statuses(self):
        return tf.function(
            lambda payloads: tf.map_fn(
                lambda payload: container_ops.verify(payload, self.fingerprint, self.model.scales),
                payloads,
            ),
            [tf.TensorSpec((None,), tf.string)],
        )

    def _encode_all(self, pair, images, jpeg_quality, steps):
        """Payloads of images that all go through one pair, refined by so many steps."""
        height, width, channels = tf.unstack(tf.shape(images)[1:])
        x, grey = self._to_model(images)
        compact = pair.compact(to_unit(x), jpeg_quality)
        files = self._jpegs(pair, compact, jpeg_quality, grey)
        if steps:
            refined = refine(pair, to_unit(x), compact, jpeg_quality, grey, steps)
            others = self._jpegs(pair, refined, jpeg_quality, grey)
            cost = functools.partial(self._cost, pair, images, jpeg_quality)
            files = tf.where(cost(others) < cost(files), others, files)

        def pack(item):
            file, quality = item
            return container_ops.pack(
                file, self.fingerprint, height, width, channels, pair.scale, quality=quality
            )

        return tf.map_fn(pack, (files, jpeg_quality), fn_output_signature=tf.string)

    def _jpegs(self, pair, compact, jpeg_quality, grey):
        """JPEG files, string `[N]`, of compact images float32 `[N, h, w, C]`."""
        compact = to_uint8(tf.cond(grey, lambda: self._to_luma(compact), lambda: compact))
        return tf.map_fn(
            lambda item: jpeg.encode(*item, pair.chroma),
            (compact, jpeg_quality),
            fn_output_signature=tf.string,
        )

    def _cost(self, pair, images, jpeg_quality, files):
        """Distortion + lambda x rate of what JPEG files restore to: float32 `[N]`."""
        height, width = tf.unstack(tf.shape(images)[1:3])
        compact_hat = tf.map_fn(jpeg.decode, files, fn_output_signature=_IMAGE)
        image_hat = self._restore(pair, compact_hat, jpeg_quality, height, width)
        rate = tf.cast(8 * tf.strings.length(files), tf.float32) / tf.cast(
            height * width, tf.float32
        )
        error = mean_squared_error(to_unit(images), to_unit(image_hat))
        return error + pair.rate_slope(jpeg_quality) * rate

    def _restore(self, pair, compact_hat, jpeg_quality, height, width):
        """Decoded uint8 `[N, h, w, C]` to image_hat uint8 `[N, H, W, C]`."""
        x, grey = self._to_model(compact_hat)
        image_hat = pair.restore(to_unit(x), jpeg_quality, height, width)
        return to_uint8(tf.cond(grey, lambda: self._to_luma(image_hat), lambda: image_hat))

    def _to_model(self, images):
        """Images with the model's channels, and whether they are grey: grey ones are repeated."""
        channels, count = self.model.channels, images.shape[0]
        grey = tf.equal(tf.shape(images)[-1], 1)
        images = tf.cond(grey, lambda: tf.repeat(images, channels, axis=-1), lambda: images)
        return tf.ensure_shape(images, [count, None, None, channels]), grey

    def _to_luma(self, x):
        return luma(x) if self.model.channels == 3 else x

    def _as_batch(self, image):
        """An image or a batch as a uint8 tensor `[N, H, W, C]`, and whether it was one image."""
        images = image if isinstance(image, tf.Tensor) else np.asarray(image)
        shape = tuple(images.shape) if images.shape is not None else ()
        known = (1, 3) if self.model.channels == 3 else (1,)
        fits = images.dtype.name == "uint8" and len(shape) in (3, 4) and 0 not in shape
        if not fits or shape[-1] not in (None, *known):
            raise ValueError(
                f"expected uint8 [H, W, C] or [N, H, W, C], not empty, with C in {known}. "
                f"Received: {images.dtype.name} {shape}"
            )
        single = len(shape) == 3
        return tf.convert_to_tensor(images[None] if single else images), single

    def _as_qualities(self, quality, images):
        """A quality for each image: int32 `[N]`."""
        if tf.executing_eagerly() or not isinstance(quality, tf.Tensor):
            values = np.asarray(quality)
            if values.dtype.kind not in "iu" or not ((values >= 1) & (values <= 100)).all():
                raise ValueError(f"quality must be an integer in 1..100. Received: {quality!r}")
            if values.shape not in ((), (images.shape[0],)) and images.shape[0] is not None:
                raise ValueError(
                    f"expected one quality, or one for each of {images.shape[0]} images. "
                    f"Received: {values.shape}"
                )
        return tf.broadcast_to(tf.cast(quality, tf.int32), tf.shape(images)[:1])
