"""A codec's `tf.function`s: an image to a payload and back, in stock TensorFlow ops."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_compression.codec import targets
from cnn_compression.codec.carried import Report
from cnn_compression.codec.effort import EFFORT_STEPS
from cnn_compression.codec.pair import PairCodec
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.multi_scale import MultiScale, as_multi_scale
from cnn_compression.payload import layout_ops
from cnn_compression.tensors.canvas import on_canvas
from cnn_compression.tensors.functions import traced
from cnn_compression.tensors.levels import to_unit
from cnn_compression.tensors.metrics import psnr
from cnn_compression.tensors.texture import texture_squares
from cnn_compression.tensors.tiles import map_tiles

_IMAGE = tf.TensorSpec((None, None, None), tf.uint8)
MAX_PIXELS = tf.TensorSpec((), tf.int64)


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


class GraphCodec:
    """A model with JPEG between its networks, for what is traced: `Codec` is for people.

    Args:
        model, tile, report: as of `Codec`.

    Attributes:
        model: `MultiScale`.
        tile: as given.
        fingerprint: 16 hexadecimal digits that payloads carry; see `fingerprint`.
    """

    def __init__(self, model: ComRec | MultiScale, tile: int, report: Report | None):
        self.model, self.tile = as_multi_scale(model), tile
        self._pairs = [PairCodec(pair, tile, report) for pair in self.model.pairs]
        self.fingerprint = fingerprint(self.model)
        self._functions = {}

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

    @functools.cached_property
    def decode_one(self):
        """`tf.function`: payload string scalar and the most pixels that are taken, int64 scalar, to
        uint8 `[H, W, C]`; a bad payload raises."""

        def decode_one(payload, max_pixels):
            status = self.verify(payload, max_pixels)
            message = tf.strings.join(["bad payload: ", status])
            with tf.control_dependencies([tf.debugging.Assert(tf.equal(status, ""), [message])]):
                payload = tf.identity(payload)
            return self.decode_verified(payload)

        return traced(decode_one, [tf.TensorSpec((), tf.string), MAX_PIXELS])

    @functools.cached_property
    def decode_verified(self):
        """As `decode_one`, of a payload that `verify` has found in order."""

        def decode_verified(payload):
            header, jpeg = layout_ops.taken_apart(payload)
            return self.restore(coding.decode(jpeg), header)

        return traced(decode_verified, [tf.TensorSpec((), tf.string)])

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

        return traced(decode_batch, [tf.TensorSpec((None,), tf.string), MAX_PIXELS])

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

    def verify(self, payload, max_pixels):
        """What is wrong with a payload, string scalar; see `layout_ops.verify`."""
        return layout_ops.verify(payload, self.fingerprint, self.model.scales, max_pixels)

    def _kept(self, name, effort, function, signature):
        """`function` as the `tf.function` of this name and effort, made once."""
        if effort not in range(len(EFFORT_STEPS)):
            most = len(EFFORT_STEPS) - 1
            raise ValueError(f"effort must be an integer in 0..{most}. Received: {effort!r}")
        if (name, effort) not in self._functions:
            self._functions[name, effort] = traced(function, signature)
        return self._functions[name, effort]
