"""image -> payload -> image: what users, `tf.data`, the command line and the export all call."""

import functools
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cnn_compression.codec import targets
from cnn_compression.codec.carried import Carried, Report
from cnn_compression.codec.graph import MAX_PIXELS, GraphCodec
from cnn_compression.codec.inputs import as_bytes, as_images, as_payload, as_pixels
from cnn_compression.codec.model_files import EXPORTED_FILE, find_model, load_model
from cnn_compression.codec.pair import TILE
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.latent import LatentModel
from cnn_compression.models.multi_scale import MultiScale
from cnn_compression.payload import layout, layout_ops
from cnn_compression.payload.layout import OtherModelError, PayloadError
from cnn_compression.process import check_not_forked
from cnn_compression.tensors.functions import traced

if TYPE_CHECKING:
    from cnn_compression.codec.latent import LatentCodec

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "the codec runs on Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow. "
        f"Received: {keras.backend.backend()}"
    )

Pixels = npt.NDArray[np.uint8]
Qualities = int | Sequence[int] | npt.NDArray[np.integer] | tf.Tensor


_loading = threading.Lock()  # threads that want one model at once get one codec


def load(name_or_path: str | os.PathLike[str] = "default") -> "Codec | LatentCodec":
    """`cnn_compression.load`."""
    check_not_forked()
    file = find_model(name_or_path)
    with _loading:
        return _load(file)


@functools.lru_cache(maxsize=4)
def _load(file):
    # .../<name>/<version>/assets.extra/model.json, or <run>/model.keras
    exported = file.parent.name == EXPORTED_FILE.parent.name
    kind, model = Codec, load_model(file)
    if isinstance(model, LatentModel):
        from cnn_compression.codec.latent import LatentCodec as kind  # and a compiler

    codec = kind(model, name=file.parents[2 if exported else 0].name)
    codec.came_from(file, load)
    return codec


def _all_verified(payloads, fingerprint, scales, max_pixels):
    return tf.map_fn(
        lambda payload: layout_ops.verify(payload, fingerprint, scales, max_pixels), payloads
    )


# What is wrong with each of the payloads. It is traced once in a process, whatever is loaded.
_statuses = traced(
    _all_verified,
    [
        tf.TensorSpec((None,), tf.string),
        tf.TensorSpec((), tf.string),
        tf.TensorSpec((None,), tf.int32),
        MAX_PIXELS,
    ],
)


class Codec(Carried, GraphCodec):
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
        family: None: it is of no family of latent models.
        qualities: `range` of int; `default_quality` is one of them.

    Raises:
        ValueError: for another tile.
    """

    family, qualities, default_quality = None, range(1, 101), 50

    def __init__(
        self,
        model: ComRec | MultiScale,
        name: str = "codec",
        tile: int = TILE,
        report: Report | None = None,
    ):
        Carried.__init__(self, model, name, tile, report)
        GraphCodec.__init__(self, model, tile, report)

    def __repr__(self) -> str:
        scales = "/".join(map(str, self.model.scales))
        return f"<Codec {self.name!r} {self.fingerprint}, scales {scales}>"

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
        encode = self.encoder(effort)
        if single:
            payload = encode(images, quality)
        elif tf.executing_eagerly():  # without a graph of their own, which would be traced anew
            payload = tf.stack([*map(encode, images, quality)])
        else:
            payload = self.batch_encoder(effort)(images, quality)
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
        name, target = targets.only(bytes=target_bytes, bpp=target_bpp, psnr=target_psnr)
        image = as_pixels(image)
        pixels, single = self._as_images(image)
        if not single:
            raise ValueError(f"expected one image [H, W, C]. Received: {tuple(pixels.shape)}")
        if name == "psnr":
            payload, quality = self.psnr_encoder(effort)(pixels, target)
        else:
            limit = targets.most_bytes(pixels, name, target)
            payload, quality = self.size_encoder(effort)(pixels, limit)
        if quality == 0:
            raise targets.out_of_reach(self, image, effort, name, target)
        return payload if isinstance(image, tf.Tensor) else payload.numpy()

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
            payload: `bytes`, packed or not, the path of a file, str or `Path`, or a list of those;
                a string tensor `[]` or `[N]` of payloads that are not packed, also in graph mode.
            max_pixels: int: a payload of a larger image is refused before it is decoded.

        Returns:
            uint8 `[H, W, C]`, or `[N, H, W, C]` for a batch; an array for bytes, a tensor for a
            tensor and in graph mode.

        Raises:
            PayloadError: for bytes that are not a payload, are damaged, are of another model or of
                too large an image (in graph mode `tf.errors.InvalidArgumentError`, the same words).
            ValueError: for a batch of images of different sizes, or of none.
        """
        check_not_forked()
        payload = as_payload(payload, max_pixels)
        payloads = tf.convert_to_tensor(payload, tf.string)
        if payloads.shape.rank not in (0, 1):
            raise ValueError(f"expected a payload or a list. Received shape: {payloads.shape}")
        if payloads.shape.rank and payloads.shape[0] == 0:
            raise ValueError("expected at least one payload. Received: none")
        single = payloads.shape.rank == 0
        if not tf.executing_eagerly():
            decode = self.decode_one if single else self.decode_batch
            return decode(payloads, max_pixels)
        self._check(tf.reshape(payloads, [-1]), max_pixels)
        decode = self.decode_verified
        try:
            images = decode(payloads) if single else tf.stack([*map(decode, payloads)])
        except tf.errors.InvalidArgumentError:  # a checksum that was made to fit tells nothing
            raise PayloadError("damaged: its JPEG cannot be decoded") from None
        return images if isinstance(payload, tf.Tensor) else images.numpy()

    def pack(self, payload: bytes | bytearray | memoryview | str | os.PathLike[str]) -> bytes:
        """Takes about a third off a payload: `unpack` gives the same bytes back.

        What comes out is no JPEG. `decode` takes it too.

        Args:
            payload: `bytes` of any model's payload, or the path of a file.

        Returns:
            The packed bytes, which were unpacked again and compared.

        Raises:
            PayloadError: for what is no payload, or one that another program wrote anew.
        """
        from cnn_compression.packing import payloads  # its compiler takes a second to import

        return payloads.pack(as_bytes(payload))

    def unpack(
        self,
        packed: bytes | bytearray | memoryview | str | os.PathLike[str],
        max_pixels: int = layout.MAX_PIXELS,
    ) -> bytes:
        """The payload that was packed, byte for byte.

        Args:
            packed: `bytes`, or the path of a file.
            max_pixels: int: one of a larger image is refused before it is decoded.

        Raises:
            packing.layout.PackedError: for bytes that are not packed, are damaged, or take networks
                that are not installed. It is a `PayloadError`.
        """
        from cnn_compression.packing import payloads

        return payloads.unpack(as_bytes(packed), max_pixels)

    def _check(self, payloads, max_pixels):
        """Raises what `decode` documents, with its words, before anything is decoded."""
        model = self.fingerprint, self.model.scales
        for status in _statuses(payloads, *model, max_pixels).numpy():
            if status:
                text = status.decode()
                of_another = text.startswith(layout_ops.OF_ANOTHER)
                raise (OtherModelError if of_another else PayloadError)(text)
        headers = map(layout.read_header, payloads.numpy())
        sizes = {(header.height, header.width, header.channels) for header in headers}
        if len(sizes) > 1:
            raise ValueError(f"expected images of one size in a batch. Received: {sorted(sizes)}")

    def _as_images(self, image):
        """An image or a batch as a uint8 tensor, and whether it is one image."""
        check_not_forked()
        images, single = as_images(image, self.model.channels)
        shape = images.shape
        if max(side or 0 for side in shape[-3:-1]) > coding.MAX_SIDE:
            sides = f"{shape[-3]} x {shape[-2]}"
            raise ValueError(f"expected sides of {coding.MAX_SIDE} at most. Received: {sides}")
        return tf.convert_to_tensor(images), single

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
