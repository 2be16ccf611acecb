"""The size that an image file's header gives, before anything is decoded.

One function a format: contents, a string scalar, to int64 `[2]`, height and width. Where a header
is not whole, the graph fails.
"""

import functools

import tensorflow as tf

from cnn_compression.images.bytes import (
    bytes_at,
    codestream,
    find_boxes,
    ifd,
    part,
    pnm_header,
    require,
    size_of,
    tiff_values,
    uint,
    uints,
    walk,
    with_png_header,
)

_BAD_AVIF = "truncated, damaged or unsupported AVIF"


def png(contents):
    contents = with_png_header(contents)
    return tf.stack([uint(contents, at, 4, big=True) for at in (20, 16)])


def jpeg(contents):
    return tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64)


def gif(contents):
    return tf.stack([uint(contents, at, 2) for at in (8, 6)])


def bmp(contents):
    height, width = (uint(contents, at, 4) for at in (22, 18))
    return tf.stack([tf.minimum(height, 2**32 - height), width])  # below zero: from the top down


def webp(contents):
    """The canvas of an extended file, or the frame of a plain one, lossless or lossy (RFC 9649)."""
    kind = part(contents, 12, 4)
    known = (kind == b"VP8X") | (kind == b"VP8L") | (kind == b"VP8 ")
    # Without these names, decoders take what stands there for a frame.
    named = known & (part(contents, 0, 4) == b"RIFF")
    contents = require(named, "truncated or damaged WebP", contents)
    if kind == b"VP8X":
        size = tf.stack([uint(contents, at, 3) + 1 for at in (27, 24)])
    elif kind == b"VP8L":
        both = uint(contents, 21, 4)
        size = tf.stack([both // 2**14 % 2**14, both % 2**14]) + 1
    else:
        size = tf.stack([uint(contents, at, 2) % 2**14 for at in (28, 26)])
    return size


def avif(contents):
    """From the AV1 sequence header: the decoder believes a frame, not the boxes around it.

    Without the short header that still pictures have, a frame may be larger than the header says:
    then a side counts as the most that its bits could say.
    """
    raw = bytes_at(contents, _av1_header(contents, *_avif_item(contents)), 16)
    bits = tf.reshape(raw[:, None] // tf.constant([128, 64, 32, 16, 8, 4, 2, 1], tf.uint8), [-1])

    def number(at, count):
        powers = 2 ** tf.range(tf.cast(count, tf.int64) - 1, -1, -1)
        return tf.reduce_sum(tf.cast(bits[at : at + count] % 2, tf.int64) * powers)

    # AV1 specification, 5.5.1. Of several operating points or with times, the header is longer.
    short = number(4, 1) == 1
    at = tf.where(short, 10, tf.where(number(24, 5) > 7, 30, 29))
    at = require(short | (number(5, 7) == 0), _BAD_AVIF, tf.cast(at, tf.int64))
    columns, rows = number(at, 4) + 1, number(at + 4, 4) + 1  # bits of the width and the height
    width, height = number(at + 8, columns) + 1, number(at + 8 + columns, rows) + 1
    return tf.where(short, tf.stack([height, width]), 2 ** tf.stack([rows, columns]))


def _avif_item(contents):
    """Where the main picture's bytes start and end (ISO/IEC 14496-12, 8.11); int64 scalars."""
    whole = tf.constant(0, tf.int64), size_of(contents)
    films_metas, starts, ends = find_boxes(contents, *whole, [b"moov", b"meta"])
    counts, places, _ = find_boxes(contents, starts[1] + 4, ends[1], [b"iloc", b"pitm"])
    single = tf.reduce_all(films_metas == [0, 1]) & tf.reduce_all(counts == 1)
    table, main = tf.unstack(places)
    version, sizes = uint(contents, table), uint(contents, table + 4, 2, big=True)
    usual = (version < 2) & ((sizes == 0x4400) | (sizes == 0x4440)) & (uint(contents, main) == 0)
    contents = require(single & usual, _BAD_AVIF, contents)

    # Entries: an identifier, what must be zero, how many extents, and one extent's place and size.
    length = tf.where(sizes == 0x4440, tf.constant(18, tf.int64), 14) + 2 * version
    count = uint(contents, table + 6, 2, big=True)
    entries = tf.reshape(bytes_at(contents, table + 8, count * length), [count, length])
    number = uint(contents, main + 4, 2, big=True)
    own = tf.ensure_shape(entries[uints(entries[:, :2], 2, True) == number], [1, None])[0]
    start = uints(own[-8:-4], 4, True)
    end = start + uints(own[-4:], 4, True)
    one_extent = tf.reduce_all(uints(entries[:, -10:-8], 2, True) == 1)
    sound = (number > 0) & one_extent & tf.reduce_all(own[2:-10] == 0) & (end <= size_of(contents))
    return require(sound, _BAD_AVIF, start), end


def _av1_header(contents, at, end):
    """Where the only sequence header among AV1's units from `at` to `end` is; int64 scalar."""

    def after_unit(at, count, header):  # AV1 specification, 5.3
        first = uint(contents, at)
        at += 1 + first // 4 % 2
        digits = tf.cast(bytes_at(contents, at, 8), tf.int64)
        own = tf.math.cumprod(digits // 128, exclusive=True)  # 1 up to the first below 128
        size = tf.reduce_sum(own * digits % 128 * 128 ** tf.range(tf.size(own, tf.int64)))
        sized = first // 2 % 2 == 1
        at += tf.where(sized, tf.reduce_sum(own), 0)
        size = tf.where(sized, size, end - at)
        found = first // 8 % 16 == 1
        at = require(size <= end - at, _BAD_AVIF, at)
        return at + size, count + tf.cast(found, tf.int64), tf.where(found, at, header)

    none = tf.constant(0, tf.int64)
    _, count, header = walk(lambda at, *_: at < end, after_unit, (at, none, none))
    return require(count == 1, _BAD_AVIF, header)


def tiff(contents):
    """Of the picture, or of a tile where that is larger: the decoder makes room for a whole one."""
    values = functools.partial(tiff_values, contents, *ifd(contents))

    def side(tag, tile_tag):
        own = tf.ensure_shape(values([tag]), [1])
        return tf.reduce_max(tf.concat([own, values([tile_tag])], axis=0))

    return tf.stack([side(257, 323), side(256, 322)])


def jp2(contents):
    """From the codestream's SIZ segment: the end of the grid less the picture's place in it."""
    start = codestream(contents)
    return tf.stack(
        [
            uint(contents, start + end, 4, big=True) - uint(contents, start + end + 8, 4, big=True)
            for end in (12, 8)
        ]
    )


def pnm(contents):
    fields, _ = pnm_header(contents)
    return tf.stack([tf.strings.to_number(fields[number], tf.int64) for number in (2, 1)])
