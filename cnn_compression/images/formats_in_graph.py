"""The formats that a graph can read: a whole file's bytes -> samples, in TensorFlow ops.

A format is two functions of the contents, a string scalar: `size`, int64 [2], the height and width
that its header gives before anything is decoded; and `decode`, also of the module tensorflow_io or
None, uint8 [H, W, 1..4], where 2 and 4 channels have alpha last. What is not decoded right, and
what would stop the process, fails before it reaches the decoder.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from cnn_compression.jpeg import foreign
from cnn_compression.tensors.bytes import (
    bytes_at,
    part,
    parts_after,
    require,
    size_of,
    uint,
    uints,
    walk,
)
from cnn_compression.tensors.tiles import map_pixels

_MOST_FRAME_PARTS = 65536  # of a GIF, up to 255 bytes each
_BAD = "truncated, damaged or unsupported "


def _png_size(contents):
    contents = require(part(contents, 12, 4) == b"IHDR", "truncated or damaged PNG", contents)
    return tf.stack([uint(contents, at, 4, big=True) for at in (20, 16)])


def _png(contents, io):
    def decoder(channels, dtype):
        return lambda: _to_8_bits(tf.io.decode_png(contents, channels, dtype))

    deep = tf.cast(uint(contents, 24) > 8, tf.int32)
    # A colour may mean transparent, which four channels have, and none but them.
    keyed = tf.cast(tf.size(parts_after(contents, b"tRNS")) > 0, tf.int32)
    branches = [decoder(channels, kind) for channels in (0, 4) for kind in (tf.uint8, tf.uint16)]
    image = tf.switch_case(2 * keyed + deep, branches)
    grey = (keyed == 1) & (uint(contents, 25) % 4 == 0)
    return tf.cond(grey, lambda: image[..., ::3], lambda: image)


def _to_8_bits(image):
    """uint16 -> uint8 round(v / 257), where TensorFlow would cut."""
    if image.dtype == tf.uint8:
        return image
    return map_pixels(
        lambda pixels: tf.cast((tf.cast(pixels, tf.int32) * 2 + 257) // 514, tf.uint8),
        image,
        tf.shape(image)[2],
    )


def _jpeg(contents, io):
    return foreign.decode_upright(contents)


def _gif_size(contents):
    return tf.stack([uint(contents, at, 2) for at in (8, 6)])


def _gif(contents, io):
    """The first frame: TensorFlow would decode all, which may be of any size."""

    def at_extension(at, clear):
        return uint(contents, at) == 0x21

    def after_extension(at, clear):
        control = part(contents, at, 2) == b"\x21\xf9"
        return _after_parts(contents, at + 2), clear | (control & (uint(contents, at + 3) % 2 == 1))

    packed = uint(contents, 10)
    at = 13 + tf.where(packed > 127, 3 * 2 ** (packed % 8 + 1), 0)
    at, clear = walk(at_extension, after_extension, (at, tf.constant(False)))
    contents = require(~clear, "GIF with a transparent colour is not supported", contents)
    covers = part(contents, at + 1, 8) == tf.strings.join([b"\0\0\0\0", part(contents, 6, 4)])
    contents = require(covers, "GIF whose first frame is smaller than the picture", contents)
    own = uint(contents, at + 9)  # above 127 if the frame has its own table of colours
    end = _after_parts(contents, at + 11 + tf.where(own > 127, 3 * 2 ** (own % 8 + 1), 0))
    frame = tf.strings.join([part(contents, 0, end), b";"])
    return tf.ensure_shape(tf.io.decode_image(frame, expand_animations=False), [None] * 3)


def _after_parts(contents, at):
    """Where a chain of sub-blocks ends that starts at `at` (GIF89a, section 15)."""

    def after_part(at):
        return (at + uint(contents, at) + 1,)

    return walk(lambda at: uint(contents, at) > 0, after_part, (at,), _MOST_FRAME_PARTS)[0] + 1


def _bmp_size(contents):
    contents = require(uint(contents, 14, 4) >= 40, "BMP of OS/2 is not supported", contents)
    height, width = (uint(contents, at, 4) for at in (22, 18))
    return tf.stack([tf.minimum(height, 2**32 - height), width])  # below zero: from the top down


def _bmp(contents, io):
    bits, start, head = uint(contents, 28, 2), uint(contents, 10, 4), 14 + uint(contents, 14, 4)
    raw = (uint(contents, 30, 4) == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    contents = require(raw, "BMP other than 8, 24 or 32 bits without compression", contents)
    palette = bytes_at(contents, head, tf.where(bits == 8, (start - head) // 4 * 4, 0))
    colours = uints(tf.reshape(palette, [-1, 4])[:, :3], 3, big=False)
    ramp = tf.reduce_all(colours == tf.range(tf.size(colours, tf.int64)) * 0x10101)
    contents = require(ramp, "BMP with a palette of colours is not supported", contents)
    height, width = tf.unstack(_bmp_size(contents))
    end = start + (bits * width + 31) // 32 * 4 * height  # what follows is damage to TensorFlow
    return tf.io.decode_bmp(part(contents, 0, end))[..., :3]  # the fourth byte has no meaning


# By tensorflow-io, whose decoders believe what they read.


def _webp_size(contents):
    """The canvas of an extended file, or the frame of a plain one, lossless or lossy (RFC 9649)."""
    kind, both = part(contents, 12, 4), uint(contents, 21, 4)
    sizes = {
        b"VP8X": [uint(contents, 27, 3) + 1, uint(contents, 24, 3) + 1],
        b"VP8L": [both // 2**14 % 2**14 + 1, both % 2**14 + 1],
        b"VP8 ": [uint(contents, 28, 2) % 2**14, uint(contents, 26, 2) % 2**14],
    }
    # Without these names, decoders take what stands there for a frame.
    known = tf.stack([kind == name for name in sizes]) & (part(contents, 0, 4) == b"RIFF")
    return tf.reduce_sum(tf.where(known[:, None], tf.stack(list(sizes.values())), 0), axis=0)


def _webp(contents, io):
    still = (part(contents, 12, 4) != b"VP8X") | (uint(contents, 20) // 2 % 2 == 0)
    contents = require(still, "animated WebP is not supported", contents)  # stops TensorFlow 2.21
    return io.image.decode_webp(contents) if io else tf.io.decode_webp(contents)[0]


def _avif_size(contents):
    told = bytes_at(tf.strings.reduce_join(_heads(parts_after(contents, b"ispe"), 12)), 0, 2**20)
    sides = uints(tf.reshape(told, [-1, 3, 4]), 4, big=True)[:, :0:-1]
    return tf.reduce_max(tf.concat([sides, tf.zeros([1, 2], tf.int64)], axis=0), axis=0)


def _heads(pieces, size):
    return tf.strings.substr(tf.boolean_mask(pieces, tf.strings.length(pieces) >= size), 0, size)


def _avif(contents, io):
    for kind in (b"\0\0\0\x09irot", b"\0\0\0\x09imir", b":auxiliary:alpha", b":auxid:1"):
        plain = tf.size(parts_after(contents, kind)) == 0
        contents = require(plain, "AVIF that is turned, mirrored or transparent", contents)
    return io.experimental.image.decode_avif(contents)


def _tiff_value(contents, tag):
    """SHORT or LONG of the first directory, int64 [0 or 1]."""
    big = part(contents, 0, 2) == b"MM"
    start = uint(contents, 4, 4, big)
    raw = bytes_at(contents, start + 2, 12 * uint(contents, start, 2, big))
    entries = tf.reshape(raw, [-1, 12])
    entry = entries[uints(entries[:, :2], 2, big) == tag][:1]
    kind = uints(entry[:, 2:4], 2, big)
    entry = require(tf.reduce_all((kind == 3) | (kind == 4)), f"{_BAD}TIFF", entry)
    return tf.where(kind == 3, uints(entry[:, 8:10], 2, big), uints(entry[:, 8:], 4, big))


def _tiff_size(contents):
    """Of the picture, or of a tile where that is larger: the decoder makes room for a whole one."""
    return tf.stack(
        [
            tf.reduce_max(tf.concat([_tiff_value(contents, tag) for tag in tags], axis=0))
            for tags in ((257, 323), (256, 322))
        ]
    )


def _tiff(contents, io):
    # libtiff makes room for any number of samples, and multiplies by alpha.
    samples = tf.concat([_tiff_value(contents, 277), [1]], axis=0)[0]
    plain = (samples == 1) | (samples == 3)
    contents = require(plain, "TIFF other than grey or RGB without alpha", contents)
    upright = tf.reduce_all(_tiff_value(contents, 274) == 1)
    contents = require(upright, "TIFF that is turned or mirrored", contents)
    grey = (samples == 1) & (tf.reduce_max(_tiff_value(contents, 262)) < 2)
    image = io.experimental.image.decode_tiff(contents)
    return image[..., : tf.where(grey, 1, 3)]


def _jp2_size(contents):
    """From the SIZ segment of the only codestream (ISO/IEC 15444-1, A.5.1)."""
    streams = parts_after(contents, b"\xff\x4f\xff\x51")
    # Two of them, and the decoder might take the one that was not looked at.
    head = tf.ensure_shape(tf.strings.substr(streams, 0, 2**20), [1])[0]
    # tensorflow-io reads the first MiB again and again in larger files, and aborts on other bits.
    bits = bytes_at(head, 38, 3 * uint(head, 36, 2, big=True))[::3]
    known = (size_of(contents) <= 2**20) & tf.reduce_all(bits == 7)
    head = require(known, "JPEG 2000 other than 8 bits in 1 MiB is not supported", head)
    return tf.stack([uint(head, at, 4, True) - uint(head, at + 8, 4, True) for at in (8, 4)])


def _jp2(contents, io):
    known = r"\C*colr\x01\C\C\x00\x00\x00[\x10\x11]\C*"  # sRGB or grey
    plain = tf.strings.regex_full_match(contents, known)
    plain &= tf.size(parts_after(contents, b"pclr")) == 0
    contents = require(plain, "JPEG 2000 other than sRGB or grey is not supported", contents)
    return io.experimental.image.decode_jp2(contents)


def _pnm_size(contents):
    head = tf.strings.regex_replace(contents, r"^P[56]\s(\d{1,6})\s(\d{1,6})\s255\s\C*", r"\1 \2")
    usual = tf.strings.regex_full_match(head, r"\d+ \d+")
    head = require(usual, "PNM other than binary with a maximum of 255", head)
    return tf.strings.to_number(tf.strings.split(head)[::-1], tf.int64)


def _pnm(contents, io):
    whole = tf.reduce_prod(_pnm_size(contents)) < size_of(contents)
    return io.experimental.image.decode_pnm(require(whole, f"{_BAD}PNM", contents))


class Format(NamedTuple):
    name: str
    magic: tuple[tuple[int, bytes], ...]  # where, what; one of them is enough
    size: Callable
    decode: Callable
    extra: bool = False  # whether it is beyond the TensorFlow ops that every release has


UNKNOWN = "not an image of a known format: starts with"
FORMATS = (
    Format("PNG", ((0, b"\x89PNG\r\n\x1a\n"),), _png_size, _png),
    Format("JPEG", ((0, b"\xff\xd8\xff"),), foreign.size, _jpeg),
    Format("GIF", ((0, b"GIF87a"), (0, b"GIF89a")), _gif_size, _gif),
    Format("BMP", ((0, b"BM"),), _bmp_size, _bmp),
    Format("WebP", ((8, b"WEBP"),), _webp_size, _webp, extra=True),
    Format("AVIF", ((4, b"ftypavif"),), _avif_size, _avif, extra=True),
    Format("TIFF", ((0, b"II*\0"), (0, b"MM\0*")), _tiff_size, _tiff, extra=True),
    Format("JPEG 2000", ((4, b"jP  \r\n\x87\n"),), _jp2_size, _jp2, extra=True),
    Format("PNM", ((0, b"P5"), (0, b"P6")), _pnm_size, _pnm, extra=True),
)
