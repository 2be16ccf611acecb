"""Each image format: a whole file's bytes -> samples, in TensorFlow ops.

A format is a function of (contents, io): a string scalar, and the module tensorflow_io or None. It
returns uint8 `[H, W, 1..4]`, where 2 and 4 channels have alpha last, and the bits of the file's
samples. Where a decoder would stop the process or give garbage, the file's header is checked first.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# Bytes.

_ALL = 2**40  # as a length: up to the end
# Of the parts that a file's header, or a GIF's frame, is walked through; a graph takes some ten
# microseconds for each, and a hostile file could have any number.
_MOST_PARTS, _MOST_FRAME_PARTS = 4096, 65536


def _size(contents):
    return tf.cast(tf.strings.length(contents), tf.int64)


def require(condition, reason, value):
    """`value`, which nothing gets hold of before `condition` was found true."""
    with tf.control_dependencies([tf.Assert(condition, [reason])]):
        return tf.identity(value)


def part(contents, at, size):
    """The `size` bytes at `at`, or those of them that there are."""
    # TensorFlow's own error for a place outside cites the bytes, which Python then cannot decode.
    at = tf.clip_by_value(tf.convert_to_tensor(at, tf.int64), 0, _size(contents))
    return tf.strings.substr(contents, at, tf.convert_to_tensor(size, tf.int64))


def bytes_at(contents, at, size):
    return tf.io.decode_raw(part(contents, at, size), tf.uint8)


def _uint(contents, at, size=1, big=False):
    """The unsigned integer of `size` bytes at `at` as int64; outside the file it is an error."""
    return _uints(tf.ensure_shape(bytes_at(contents, at, size), [size]), size, big)


def _uints(raw, size, big):
    """uint8 [..., size] -> int64 [...]; the most significant byte comes first if `big`."""
    # Reversed in Python: where TensorFlow meets [::-1] of a vector, it optimises nothing more.
    weights = [256**i for i in range(size)]
    weights = tf.where(big, tf.constant(weights[::-1], tf.int64), tf.constant(weights, tf.int64))
    return tf.reduce_sum(tf.cast(raw, tf.int64) * weights, axis=-1)


def _find(contents, pattern):
    """Where bytes `pattern` first stand in `contents`, or -1; int64."""
    raw = tf.io.decode_raw(tf.strings.join([contents, b"\0" * len(pattern)]), tf.uint8)
    size = tf.size(raw) - len(pattern)
    hits = tf.reduce_all([raw[i : i + size] == byte for i, byte in enumerate(pattern)], axis=0)
    return tf.concat([tf.where(hits)[:, 0], [-1]], axis=0)[0]


def _ifd(contents):
    """First directory of a TIFF structure, as much of it as there is.

    Returns:
        (bool, is the most significant byte first; uint8 [N, 12], the entries).
    """
    size = _size(contents)
    contents = tf.strings.join([contents, b"\0" * 8])
    big = part(contents, 0, 2) == b"MM"
    start = tf.minimum(_uint(contents, 4, 4, big), size)
    count = _uint(contents, start, 2, big)
    raw = bytes_at(contents, start + 2, 12 * count)
    return big, tf.reshape(raw[: tf.size(raw) // 12 * 12], [-1, 12])


def _upright(image, orientation):
    """Undoes EXIF orientation 1..8 (Exif 2.3, tag 0x0112): 1 is upright, 5..8 swap the axes."""
    turned, mirror = orientation > 4, (orientation - 1) % 4
    image = tf.cond(turned, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond((mirror == 1) | (mirror == 2), lambda: image[:, ::-1], lambda: image)
    return tf.cond(mirror >= 2, lambda: image[::-1], lambda: image)


def _to_8_bits(image):
    """uint16 or int -> uint8 round(v / 257)."""
    return tf.cast((tf.cast(image, tf.int32) * 2 + 257) // 514, tf.uint8)


# One function a format: (contents, io) -> (uint8 [H, W, 1..4], bits of a sample).


def _png(contents, io):
    contents = _with_png_header(contents)
    bits, colour = _uint(contents, 24), _uint(contents, 25)
    key = _png_colour_key(contents, bits, colour)
    keyed = key[0] >= 0

    def at_16_bits():
        # TensorFlow cuts to 8 bits instead of rounding, and does not know colour keys.
        image = tf.io.decode_png(contents, dtype=tf.uint16)
        alpha = tf.reduce_any(tf.cast(image, tf.int64) != key, axis=2, keepdims=True)
        alpha = tf.cast(alpha[..., : tf.cast(keyed, tf.int32)], tf.uint8) * 255
        return tf.concat([_to_8_bits(image), alpha], axis=2)

    plain = (bits <= 8) & ~keyed
    return tf.cond(plain, lambda: tf.io.decode_png(contents), at_16_bits), bits


def _with_png_header(contents):
    """`contents`, whose header comes first, as it must: else what stands there is believed."""
    return require(part(contents, 12, 4) == b"IHDR", "truncated or damaged PNG", contents)


def _png_colour_key(contents, bits, colour):
    """The grey or RGB value that means transparent, at 16 bits, int64 [1] or [3]; [-1] if none."""
    at = tf.constant(8, tf.int64)
    if (colour == 0) | (colour == 2):
        while (part(contents, at + 4, 4) != b"IDAT") & (part(contents, at + 4, 4) != b"tRNS"):
            tf.autograph.experimental.set_loop_options(maximum_iterations=_MOST_PARTS)
            at += 12 + _uint(contents, at, 4, big=True)
    if part(contents, at + 4, 4) == b"tRNS":
        samples = bytes_at(contents, at + 8, 2 + 2 * colour)
        key = _uints(tf.reshape(samples, [-1, 2]), 2, True) * (65535 // (2**bits - 1))
    else:
        key = tf.constant([-1], tf.int64)
    return key


def _jpeg(contents, io):
    at, exif = _jpeg_headers(contents)
    # Without the end marker libjpeg would print to the terminal before it gives up.
    end = _find(part(contents, at, _ALL), b"\xff\xd9")
    contents = require(end >= 0, "truncated or damaged JPEG", contents)
    image = tf.io.decode_jpeg(contents, dct_method="INTEGER_ACCURATE")
    return _upright(image, _orientation(exif, io)), 8


def _jpeg_headers(contents):
    """(offset of the first scan, the Exif segment's TIFF structure or b"")."""
    at, size = tf.constant(2, tf.int64), _size(contents)
    exif = tf.constant(b"")
    while (at + 4 <= size) & (part(contents, at, 2) != b"\xff\xda"):
        tf.autograph.experimental.set_loop_options(maximum_iterations=_MOST_PARTS)
        length = _uint(contents, at + 2, 2, big=True)
        if part(contents, at + 4, 6) == b"Exif\0\0":
            exif = part(contents, at + 10, tf.maximum(length - 8, 0))
        at += 2 + length
    return at, exif


def _orientation(exif, io):
    """The orientation 1..8 that the Exif segment's first directory says, else 1; int64."""
    big, entries = _ifd(exif)
    start = tf.where(big, [1, 0x12, 0, 3, 0, 0, 0, 1], [0x12, 1, 3, 0, 1, 0, 0, 0])
    found = entries[tf.reduce_all(entries[:, :8] == tf.cast(start, tf.uint8), axis=1)]
    entry = tf.concat([found, tf.zeros([1, 12], tf.uint8)], axis=0)[0]
    if io is None:
        value = _uint(_text(entry), 8, 2, big)
    else:
        # The whole segment would be at its reader's mercy: a wrong offset in it ends the process.
        header = tf.where(big, b"MM\0*\0\0\0\x08\0\x01", b"II*\0\x08\0\0\0\x01\0")
        parts = [b"\xff\xd8\xff\xe1\0\x22Exif\0\0", header, _text(entry), b"\0\0\0\0\xff\xd9"]
        value = io.experimental.image.decode_jpeg_exif(tf.strings.join(parts))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _text(raw):
    """uint8 [N] -> string scalar."""
    return tf.strings.reduce_join(
        tf.gather([bytes([i]) for i in range(256)], tf.cast(raw, tf.int32))
    )


def _gif(contents, io):
    def first_frame(data):
        return tf.ensure_shape(tf.io.decode_image(data, expand_animations=False), [None] * 3)

    packed, control, at = _uint(contents, 10), tf.constant(0, tf.int64), tf.constant(13, tf.int64)
    at += tf.where(packed > 127, 3 * 2 ** (packed % 8 + 1), 0)
    while _uint(contents, at) == 0x21:  # an extension
        tf.autograph.experimental.set_loop_options(maximum_iterations=_MOST_PARTS)
        if _uint(contents, at + 1) == 0xF9:
            control = at
        at = _after_gif_parts(contents, at + 2)
    covers = part(contents, at + 1, 8) == tf.strings.join([b"\0\0\0\0", part(contents, 6, 4)])
    contents = require(covers, "GIF whose first frame is smaller than the picture", contents)
    own = _uint(contents, at + 9)  # 128 if the frame has its own table of colours
    table = tf.where(own > 127, at + 10, 13)
    data = at + 11 + tf.where(own > 127, 3 * 2 ** (own % 8 + 1), 0)
    # TensorFlow would decode all frames, which may be of any size.
    contents = tf.strings.join([part(contents, 0, _after_gif_parts(contents, data)), b";"])
    image = first_frame(contents)
    colours = 2 ** (tf.where(own > 127, own, packed) % 8 + 1)
    colour = _uint(contents, control + 6)
    flagged = (control > 0) & (_uint(contents, control + 3) % 2 == 1)
    if flagged & (colour < colours):
        # Transparent pixels come out black. Without the flag, and their colour painted white, they
        # come out white: what differs is transparent.
        flags = _text(bytes_at(contents, control + 3, 1) - 1)
        contents = _patch(contents, control + 3, flags)
        opaque = first_frame(_patch(contents, table + 3 * colour, b"\xff\xff\xff"))
        alpha = tf.reduce_all(opaque == image, axis=2, keepdims=True)
        image = tf.concat([image, tf.cast(alpha, tf.uint8) * 255], axis=2)
    return image, 8


def _after_gif_parts(contents, at):
    """Where a chain of sub-blocks ends that starts at `at` (GIF89a, section 15)."""
    while _uint(contents, at) > 0:
        tf.autograph.experimental.set_loop_options(maximum_iterations=_MOST_FRAME_PARTS)
        at += _uint(contents, at) + 1
    return at + 1


def _patch(contents, at, new):
    """`contents` with the bytes from `at` on replaced by the string `new`."""
    after = part(contents, at + _size(new), _ALL)
    return tf.strings.join([part(contents, 0, at), new, after])


def _bmp(contents, io):
    header, bits = _uint(contents, 14, 4), _uint(contents, 28, 2)
    bit_fields = _uint(contents, 30, 4) == 3
    usual = part(contents, 54, 12) == b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"
    plain = (_uint(contents, 30, 4) == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    known = (header >= 40) & (plain | (bit_fields & (bits == 32) & usual))
    contents = require(known, "BMP other than 8, 24 or 32 bits without compression", contents)
    image = tf.io.decode_bmp(contents)
    if bits == 8:  # so far it has the palette's indices
        colours = _uint(contents, 46, 4)
        size = 4 * tf.where(colours > 0, colours, 256)
        palette = tf.reshape(bytes_at(contents, 14 + header, size), [-1, 4])[:, 2::-1]
        ramp = tf.reduce_all(palette == tf.cast(tf.range(tf.shape(palette)[0])[:, None], tf.uint8))
        if ~ramp:
            image = tf.gather(palette, tf.cast(image[..., 0], tf.int32))
    elif ~(bit_fields & (header >= 56) & (part(contents, 66, 4) == b"\0\0\0\xff")):
        image = image[..., :3]  # the fourth byte has no meaning
    return image, 8


def _webp(contents, io):
    still = (part(contents, 12, 4) != b"VP8X") | (_uint(contents, 20) // 2 % 2 == 0)
    contents = require(still, "animated WebP is not supported", contents)  # stops TensorFlow 2.21
    return tf.io.decode_webp(contents)[0] if io is None else io.image.decode_webp(contents), 8


def _avif(contents, io):
    def without(*patterns):
        return tf.reduce_all([_find(contents, pattern) < 0 for pattern in patterns])

    # tensorflow-io ignores all three.
    upright = without(b"\0\0\0\x09irot", b"\0\0\0\x09imir")
    contents = require(upright, "AVIF with rotation or mirroring is not supported", contents)
    opaque = without(b":auxiliary:alpha", b":auxid:1")
    contents = require(opaque, "AVIF with an alpha channel is not supported", contents)
    return io.experimental.image.decode_avif(contents), 8


def _tiff(contents, io):
    values = functools.partial(_tiff_values, contents, *_ifd(contents))
    bits, samples, layout, orientation = [
        tf.concat([values([tag]), [default]], axis=0)[0]
        for tag, default in ((258, 1), (277, 1), (262, 2), (274, 1))
    ]
    # libtiff leaves black or garbage where the file ends before its strips or tiles do.
    ends = values([273, 324]) + values([279, 325])
    inside = (tf.size(ends) > 0) & tf.reduce_all(ends <= _size(contents))
    contents = require(inside, "truncated or damaged TIFF", contents)
    image = io.experimental.image.decode_tiff(contents)
    # libtiff multiplies by alpha, and of orientations 5..8 it does the mirroring only.
    alpha = tf.cast(image[..., 3:], tf.int32)
    colours = (tf.cast(image[..., :3], tf.int32) * 255 + alpha // 2) // tf.maximum(alpha, 1)
    colours = colours[..., : tf.where((samples == 1) & (layout < 2), 1, 3)]
    image = tf.concat([tf.cast(tf.minimum(colours, 255), tf.uint8), image[..., 3:]], axis=2)
    rest = tf.gather(tf.constant([1, 1, 1, 1, 1, 5, 7, 5, 7], tf.int64), orientation)
    return _upright(image, rest), bits


def _tiff_values(contents, big, entries, tags):
    """What the first entry with one of `tags`, SHORT or LONG, holds; int64 [N], [0] if none."""
    matches = tf.reduce_any(
        _uints(entries[:, :2], 2, big)[:, None] == tf.constant(tags, tf.int64), axis=1
    )
    entry = tf.concat([entries[matches], tf.zeros([1, 12], tf.uint8)], axis=0)[0]
    long = _uints(entry[2:4], 2, big) == 4
    size = (2 + 2 * tf.cast(long, tf.int64)) * _uints(entry[4:8], 4, big)
    near = tf.where(size <= 4, size, 0)  # small values stand in the entry itself
    at = tf.where(near < size, _uints(entry[8:], 4, big), 0)
    raw = tf.concat([entry[8 : 8 + near], bytes_at(contents, at, size - near)], axis=0)
    return tf.cond(
        long,
        lambda: _uints(tf.reshape(raw, [-1, 4]), 4, big),
        lambda: _uints(tf.reshape(raw, [-1, 2]), 2, big),
    )


def _jp2(contents, io):
    # tensorflow-io reads the first MiB again and again in larger files, aborts on more than 8 bits,
    # and knows neither palettes nor colour spaces.
    small = _size(contents) <= 2**20
    contents = require(small, "JPEG 2000 of more than 1 MiB is not supported", contents)
    start = _find(contents, b"\xff\x4f\xff\x51")
    header = part(contents, 0, tf.maximum(start, 0))
    colour = _find(header, b"colr")
    enumerated = (colour >= 0) & (_uint(contents, colour + 4) == 1)
    space = _uint(contents, colour + 7, 4, big=True)
    count = _uint(contents, start + 40, 2, big=True)
    components = tf.reshape(bytes_at(contents, start + 42, 3 * count), [-1, 3])
    known = (
        (~enumerated | (space == 16) | (space == 17))
        & ((count == 1) | (count == 3) | (count == 4))
        & tf.reduce_all(components == tf.constant([7, 1, 1], tf.uint8))
        & (_find(header, b"pclr") < 0)
    )
    contents = require(known, "JPEG 2000 other than RGB or grey with 8 bits", contents)
    return io.experimental.image.decode_jp2(contents), 8


def _pnm(contents, io):
    gap = r"(?:\s|#\C*?\n)+"
    start = rf"^P[2-6]{gap}\d{{1,6}}{gap}\d{{1,6}}"
    bitmap = part(contents, 0, 2) == b"P4"
    pattern = tf.where(bitmap, rf"{start}\s", rf"{start}{gap}\d{{1,5}}\s")
    rest = tf.strings.regex_replace(contents, pattern, "", replace_global=False)
    header = part(contents, 0, _size(contents) - _size(rest))
    fields = tf.strings.split(tf.strings.regex_replace(header, gap, " "))
    width, height = (
        tf.strings.to_number(fields[1], tf.int64),
        tf.strings.to_number(fields[2], tf.int64),
    )
    if bitmap:
        rows = tf.reshape(bytes_at(rest, 0, height * ((width + 7) // 8)), [height, -1, 1])
        ones = rows // tf.constant([128, 64, 32, 16, 8, 4, 2, 1], tf.uint8) % 2
        image, bits = 255 * (1 - tf.reshape(ones, [height, -1, 1])[:, :width]), 8
    else:
        image, bits = _pnm_samples(fields, rest, width * height, io)
    return image, bits


def _pnm_samples(fields, rest, pixels, io):
    """(image, bits) of a PNM file; tensorflow-io gets its header's `fields` without comments."""
    bits = tf.where(fields[3] == b"65535", 16, 8)
    usual = (fields[3] == b"255") | (fields[3] == b"65535")
    rest = require(usual, "PNM with a maximum other than 255 or 65535 is not supported", rest)
    plain = (fields[0] == b"P2") | (fields[0] == b"P3")
    colour = (fields[0] == b"P3") | (fields[0] == b"P6")
    samples = tf.where(colour, 3 * pixels, pixels)
    least = tf.where(plain | (bits == 16), 2 * samples - tf.cast(plain, tf.int64), samples)
    sound = (samples > 0) & (least <= _size(rest))
    sound &= ~plain | tf.strings.regex_full_match(rest, r"[\d\s]*")
    rest = require(sound, "truncated or damaged PNM", rest)
    contents = tf.strings.join([tf.strings.reduce_join(fields, separator=" "), "\n", rest, "\n"])
    decode_pnm = io.experimental.image.decode_pnm
    image = tf.cond(
        bits == 8,
        lambda: decode_pnm(contents),
        lambda: _to_8_bits(decode_pnm(contents, dtype=tf.uint16)),
    )
    return image, bits


# The size that a header gives, before anything is decoded: contents -> int64 [2], height and width.


def _png_size(contents):
    contents = _with_png_header(contents)
    return tf.stack([_uint(contents, at, 4, big=True) for at in (20, 16)])


def _jpeg_size(contents):
    return tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64)


def _gif_size(contents):
    return tf.stack([_uint(contents, at, 2) for at in (8, 6)])


def _bmp_size(contents):
    height, width = (_uint(contents, at, 4) for at in (22, 18))
    return tf.stack([tf.minimum(height, 2**32 - height), width])  # below zero: from the top down


class Format(NamedTuple):
    name: str
    magic: tuple[tuple[int, bytes], ...]  # where, what; one of them is enough
    decode: Callable
    size: Callable | None = None  # of the formats that every release of TensorFlow knows

    @property
    def extra(self):
        """Whether the format is beyond the TensorFlow ops that every release has."""
        return self.size is None


UNKNOWN = "not an image of a known format: starts with"
FORMATS = (
    Format("PNG", ((0, b"\x89PNG\r\n\x1a\n"),), _png, _png_size),
    Format("JPEG", ((0, b"\xff\xd8\xff"),), _jpeg, _jpeg_size),
    Format("GIF", ((0, b"GIF87a"), (0, b"GIF89a")), _gif, _gif_size),
    Format("BMP", ((0, b"BM"),), _bmp, _bmp_size),
    Format("WebP", ((8, b"WEBP"),), _webp),
    Format("AVIF", ((4, b"ftypavif"),), _avif),
    Format("TIFF", ((0, b"II*\0"), (0, b"MM\0*")), _tiff),
    Format("JPEG 2000", ((4, b"jP  \r\n\x87\n"),), _jp2),
    Format("PNM", tuple((0, b"P%d" % i) for i in range(2, 7)), _pnm),
)
