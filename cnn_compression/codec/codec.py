"""image -> payload -> image: what users, `tf.data`, the command line and the export all call."""

import functools
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, overload

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cnn_compression.codec import targets
from cnn_compression.codec.effort import EFFORT_STEPS
from cnn_compression.codec.inputs import as_payload, as_pixels, mended
from cnn_compression.codec.model_files import EXPORTED_FILE, find_model, load_model
from cnn_compression.codec.pair import TILE, PairCodec
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.multi_scale import MultiScale, as_multi_scale
from cnn_compression.payload import layout, layout_ops
from cnn_compression.payload.layout import PayloadError
from cnn_compression.process import check_not_forked
from cnn_compression.tensors.canvas import on_canvas
from cnn_compression.tensors.functions import traced
from cnn_compression.tensors.levels import to_unit
from cnn_compression.tensors.metrics import psnr
from cnn_compression.tensors.texture import texture_squares
from cnn_compression.tensors.tiles import map_tiles

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "the codec runs on Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow. "
        f"Received: {keras.backend.backend()}"
    )

Pixels = npt.NDArray[np.uint8]
Qualities = int | Sequence[int] | npt.NDArray[np.integer] | tf.Tensor
Report = Callable[[int, int], None]  # see `Codec.reporting`

_IMAGE = tf.TensorSpec((None, None, None), tf.uint8)
_MAX_PIXELS = tf.TensorSpec((), tf.int64)


def fingerprint(model: ComRec | MultiScale) -> str:
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


_loading = threading.Lock()  # threads that want one model at once get one codec


def load(name_or_path: str | os.PathLike[str] = "default") -> "Codec":
    """`cnn_compression.load`."""
    check_not_forked()
    file = find_model(name_or_path)
    with _loading:
        return _load(file)


@functools.lru_cache(maxsize=4)
def _load(file):
    # .../<name>/<version>/assets.extra/model.json, or <run>/model.keras
    exported = file.parent.name == EXPORTED_FILE.parent.name
    codec = Codec(load_model(file), name=file.parents[2 if exported else 0].name)
    codec._file = file
    return codec


def _from_file(file, name, fingerprint, tile, report):
    """A codec that was loaded where it was pickled; on another machine by its name."""
    codec = load(file if os.path.exists(file) else name)
    if codec.fingerprint != fingerprint:
        raise ValueError(
            f"expected model {fingerprint}, of which a codec was pickled. Received: {name!r}, "
            f"which is {codec.fingerprint} here"
        )
    if (tile, report) == (codec.tile, None):
        return codec
    return codec._with(tile, report)


def _from_weights(config, weights, *settings):
    model = keras.saving.deserialize_keras_object(config)
    model.set_weights(weights)
    return Codec(model, *settings)


class Codec:
    """A model with JPEG between its networks.

    Large images go through the networks in tiles. At effort 0 that changes nothing but the memory
    it takes; `refine` looks no further than a tile.

    It can be pickled and copied: as the file that it was loaded from, or as its weights. In a
    process that was forked from one in which TensorFlow runs it raises RuntimeError.

    Args:
        model: `MultiScale`, or a `ComRec`, which then serves all qualities.
        name: what to call it.
        tile: int, pixels: larger images are taken apart; a multiple of 256.
        report: see `reporting`.

    Attributes:
        model: `MultiScale`.
        name: as given.
        fingerprint: 16 hexadecimal digits that payloads carry; see `fingerprint`.

    Raises:
        ValueError: for another tile.
    """

    def __init__(
        self,
        model: ComRec | MultiScale,
        name: str = "codec",
        tile: int = TILE,
        report: Report | None = None,
    ):
        if tile < 1 or tile % 256:
            raise ValueError(f"tile must be a multiple of 256. Received: {tile}")
        check_not_forked()
        self.model, self.name, self.tile = as_multi_scale(model), name, tile
        self._report, self._file = report, None  # `load` knows the file
        self._pairs = [PairCodec(pair, tile, report) for pair in self.model.pairs]
        self.fingerprint = fingerprint(self.model)
        self._functions = {}

    def reporting(self, report: Report | None) -> "Codec":
        """The same codec, which tells how far it is with an image.

        Args:
            report: called after each tile with how many of this pass over the image are done, and
                of how many.

        Returns:
            `Codec`, which cannot be exported.
        """
        return self._with(self.tile, report)

    def _with(self, tile, report):
        codec = Codec(self.model, self.name, tile, report)
        codec._file = self._file
        return codec

    def __repr__(self) -> str:
        scales = "/".join(map(str, self.model.scales))
        return f"<Codec {self.name!r} {self.fingerprint}, scales {scales}>"

    def __reduce__(self):
        """To the file where it was loaded from, else to its weights: graphs are made anew."""
        settings = (self.tile, self._report)
        if self._file:
            return _from_file, (self._file, self.name, self.fingerprint, *settings)
        config = keras.saving.serialize_keras_object(self.model)
        return _from_weights, (config, self.model.get_weights(), self.name, *settings)

    # For an array of one image `bytes`, for a batch a list of them: their shapes are no types.
    @overload
    def encode(self, image: Pixels, quality: Qualities = 50, effort: int = 0) -> bytes | Any: ...

    @overload
    def encode(self, image: tf.Tensor, quality: Qualities = 50, effort: int = 0) -> tf.Tensor: ...

    def encode(self, image, quality=50, effort=0):
        """Compresses an image or a batch of images of one size.

        Args:
            image: uint8 `[H, W, C]`, `[H, W]` or `[N, H, W, C]`, C = 1 or 3; an array, or a tensor
                in eager or in graph mode. Or one image as a path or as Pillow's; see `as_pixels`.
            quality: int in 1..100, or int32 `[N]` for a batch.
            effort: int, 0..2: above 0, encoder time is spent for bytes; see the module `effort`.
                A payload of effort is no larger than without and restores to no lower PSNR.

        Returns:
            The payload: `bytes` for an array, a string scalar for a tensor and in graph mode; for a
            batch a list of `bytes`, or a string tensor `[N]`.

        Raises:
            ValueError: for another shape, dtype, quality or effort; sides over `coding.MAX_SIDE`.
            tf.errors.InvalidArgumentError: where the compact image has more than
                `coding.MAX_SAMPLES`; in graph mode, where values are known only later, for all.
        """
        image = as_pixels(image)
        images, single = self._as_images(image)
        quality = self._as_qualities(quality, images, single)
        encode = self.encoder(effort) if single else self.batch_encoder(effort)
        payload = encode(images, quality)
        if isinstance(image, tf.Tensor) or not tf.executing_eagerly():
            return payload
        return payload.numpy() if single else payload.numpy().tolist()

    @overload
    def encode_to(
        self,
        image: Pixels,
        *,
        target_bytes: int | None = None,
        target_bpp: float | None = None,
        target_psnr: float | None = None,
        effort: int = 0,
    ) -> bytes: ...

    @overload
    def encode_to(
        self,
        image: tf.Tensor,
        *,
        target_bytes: int | None = None,
        target_bpp: float | None = None,
        target_psnr: float | None = None,
        effort: int = 0,
    ) -> tf.Tensor: ...

    def encode_to(self, image, *, target_bytes=None, target_bpp=None, target_psnr=None, effort=0):
        """Compresses an image to a size or to a PSNR: exactly one target is given.

        Args:
            image: one image as for `encode`; of tensors an eager one.
            target_bytes: int: the payload of the highest quality with no more bytes is taken, or a
                better one of between there and the next quality, where a finer pair takes over.
            target_bpp: float: the same, in bits a pixel of the image.
            target_psnr: float, dB: the payload of the lowest quality that reaches it is taken, or a
                smaller one of between there and the quality before.
            effort: as for `encode`, at each quality that is tried.

        Returns:
            The payload: `bytes` for an array, a string scalar for a tensor.

        Raises:
            targets.TargetError: where even the lowest quality takes more bytes, or even the highest
                does not reach the PSNR.
            ValueError: for another shape or dtype, or not exactly one target.
        """
        values = {"bytes": target_bytes, "bpp": target_bpp, "psnr": target_psnr}
        given = {name: value for name, value in values.items() if value is not None}
        if len(given) != 1 or not 0 < min(given.values()) < float("inf"):
            raise ValueError(f"expected one target above 0. Received: {given or 'none'}")
        image = as_pixels(image)
        pixels, single = self._as_images(image)
        if not single:
            raise ValueError(f"expected one image [H, W, C]. Received: {tuple(pixels.shape)}")
        height, width, _ = pixels.shape
        if target_psnr is not None:
            payload, quality = self.psnr_encoder(effort)(pixels, target_psnr)
        else:
            limit = target_bytes if target_bpp is None else target_bpp * height * width / 8
            payload, quality = self.size_encoder(effort)(pixels, int(min(limit, 2**31 - 1)))
        if quality == 0:
            raise targets.out_of_reach(self, image, effort, *given.popitem())
        return payload if isinstance(image, tf.Tensor) else payload.numpy()

    def size_encoder(self, effort: int = 0) -> Callable[..., Any]:
        """`tf.function`: the payload of the highest quality that is no larger than a limit.

        uint8 `[H, W, C]` and int32 scalar, bytes, to payload string scalar and that quality, int32
        scalar: "" and 0 where even the lowest quality takes more. See `encode_to` for what may be
        better than the quality's own payload.
        """
        search = functools.partial(targets.encode_to_size, self, effort)
        return self._kept("size", effort, search, [_IMAGE, tf.TensorSpec((), tf.int32)])

    def psnr_encoder(self, effort: int = 0) -> Callable[..., Any]:
        """`tf.function`: the payload of the lowest quality that restores to at least a PSNR.

        uint8 `[H, W, C]` and float32 scalar, dB, to payload string scalar and that quality, int32
        scalar: "" and 0 where even the highest quality does not reach it. See `encode_to` for what
        may be smaller than the quality's own payload.
        """
        search = functools.partial(targets.encode_to_psnr, self, effort)
        return self._kept("psnr", effort, search, [_IMAGE, tf.TensorSpec((), tf.float32)])

    def psnr_of(self, image, payload):
        """dB, float32 scalar, of what a payload of this codec, string scalar, restores to.

        It is a number where that is the image itself: with an infinity on its way a host's
        `tf.debugging.enable_check_numerics` would end the search for a target.
        """
        image_hat = self.restore(coding.decode(payload), layout_ops.unpack(payload))
        return psnr(image, image_hat, least_error=1e-30)

    def _kept(self, name, effort, function, signature):
        """`function` as the `tf.function` of this name and effort, made once."""
        if effort not in range(len(EFFORT_STEPS)):
            most = len(EFFORT_STEPS) - 1
            raise ValueError(f"effort must be an integer in 0..{most}. Received: {effort!r}")
        if (name, effort) not in self._functions:
            self._functions[name, effort] = traced(function, signature)
        return self._functions[name, effort]

    @overload
    def decode(
        self,
        payload: bytes | bytearray | memoryview | Sequence[bytes],
        max_pixels: int = layout.MAX_PIXELS,
    ) -> Pixels: ...

    @overload
    def decode(self, payload: tf.Tensor, max_pixels: int = layout.MAX_PIXELS) -> tf.Tensor: ...

    def decode(self, payload, max_pixels=layout.MAX_PIXELS):
        """Restores an image, or a batch of images of one size.

        Args:
            payload: `bytes`, the path of a file, str or `Path`, or a list of those; a string tensor
                `[]` or `[N]`, also in graph mode.
            max_pixels: int: a payload of a larger image is refused before it is decoded.

        Returns:
            uint8 `[H, W, C]`, or `[N, H, W, C]` for a batch; an array for bytes, a tensor for a
            tensor and in graph mode.

        Raises:
            PayloadError: for bytes that are not a payload, are damaged, are of another model or of
                too large an image (in graph mode `tf.errors.InvalidArgumentError`, the same words).
            ValueError: for a batch of images of different sizes.
        """
        check_not_forked()
        payload = as_payload(payload)
        payloads = tf.convert_to_tensor(payload, tf.string)
        if payloads.shape.rank not in (0, 1):
            raise ValueError(f"expected a payload or a list. Received shape: {payloads.shape}")
        decode = self.decode_one if payloads.shape.rank == 0 else self.decode_batch
        if not tf.executing_eagerly():
            return decode(payloads, max_pixels)
        self._check(tf.reshape(payloads, [-1]), max_pixels)
        try:
            images = decode(payloads, max_pixels)
        except tf.errors.InvalidArgumentError:  # a checksum that was made to fit tells nothing
            raise PayloadError("damaged: its JPEG cannot be decoded") from None
        return images if isinstance(payload, tf.Tensor) else images.numpy()

    def _check(self, payloads, max_pixels):
        """Raises what `decode` documents, with its words, before anything is decoded."""
        for status in self._statuses(payloads, max_pixels).numpy():
            if status:
                raise PayloadError(status.decode())
        headers = map(layout.read_header, payloads.numpy())
        sizes = {(header.height, header.width, header.channels) for header in headers}
        if len(sizes) > 1:
            raise ValueError(f"expected images of one size in a batch. Received: {sorted(sizes)}")

    def encoder(self, effort: int = 0) -> Callable[..., Any]:
        """`tf.function`: uint8 `[H, W, C]`, int32 scalar of 1..100 to a payload, string scalar."""

        def encode_one(image, quality):
            in_range = tf.debugging.assert_equal(
                tf.clip_by_value(quality, 1, 100), quality, "quality must be in 1..100"
            )
            height, width, _ = tf.unstack(tf.shape(image))
            fits = tf.debugging.assert_less_equal(
                tf.maximum(height, width),
                coding.MAX_SIDE,
                f"expected sides of {coding.MAX_SIDE} at most",
            )
            with tf.control_dependencies([in_range, fits]):
                quality = tf.identity(quality)
            (number,), (jpeg_quality,) = map(tf.unstack, self.route(image, quality[None]))
            return self.pair_encoder(effort)(image, number, jpeg_quality, quality)

        return self._kept("one", effort, encode_one, [_IMAGE, tf.TensorSpec((), tf.int32)])

    def pair_encoder(self, effort):
        """`tf.function`: uint8 `[H, W, C]`, int32 scalars as of `route`, and the quality that was
        asked or 0, to a payload, string scalar."""

        def encode_through(image, number, jpeg_quality, asked):
            height, width, channels = tf.unstack(tf.shape(image))

            def through(pair):
                file = pair.encode(image, jpeg_quality, EFFORT_STEPS[effort])
                numbers = (height, width, channels, pair.scale, jpeg_quality)
                return layout_ops.pack(file, self.fingerprint, *numbers, asked)

            through_each = [functools.partial(through, pair) for pair in self._pairs]
            return tf.switch_case(number, through_each)

        number = tf.TensorSpec((), tf.int32)
        return self._kept("pair", effort, encode_through, [_IMAGE, number, number, number])

    def route(self, image, qualities):
        """As `MultiScale.route`, of one image at qualities int32 `[Q]`: two int32 `[Q]`."""
        squares = map_tiles(
            lambda x: texture_squares(to_unit(on_canvas(x)[0])),
            image,
            [tf.maximum(side // 16, 1) for side in tf.unstack(tf.shape(image)[:2])],
            cell_in=16,
            cell_out=1,
            overlap=0,
            tile=self.tile // 16,
            depth=3,
            dtype=tf.float32,
        )
        return self.model.route(squares[None], qualities)

    def batch_encoder(self, effort: int = 0) -> Callable[..., Any]:
        """`tf.function`: uint8 `[N, H, W, C]`, int32 `[N]` of 1..100 to payloads, string `[N]`."""

        def encode_batch(images, quality):
            tf.debugging.assert_equal(
                tf.shape(images)[0], tf.shape(quality)[0], "expected a quality for each image"
            )
            # One after the other: batches are faster for thumbnails only.
            return tf.map_fn(
                lambda item: self.encoder(effort)(*item),
                (images, quality),
                fn_output_signature=tf.string,
                parallel_iterations=1,
            )

        images = tf.TensorSpec((None, None, None, None), tf.uint8)
        return self._kept("batch", effort, encode_batch, [images, tf.TensorSpec((None,), tf.int32)])

    @functools.cached_property
    def decode_one(self):
        """`tf.function`: payload string scalar and the most pixels that are taken, int64 scalar, to
        uint8 `[H, W, C]`; a bad payload raises."""

        def decode_one(payload, max_pixels):
            status = self.verify(payload, max_pixels)
            message = tf.strings.join(["bad payload: ", status])
            with tf.control_dependencies([tf.debugging.Assert(tf.equal(status, ""), [message])]):
                payload = tf.identity(payload)
            compact_hat = coding.decode(layout_ops.picture(payload))
            return self.restore(compact_hat, layout_ops.unpack(payload))

        return traced(decode_one, [tf.TensorSpec((), tf.string), _MAX_PIXELS])

    def verify(self, payload, max_pixels):
        """What is wrong with a payload, string scalar; see `layout_ops.verify`."""
        return layout_ops.verify(payload, self.fingerprint, self.model.scales, max_pixels)

    @functools.cached_property
    def restore(self):
        """`tf.function`: a decoded JPEG, uint8 `[h, w, C]`, and what `layout_ops.unpack` gives,
        to uint8 `[H, W, C]`."""

        def restore(compact_hat, header):
            settings = (header["quality"], header["height"], header["width"])
            restored = [
                (
                    tf.equal(header["scale"], pair.scale),
                    functools.partial(pair.restore, compact_hat, *settings),
                )
                for pair in self._pairs
            ]
            return tf.case(restored)

        header = dict.fromkeys(layout_ops.NUMBERS, tf.TensorSpec((), tf.int32))
        return traced(restore, [_IMAGE, header])

    @functools.cached_property
    def decode_batch(self):
        """As `decode_one`, of payloads string `[N]` of images of one size: uint8 `[N, H, W, C]`."""

        def decode_batch(payloads, max_pixels):
            return tf.map_fn(
                lambda payload: self.decode_one(payload, max_pixels),
                payloads,
                fn_output_signature=_IMAGE,
                parallel_iterations=1,
            )

        return traced(decode_batch, [tf.TensorSpec((None,), tf.string), _MAX_PIXELS])

    @functools.cached_property
    def _statuses(self):
        def statuses(payloads, max_pixels):
            return tf.map_fn(lambda payload: self.verify(payload, max_pixels), payloads)

        return traced(statuses, [tf.TensorSpec((None,), tf.string), _MAX_PIXELS])

    def _as_images(self, image):
        """An image or a batch as a uint8 tensor, and whether it is one image."""
        check_not_forked()
        images = image if isinstance(image, tf.Tensor) else np.asarray(image)
        shape = tuple(images.shape) if images.shape is not None else ()
        known = (1, 3) if self.model.channels == 3 else (1,)
        fits = images.dtype.name == "uint8" and len(shape) in (3, 4) and 0 not in shape
        if not fits or shape[-1] not in (None, *known):
            cure = f": pass {cure}" if (cure := mended(images)) else ""
            raise ValueError(
                f"expected uint8 [H, W, C] or [N, H, W, C], not empty, with C in {known}{cure}. "
                f"Received: {images.dtype.name} {shape}"
            )
        if max(side or 0 for side in shape[-3:-1]) > coding.MAX_SIDE:
            sides = f"{shape[-3]} x {shape[-2]}"
            raise ValueError(f"expected sides of {coding.MAX_SIDE} at most. Received: {sides}")
        return tf.convert_to_tensor(images), len(shape) == 3

    def _as_qualities(self, quality, images, single):
        """A quality for each image: int32 `[N]`, or a scalar for a single one."""
        shape = () if single else (images.shape[0],)
        if tf.executing_eagerly() or not isinstance(quality, tf.Tensor):
            values = np.asarray(quality)
            if values.dtype.kind not in "iu" or not ((values >= 1) & (values <= 100)).all():
                raise ValueError(f"quality must be an integer in 1..100. Received: {quality!r}")
            if values.shape not in ((), shape) and None not in shape:
                raise ValueError(
                    f"quality must have the shape () or {shape}. Received: {values.shape}"
                )
        quality = tf.cast(quality, tf.int32)
        return quality if single else tf.broadcast_to(quality, tf.shape(images)[:1])
