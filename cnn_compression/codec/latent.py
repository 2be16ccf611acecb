"""image -> codes -> payload and back: one codec for all families of latent models.

The networks run in TensorFlow, in tiles; the range coder does not. What a payload holds are whole
numbers, so it decodes on any machine; that pictures may differ by a level between machines does no
harm, since nothing is predicted from them.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cnn_compression.codec import bisection, targets
from cnn_compression.codec.carried import Carried, Report
from cnn_compression.codec.inputs import as_bytes, as_images, as_pixels
from cnn_compression.codec.pair import TILE
from cnn_compression.models.latent import LatentModel
from cnn_compression.packing import symbols
from cnn_compression.payload import latent_layout, layout
from cnn_compression.payload.layout import OtherModelError, PayloadError
from cnn_compression.process import check_not_forked
from cnn_compression.tensors.colour import luma
from cnn_compression.tensors.functions import traced
from cnn_compression.tensors.levels import to_uint8, to_unit
from cnn_compression.tensors.metrics import psnr
from cnn_compression.tensors.shapes import pad_to_multiple
from cnn_compression.tensors.tiles import map_tiles

Pixels = npt.NDArray[np.uint8]

_INTEGER = tf.TensorSpec((), tf.int32)
_IMAGE = tf.TensorSpec((None, None, None), tf.uint8)
_CODES = tf.TensorSpec((None, None, None), tf.int32)


def fingerprint(model: LatentModel) -> str:
    """16 hexadecimal digits that name a model: SHA-256 over its family, settings and weights."""
    # Only the model's own: what Keras adds differs between its versions.
    own = inspect.signature(type(model).__init__).parameters.keys() - {"precision"}
    config = {key: value for key, value in model.get_config().items() if key in own}
    digest = hashlib.sha256(f"{model.family} {json.dumps(config, sort_keys=True)}".encode())
    for variable in model.variables:
        value = np.asarray(variable.value, np.float32)
        digest.update(str(value.shape).encode())
        digest.update(value.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


class LatentCodec(Carried):
    """A latent model with the range coder between its networks.

    Args:
        model: `LatentModel`.
        name: what to call it.
        tile: int, pixels: larger images are taken apart; a multiple of 256.
        report: see `reporting`.

    Attributes:
        model, name, tile: as given.
        fingerprint: 16 hexadecimal digits that payloads carry; see `fingerprint`.
        family: str, the model's.
        qualities: `range` of int, the model's; `default_quality` is one of them.

    Raises:
        ValueError: for another tile.
    """

    def __init__(
        self,
        model: LatentModel,
        name: str = "codec",
        tile: int = TILE,
        report: Report | None = None,
    ):
        super().__init__(model, name, tile, report)
        self.fingerprint = fingerprint(model)
        self.family = model.family
        self.qualities, self.default_quality = model.qualities, model.default_quality

    def __repr__(self) -> str:
        return f"<LatentCodec {self.name!r} {self.fingerprint}, family {self.family}>"

    def encode(
        self,
        image: Any,
        quality: int | Sequence[int] | None = None,
        effort: int = 0,
        mask: npt.ArrayLike | None = None,
    ) -> bytes | list[bytes]:
        """Compresses an image or a batch of images of one size.

        Args:
            image: uint8 `[H, W, C]`, `[H, W]` or `[N, H, W, C]`, C = 1 or 3, an array or an eager
                tensor. Or one image as a path or as Pillow's; see `as_pixels`.
            quality: one of `qualities`, or a list of N for a batch; `default_quality` if None.
            effort: int, 0: there is none to make.
            mask: bool `[H, W]`, of one image, for a model that makes up what it is not told: cells
                without a pixel that is true are not sent.

        Returns:
            The payload, or a list of payloads for a batch.

        Raises:
            ValueError: for another shape, dtype, quality, effort or mask.
        """
        images, single = self._as_images(image, effort)
        qualities = self._as_qualities(quality, () if single else (len(images),))
        if mask is not None:
            mask = self._as_mask(mask, images.shape[:-1])
        if single:
            return self._encode(images, int(qualities), mask)
        return [*map(self._encode, images, map(int, qualities))]

    def encode_to(
        self,
        image: Any,
        *,
        target_bytes: int | None = None,
        target_bpp: float | None = None,
        target_psnr: float | None = None,
        effort: int = 0,
    ) -> bytes:
        """Compresses an image to a size or to a PSNR: exactly one target is given.

        Args:
            image: one image as for `encode`.
            target_bytes: int: the payload of the highest quality with no more bytes is taken.
            target_bpp: float: the same, in bits a pixel of the image.
            target_psnr: float, dB: the payload of the lowest quality that reaches it is taken.
            effort: as for `encode`.

        Returns:
            The payload.

        Raises:
            targets.TargetError: where even the lowest quality takes more bytes, or even the highest
                does not reach the PSNR.
            ValueError: as of `encode`, for a batch, or not exactly one target.
        """
        name, target = targets.only(bytes=target_bytes, bpp=target_bpp, psnr=target_psnr)
        pixels, single = self._as_images(image, effort)
        if not single:
            raise ValueError(f"expected one image [H, W, C]. Received: {tuple(pixels.shape)}")

        def encode(quality):
            return tf.constant(self._encode(pixels, int(quality)))

        def reaches(payload):
            return self.psnr_of(pixels, payload) >= target

        def fits(payload):
            return tf.strings.length(payload) <= limit

        highest = self.qualities[-1]
        if name == "psnr":
            payload, quality = bisection.lowest_that_reaches(encode, reaches, highest)
        else:
            limit = targets.most_bytes(pixels, name, target)
            payload, quality = bisection.highest_that_fits(encode, fits, highest)
        if quality == 0:
            raise targets.out_of_reach(self, pixels, effort, name, target)
        return payload.numpy()

    def psnr_of(self, image, payload):
        """dB, float32 scalar, of what a payload of this codec restores to; always a number."""
        image_hat = self.decode(payload, image.shape[0] * image.shape[1])
        return psnr(tf.convert_to_tensor(image), tf.constant(image_hat), least_error=1e-30)

    def pack(self, payload):
        """Raises ValueError: a latent codec's payload is as small as it gets."""
        raise ValueError("a latent codec's payload cannot be packed: it is range-coded already")

    def decode(
        self, payload: Any, max_pixels: int = layout.MAX_PIXELS, partial: bool = False
    ) -> Pixels:
        """Restores an image, or a batch of images of one size.

        Args:
            payload: `bytes`, the path of a file, str or `Path`, an eager tensor, or a list of them.
            max_pixels: int: a payload of a larger image is refused before memory is taken for it.
            partial: whether a payload of a progressive model that was cut will do, if a pass of it
                is whole.

        Returns:
            uint8 `[H, W, C]`, or `[N, H, W, C]` for a batch.

        Raises:
            PayloadError: for bytes that are not a payload, are damaged, are of another model or of
                too large an image.
            ValueError: for a batch of images of different sizes, or of none.
        """
        check_not_forked()
        payload = _out_of_tensor(payload)
        if not isinstance(payload, (list, tuple, np.ndarray)):
            return self._decode(as_bytes(payload), max_pixels, partial)
        if len(payload) == 0:
            raise ValueError("expected at least one payload. Received: none")
        payloads = [as_bytes(_out_of_tensor(item)) for item in payload]
        headers = [self._read_header(item, max_pixels) for item in payloads]
        sizes = {(header.height, header.width, header.channels) for header in headers}
        if len(sizes) > 1:
            raise ValueError(f"expected images of one size in a batch. Received: {sorted(sizes)}")
        return np.stack([self._decode(item, max_pixels, partial) for item in payloads])

    @cached_property
    def analyse(self):
        """`tf.function`: uint8 `[H, W, C]` and a quality, int32 scalar, to codes, int32
        `[ceil(H / cell), ceil(W / cell), depth(quality)]`."""
        model = self.model

        def network(quality, x):
            # Grey goes through networks for colour as three equal channels.
            x = tf.repeat(x, model.channels // tf.shape(x)[-1], axis=-1)
            x = tf.ensure_shape(x, [1, None, None, model.channels])
            return model.analyse(pad_to_multiple(to_unit(x), model.cell), quality)

        def analyse(image, quality):
            sides = [-(-side // model.cell) for side in tf.unstack(tf.shape(image)[:2])]
            return self._map(
                *(lambda x: network(quality, x), image, sides, model.cell, 1),
                depth=model.depth(quality),
                dtype=tf.int32,
            )

        return traced(analyse, [_IMAGE, _INTEGER])

    @cached_property
    def synthesise(self):
        """`tf.function`: codes and a quality, as `analyse` gives and takes them, and the image's
        height, width and channels, int32 scalars, to uint8 `[height, width, channels]`."""
        model = self.model

        def network(quality, channels, x):
            image_hat = model.synthesise(x, quality)
            if model.channels == 3:
                of_grey = tf.equal(channels, 1)
                image_hat = tf.cond(of_grey, lambda: luma(image_hat), lambda: image_hat)
            return to_uint8(image_hat)

        def synthesise(codes, quality, height, width, channels):
            return self._map(
                *(lambda x: network(quality, channels, x), codes, (height, width), 1, model.cell),
                depth=channels,
            )

        return traced(synthesise, [_CODES, *[_INTEGER] * 4])

    def _map(self, network, x, sides, cell_in, cell_out, **settings):
        cell = self.model.cell
        overlap, tile = -(-self.model.reach // cell), self.tile // cell
        return map_tiles(
            *(network, x, sides, cell_in, cell_out, overlap, tile),
            report=self._report,
            **settings,
        )

    def _encode(self, image, quality, mask=None):
        lowest, _ = self.model.alphabet
        codes = self.analyse(tf.convert_to_tensor(image), quality).numpy()
        rows, passes = codes.reshape(-1, codes.shape[-1]) - lowest, []
        if mask is not None and not mask.all():
            rows, passes = rows[mask.ravel()], [latent_layout.write_mask(mask)]
        frequencies = self.model.frequencies(quality)
        ends = self._ends(quality)
        passes += [
            symbols.encode(rows[:, start:end], frequencies[start:end])
            for start, end in zip([0, *ends], ends, strict=False)
        ]
        numbers = (*image.shape, quality, len(passes))
        header = latent_layout.Header(self.family, self.fingerprint, *numbers)
        return latent_layout.write(header, passes)

    def _decode(self, payload, max_pixels, partial):
        header = self._read_header(payload, max_pixels)
        codes, quality = self._read_codes(header, payload, partial)
        sizes = header.height, header.width, header.channels
        return self.synthesise(codes, quality, *sizes).numpy()

    def _read_codes(self, header, payload, partial=False):
        """A payload's codes, int array as `analyse` gives it, and the quality that they are of."""
        passes = latent_layout.read_passes(payload, partial and self.model.is_progressive)
        cells = [-(-side // self.model.cell) for side in (header.height, header.width)]
        count = math.prod(cells)
        masked = header.passes > len(self._steps(header.quality))
        if masked:
            sent, passes = latent_layout.read_mask(passes[0], count), passes[1:]
        ends = self._ends(header.quality)[: len(passes)]
        quality = self._steps(header.quality)[len(passes) - 1]
        lowest, _ = self.model.alphabet
        frequencies = self.model.frequencies(quality)
        rows = [
            symbols.decode(coded, int(sent.sum()) if masked else count, frequencies[start:end])
            for coded, start, end in zip(passes, [0, *ends], ends, strict=False)
        ]
        codes = rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)
        codes += lowest
        if masked:
            all_codes = np.zeros((count, codes.shape[1]), np.int32)
            all_codes[sent] = codes
            codes = all_codes
        return codes.reshape(*cells, -1), quality

    def _steps(self, quality):
        """The quality that each of a payload's passes is the last of."""
        if self.model.is_progressive:
            return [step for step in self.qualities if step <= quality]
        return [quality]

    def _ends(self, quality):
        """How many codes of a cell there are up to the end of each pass."""
        return [*map(self.model.depth, self._steps(quality))]

    def _as_images(self, image, effort):
        """An image or a batch, uint8, and whether it is one image."""
        check_not_forked()
        if effort != 0:
            raise ValueError(f"effort of a latent codec must be 0. Received: {effort!r}")
        images, single = as_images(as_pixels(image), self.model.channels)
        _check_eager(images)
        if max(images.shape[-3:-1]) > latent_layout.MAX_SIDE:
            raise ValueError(
                f"sides must be at most {latent_layout.MAX_SIDE}. Received: {tuple(images.shape)}"
            )
        return images, single

    def _as_mask(self, mask, shape):
        """Which cells are sent, bool: those of a mask of an image's `shape` with a true pixel."""
        if not self.model.makes_up:
            raise ValueError(f"a model of the family {self.family} takes no mask: it sends all")
        mask, cell = np.asarray(mask), self.model.cell
        if mask.dtype != bool or mask.shape != tuple(shape) or mask.ndim != 2:
            raise ValueError(
                f"mask must be bool, of one image's shape {tuple(shape)}. "
                f"Received: {mask.dtype} {mask.shape}"
            )
        mask = np.pad(mask, [(0, -side % cell) for side in mask.shape])
        height, width = (side // cell for side in mask.shape)
        return mask.reshape(height, cell, width, cell).any((1, 3))

    def _as_qualities(self, quality, shape):
        """A quality for each image, integers of a shape."""
        values = np.asarray(self.default_quality if quality is None else quality)
        if values.dtype.kind not in "iu" or not np.isin(values, self.qualities).all():
            ends = f"{self.qualities[0]}..{self.qualities[-1]}"
            raise ValueError(f"quality must be an integer in {ends}. Received: {quality!r}")
        if values.shape not in ((), shape):
            raise ValueError(f"quality must have the shape () or {shape}. Received: {values.shape}")
        return np.broadcast_to(values, shape)

    def _read_header(self, payload, max_pixels):
        """A payload's header; raises PayloadError where it is not one of this model's."""
        this = f"this one is {self.fingerprint} of the family {self.family}"
        if layout.is_payload(payload):
            made_by = layout.read_header(payload).fingerprint
            raise OtherModelError(f"made by model {made_by}, whose payloads are JPEGs; {this}")
        header = latent_layout.read_header(payload)
        if (header.family, header.fingerprint) != (self.family, self.fingerprint):
            whose = f"{header.fingerprint} of the family {header.family}"
            raise OtherModelError(f"made by model {whose}; {this}")
        latent_layout.check_pixels(header, max_pixels)
        fits = header.quality in self.qualities and header.channels in (1, self.model.channels)
        of_mask = header.passes - len(self._steps(header.quality))
        if not fits or of_mask not in (0, int(self.model.makes_up)):
            raise PayloadError(f"damaged: expected what the model can. Received: {header}")
        return header


def _check_eager(tensor):
    """Raises ValueError for a tensor of a graph: the range coder is no op of TensorFlow."""
    if tf.is_symbolic_tensor(tensor):
        raise ValueError(
            f"a latent codec takes eager tensors, outside of graphs. Received: {tensor}"
        )


def _out_of_tensor(payload):
    if not isinstance(payload, tf.Tensor):
        return payload
    _check_eager(payload)
    return payload.numpy()
