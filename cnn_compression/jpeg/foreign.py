"""Strangers' JPEGs -> upright pixels, in TensorFlow ops: limits first, EXIF orientation last."""

import tensorflow as tf

from cnn_compression.jpeg.coding import MAX_SAMPLES, decode
from cnn_compression.jpeg.segments import MOST_SCANS
from cnn_compression.tensors.attempts import otherwise_said
from cnn_compression.tensors.bytes import (
    ALL,
    bytes_at,
    part,
    parts_after,
    require,
    size_of,
    uint,
    uints,
    walk,
)


def size(contents):
    """Height and width by the header, int64 [2]."""
    return tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64)


def decode_upright(contents):
    """A JPEG, string scalar, as uint8 [H, W, 1 or 3]; where it is damaged, the graph fails.

    libjpeg fills what coded data that ends early leaves out: only that an end marker follows is
    sure.
    """
    at, exif = _head(contents)
    coded = part(contents, at, ALL)
    # Without the end marker libjpeg would print to the terminal before it gives up.
    whole = tf.size(parts_after(coded, b"\xff\xd9")) > 0
    contents = require(whole, "truncated or damaged JPEG", contents)
    few = tf.size(parts_after(coded, b"\xff\xda")) <= MOST_SCANS
    contents = require(few, f"JPEG of too many scans: at most {MOST_SCANS} are taken", contents)
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(contents, tf.int64), 3)
    channels = tf.minimum(channels, 3)  # CMYK becomes RGB
    fits = height * width * channels <= MAX_SAMPLES
    limit = f" JPEG: at most {MAX_SAMPLES} samples can be decoded"
    too_large = otherwise_said(fits, width, " x ", height, " x ", channels, limit)
    image = decode(require(fits, too_large, contents))
    return upright(image, _orientation(exif))


def _head(contents):
    """(offset of the first scan, the first Exif segment's TIFF structure or b"")."""

    def before_scan(at, exif):
        return (at + 4 <= size_of(contents)) & (part(contents, at, 2) != b"\xff\xda")

    def after_segment(at, exif):
        fill = part(contents, at, 2) == b"\xff\xff"
        length = uint(contents, at + 2, 2, big=True)
        found = (part(contents, at + 4, 6) == b"Exif\0\0") & (exif == b"") & ~fill
        own = part(contents, at + 10, tf.maximum(length - 8, 0))
        return at + tf.where(fill, tf.constant(1, tf.int64), 2 + length), tf.where(found, own, exif)

    return walk(before_scan, after_segment, (tf.constant(2, tf.int64), tf.constant(b"")))


def _orientation(exif):
    """What a TIFF structure's first directory says (Exif 2.3, tag 0x0112), 1 where it does not."""
    padded = tf.strings.join([exif, b"\0" * 8])
    big = part(padded, 0, 2) == b"MM"
    start = tf.minimum(uint(padded, 4, 4, big), size_of(exif))
    raw = bytes_at(padded, start + 2, 12 * uint(padded, start, 2, big))
    entries = tf.reshape(raw[: tf.size(raw) // 12 * 12], [-1, 12])
    found = entries[uints(entries[:, :2], 2, big) == 0x0112]
    entry = tf.concat([found, tf.zeros([1, 12], tf.uint8)], axis=0)[0]
    long = uints(entry[2:4], 2, big) == 4
    value = tf.where(long, uints(entry[8:], 4, big), uints(entry[8:10], 2, big))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def upright(image, orientation):
    """Undoes EXIF orientation 1..8: 1 is upright, 5..8 swap the axes."""
    turned, mirror = orientation > 4, (orientation - 1) % 4
    image = tf.cond(turned, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond((mirror == 1) | (mirror == 2), lambda: image[:, ::-1], lambda: image)
    return tf.cond(mirror >= 2, lambda: image[::-1], lambda: image)
