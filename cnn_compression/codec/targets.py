"""Payloads of a given size or PSNR: the search along a codec's quality, and in the gaps it leaves.

In stock TensorFlow ops, so that the same search runs eagerly, in `tf.data` and in what is exported.
"""

import functools

import numpy as np
import tensorflow as tf

from cnn_compression.codec import bisection
from cnn_compression.codec.bisection import HIGHEST, LOWEST
from cnn_compression.tensors.functions import shared
from cnn_compression.tensors.metrics import bpp


class TargetError(ValueError):
    """No quality meets a target of size or PSNR."""


def only(**targets):
    """The name and the value of the one target that is not None.

    Raises:
        ValueError: where there is not exactly one, or it is not above 0 and finite.
    """
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1 or not 0 < min(given.values()) < float("inf"):
        raise ValueError(f"expected one target above 0. Received: {given or 'none'}")
    return given.popitem()


def most_bytes(image, name, target):
    """What a target of "bytes" or "bpp" leaves for the payload of an image `[H, W, C]`, int."""
    height, width, _ = image.shape
    return int(min(target if name == "bytes" else target * height * width / 8, 2**31 - 1))


def encode_to_size(codec, effort, image, max_bytes):
    """What `Codec.size_encoder` documents."""

    def fits(payload):
        return tf.strings.length(payload) <= max_bytes

    search = functools.partial(bisection.highest_that_fits, fits=fits)
    payload, quality = search(functools.partial(codec.encoder(effort), image))

    def better(other):
        more_bytes = tf.strings.length(other) > tf.strings.length(payload)
        return more_bytes & (codec.psnr_of(image, other) > codec.psnr_of(image, payload))

    return _from_gap(codec, effort, image, payload, quality, search, better), quality


def encode_to_psnr(codec, effort, image, target):
    """What `Codec.psnr_encoder` documents."""

    def reaches(payload):
        return codec.psnr_of(image, payload) >= target

    search = functools.partial(bisection.lowest_that_reaches, reaches=reaches)
    payload, quality = search(functools.partial(codec.encoder(effort), image))

    def better(other):
        return tf.strings.length(other) < tf.strings.length(payload)

    return _from_gap(codec, effort, image, payload, quality - 1, search, better), quality


def _from_gap(codec, effort, image, payload, quality, search, better):
    """`payload`, or what is `better` from the gap that opens where a finer pair takes over.

    Between `quality` and the next the picture may go to a finer pair, and bytes and PSNR rise by
    much at once. What lies between is had from that pair with a lower quality of the JPEG than the
    scale gives this picture: `search` looks there.
    """
    known = tf.clip_by_value(quality, LOWEST, HIGHEST - 1)
    (here, finer), (_, end) = map(tf.unstack, codec.route(image, tf.stack([known, known + 1])))

    def encode(jpeg_quality):
        return codec.pair_encoder(effort)(image, finer, jpeg_quality, tf.constant(0))

    def look():
        # A function of its own: TensorFlow fails to unfold a loop that calls inside of a branch.
        other, found = shared(functools.partial(search, encode, highest=end - 1), [])()
        return tf.cond((found > 0) & better(other), lambda: other, lambda: payload)

    gap = tf.equal(known, quality) & (finer > here) & tf.not_equal(payload, "")
    return tf.cond(gap, look, lambda: payload)


def out_of_reach(codec, image, effort, name, target):
    """`TargetError`: why a target, "bytes", "bpp" or "psnr", is not met, and what comes nearest."""
    quality = codec.qualities[-1 if name == "psnr" else 0]
    payload = codec.encode(np.asarray(image), quality, effort)
    if name == "psnr":
        best = float(codec.psnr_of(image, payload))
        return TargetError(
            f"even quality {quality} reaches {best:.2f} dB only. Target: {target:g} dB"
        )
    size = f"{len(payload)} bytes"
    if name == "bpp":
        size += f", {bpp(len(payload), *image.shape[:2]):.4f} bpp"
    return TargetError(f"even quality {quality} takes {size}. Target: {target:g} {name}")
