"""Each image format: a whole file's bytes -> samples, in TensorFlow ops.

A format is a function of (contents, io): a string scalar, and the module tensorflow_io or None. It
returns uint8 `[H, W, 1..4]`, where 2 and 4 channels have alpha last, and the bits of the file's
samples. Where a decoder would stop the process or give garbage, the file's header is checked first.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from cnn_compression.images import sizes
from cnn_compression.images.bytes import (
    ALL,
    bytes_at,
    codestream,
    find,
    ifd,
    part,
    pnm_header,
    require,
    size_of,
    text_of,
    tiff_values,
    uint,
    uints,
    walk,
    with_png_header,
)
from cnn_compression.tensors.attempts import otherwise_said
from cnn_compression.tensors.tiles import map_pixels

_MOST_FRAME_PARTS = 65536  # of a GIF, up to 255 bytes each
_MOST_JPEG_SAMPLES = 2**29 - 1  # that TensorFlow's decoder takes


def _upright(image, orientation):
    """Undoes EXIF orientation 1..8 (Exif 2.3, tag 0x0112): 1 is upright, 5..8 swap the axes."""
    turned, mirror = orientation > 4, (orientation - 1) % 4
    image = tf.cond(turned, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond((mirror == 1) | (mirror == 2), lambda: image[:, ::-1], lambda: image)
    return tf.cond(mirror >= 2, lambda: image[::-1], lambda: image)


def _to_8_bits(image):
    """uint16 -> uint8 round(v / 257)."""
    return tf.cast((tf.cast(image, tf.int32) * 2 + 257) // 514, tf.uint8)


# One function a format: (contents, io) -> (uint8 [H, W, 1..4], bits of a sample).


def _png(contents, io):
    contents = with_png_header(contents)
    bits, colour = uint(contents, 24), uint(contents, 25)
    key = _png_colour_key(contents, bits, colour)
    keyed = key[0] >= 0

    def to_8_bits(pixels):
        other = pixels != tf.cast(key, tf.uint16)  # modulo 2**16, a key too large is no pixel's
        alpha = tf.cast(tf.reduce_any(other, axis=-1, keepdims=True), tf.uint8) * 255
        return tf.concat([_to_8_bits(pixels), alpha[..., : tf.cast(keyed, tf.int32)]], axis=-1)

    def at_16_bits():
        # TensorFlow cuts to 8 bits instead of rounding, and does not know colour keys.
        image = tf.io.decode_png(contents, dtype=tf.uint16)
        return map_pixels(to_8_bits, image, tf.shape(image)[2] + tf.cast(keyed, tf.int32))

    plain = (bits <= 8) & ~keyed
    return tf.cond(plain, lambda: tf.io.decode_png(contents), at_16_bits), bits


def _png_colour_key(contents, bits, colour):
    """The grey or RGB value that means transparent, at 16 bits, int64 [1] or [3]; [-1] if none."""

    def before_it(at):
        kind = part(contents, at + 4, 4)
        return ((colour == 0) | (colour == 2)) & (kind != b"IDAT") & (kind != b"tRNS")

    def after_chunk(at):
        return (at + 12 + uint(contents, at, 4, big=True),)

    (at,) = walk(before_it, after_chunk, (tf.constant(8, tf.int64),))
    if part(contents, at + 4, 4) == b"tRNS":
        samples = bytes_at(contents, at + 8, 2 + 2 * colour)
        key = uints(tf.reshape(samples, [-1, 2]), 2, True) * (65535 // (2**bits - 1))
    else:
        key = tf.constant([-1], tf.int64)
    return key


def _jpeg(contents, io):
    at, exif = _jpeg_headers(contents)
    # Without the end marker libjpeg would print to the terminal before it gives up.
    end = find(part(contents, at, ALL), b"\xff\xd9")
    contents = require(end >= 0, "truncated or damaged JPEG", contents)
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(contents, tf.int64), 3)
    channels = tf.minimum(channels, 3)  # CMYK becomes RGB
    fits = height * width * channels <= _MOST_JPEG_SAMPLES
    limit = f" JPEG: at most {_MOST_JPEG_SAMPLES} samples can be decoded"
    too_large = otherwise_said(fits, width, " x ", height, " x ", channels, limit)
    contents = require(fits, too_large, contents)
    image = tf.io.decode_jpeg(contents, dct_method="INTEGER_ACCURATE")
    return _upright(image, _orientation(exif, io)), 8


def _jpeg_headers(contents):
    """(offset of the first scan, the Exif segment's TIFF structure or b"")."""
    size = size_of(contents)

    def before_scan(at, exif):
        return (at + 4 <= size) & (part(contents, at, 2) != b"\xff\xda")

    def after_segment(at, exif):
        length = uint(contents, at + 2, 2, big=True)
        found = part(contents, at + 4, 6) == b"Exif\0\0"
        own = part(contents, at + 10, tf.maximum(length - 8, 0))
        return at + 2 + length, tf.where(found, own, exif)

    return walk(before_scan, after_segment, (tf.constant(2, tf.int64), tf.constant(b"")))


def _orientation(exif, io):
    """The orientation 1..8 that the Exif segment's first directory says, else 1; int64."""
    big, entries = ifd(exif)
    start = tf.where(big, [1, 0x12, 0, 3, 0, 0, 0, 1], [0x12, 1, 3, 0, 1, 0, 0, 0])
    found = entries[tf.reduce_all(entries[:, :8] == tf.cast(start, tf.uint8), axis=1)]
    entry = tf.concat([found, tf.zeros([1, 12], tf.uint8)], axis=0)[0]
    if io is None:
        value = uint(text_of(entry), 8, 2, big)
    else:
        # The whole segment would be at its reader's mercy: a wrong offset in it ends the process.
        header = tf.where(big, b"MM\0*\0\0\0\x08\0\x01", b"II*\0\x08\0\0\0\x01\0")
        parts = [b"\xff\xd8\xff\xe1\0\x22Exif\0\0", header, text_of(entry), b"\0\0\0\0\xff\xd9"]
        value = io.experimental.image.decode_jpeg_exif(tf.strings.join(parts))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _gif(contents, io):
    def first_frame(data):
        return tf.ensure_shape(tf.io.decode_image(data, expand_animations=False), [None] * 3)

    def at_extension(at, control):
        return uint(contents, at) == 0x21

    def after_extension(at, control):
        control = tf.where(uint(contents, at + 1) == 0xF9, at, control)
        return _after_gif_parts(contents, at + 2), control

    packed = uint(contents, 10)
    at = 13 + tf.where(packed > 127, 3 * 2 ** (packed % 8 + 1), 0)
    at, control = walk(at_extension, after_extension, (at, tf.constant(0, tf.int64)))
    covers = part(contents, at + 1, 8) == tf.strings.join([b"\0\0\0\0", part(contents, 6, 4)])
    contents = require(covers, "GIF whose first frame is smaller than the picture", contents)
    own = uint(contents, at + 9)  # 128 if the frame has its own table of colours
    table = tf.where(own > 127, at + 10, 13)
    data = at + 11 + tf.where(own > 127, 3 * 2 ** (own % 8 + 1), 0)
    # TensorFlow would decode all frames, which may be of any size.
    contents = tf.strings.join([part(contents, 0, _after_gif_parts(contents, data)), b";"])
    image = first_frame(contents)
    colours = 2 ** (tf.where(own > 127, own, packed) % 8 + 1)
    colour = uint(contents, control + 6)
    flagged = (control > 0) & (uint(contents, control + 3) % 2 == 1)
    if flagged & (colour < colours):
        # Transparent pixels come out black. Without the flag, and their colour painted white, they
        # come out white: what differs is transparent.
        flags = text_of(bytes_at(contents, control + 3, 1) - 1)
        contents = _patch(contents, control + 3, flags)
        opaque = first_frame(_patch(contents, table + 3 * colour, b"\xff\xff\xff"))
        alpha = tf.reduce_all(opaque == image, axis=2, keepdims=True)
        image = tf.concat([image, tf.cast(alpha, tf.uint8) * 255], axis=2)
    return image, 8


def _after_gif_parts(contents, at):
    """Where a chain of sub-blocks ends that starts at `at` (GIF89a, section 15)."""

    def within(at):
        return uint(contents, at) > 0

    def after_part(at):
        return (at + uint(contents, at) + 1,)

    (at,) = walk(within, after_part, (at,), _MOST_FRAME_PARTS)
    return at + 1


def _patch(contents, at, new):
    """`contents` with the bytes from `at` on replaced by the string `new`."""
    after = part(contents, at + size_of(new), ALL)
    return tf.strings.join([part(contents, 0, at), new, after])


def _bmp(contents, io):
    header, bits = uint(contents, 14, 4), uint(contents, 28, 2)
    bit_fields = uint(contents, 30, 4) == 3
    usual = part(contents, 54, 12) == b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"
    plain = (uint(contents, 30, 4) == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    known = (header >= 40) & (plain | (bit_fields & (bits == 32) & usual))
    contents = require(known, "BMP other than 8, 24 or 32 bits without compression", contents)
    image = tf.io.decode_bmp(contents)
    if bits == 8:  # so far it has the palette's indices
        colours = uint(contents, 46, 4)
        size = 4 * tf.where(colours > 0, colours, 256)
        palette = tf.reshape(bytes_at(contents, 14 + header, size), [-1, 4])[:, 2::-1]
        ramp = tf.reduce_all(palette == tf.cast(tf.range(tf.shape(palette)[0])[:, None], tf.uint8))
        if ~ramp:
            image = map_pixels(
                lambda part: tf.gather(palette, tf.cast(part[..., 0], tf.int32)), image, depth=3
            )
    elif ~(bit_fields & (header >= 56) & (part(contents, 66, 4) == b"\0\0\0\xff")):
        image = image[..., :3]  # the fourth byte has no meaning
    return image, 8


def _webp(contents, io):
    still = (part(contents, 12, 4) != b"VP8X") | (uint(contents, 20) // 2 % 2 == 0)
    contents = require(still, "animated WebP is not supported", contents)  # stops TensorFlow 2.21
    return tf.io.decode_webp(contents)[0] if io is None else io.image.decode_webp(contents), 8


def _avif(contents, io):
    def without(*patterns):
        return tf.reduce_all([find(contents, pattern) < 0 for pattern in patterns])

    # tensorflow-io ignores all three.
    upright = without(b"\0\0\0\x09irot", b"\0\0\0\x09imir")
    contents = require(upright, "AVIF with rotation or mirroring is not supported", contents)
    opaque = without(b":auxiliary:alpha", b":auxid:1")
    contents = require(opaque, "AVIF with an alpha channel is not supported", contents)
    return io.experimental.image.decode_avif(contents), 8


def _tiff(contents, io):
    values = functools.partial(tiff_values, contents, *ifd(contents))
    bits, samples, layout, orientation = [
        tf.concat([values([tag]), [default]], axis=0)[0]
        for tag, default in ((258, 1), (277, 1), (262, 2), (274, 1))
    ]
    # libtiff leaves black or garbage where the file ends before its strips or tiles do.
    ends = values([273, 324]) + values([279, 325])
    inside = (tf.size(ends) > 0) & tf.reduce_all(ends <= size_of(contents))
    contents = require(inside, "truncated or damaged TIFF", contents)
    few = samples <= 5  # libtiff would make room for any number
    contents = require(few, "TIFF of more than 5 samples a pixel is not supported", contents)
    image = io.experimental.image.decode_tiff(contents)
    channels = tf.where((samples == 1) & (layout < 2), 1, 3)

    def divided(part):
        alpha = tf.cast(part[..., 3:], tf.int32)
        colours = tf.cast(part[..., :channels], tf.int32) * 255 + alpha // 2
        colours = tf.minimum(colours // tf.maximum(alpha, 1), 255)
        return tf.concat([tf.cast(colours, tf.uint8), part[..., 3:]], axis=-1)

    # libtiff multiplies by alpha, and of orientations 5..8 it does the mirroring only.
    image = map_pixels(divided, image, channels + 1)
    rest = tf.gather(tf.constant([1, 1, 1, 1, 1, 5, 7, 5, 7], tf.int64), orientation)
    return _upright(image, rest), bits


def _jp2(contents, io):
    # tensorflow-io reads the first MiB again and again in larger files, aborts on more than 8 bits,
    # and knows neither palettes nor colour spaces.
    small = size_of(contents) <= 2**20
    contents = require(small, "JPEG 2000 of more than 1 MiB is not supported", contents)
    start = codestream(contents)
    header = part(contents, 0, start)
    colour = find(header, b"colr")
    enumerated = (colour >= 0) & (uint(contents, colour + 4) == 1)
    space = uint(contents, colour + 7, 4, big=True)
    count = uint(contents, start + 40, 2, big=True)
    components = tf.reshape(bytes_at(contents, start + 42, 3 * count), [-1, 3])
    known = (
        (~enumerated | (space == 16) | (space == 17))
        & ((count == 1) | (count == 3) | (count == 4))
        & tf.reduce_all(components == tf.constant([7, 1, 1], tf.uint8))
        & (find(header, b"pclr") < 0)
    )
    contents = require(known, "JPEG 2000 other than RGB or grey with 8 bits", contents)
    return io.experimental.image.decode_jp2(contents), 8


def _pnm(contents, io):
    fields, rest = pnm_header(contents)
    width, height = (tf.strings.to_number(field, tf.int64) for field in (fields[1], fields[2]))
    if fields[0] == b"P4":
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
    sound = (samples > 0) & (least <= size_of(rest))
    sound &= ~plain | tf.strings.regex_full_match(rest, r"[\d\s]*")
    rest = require(sound, "truncated or damaged PNM", rest)
    contents = tf.strings.join([tf.strings.reduce_join(fields, separator=" "), "\n", rest, "\n"])
    decode_pnm = io.experimental.image.decode_pnm
    image = tf.cond(
        bits == 8,
        lambda: decode_pnm(contents),
        lambda: map_pixels(_to_8_bits, decode_pnm(contents, dtype=tf.uint16)),
    )
    return image, bits


class Format(NamedTuple):
    name: str
    magic: tuple[tuple[int, bytes], ...]  # where, what; one of them is enough
    decode: Callable
    size: Callable  # of `sizes`
    extra: bool = False  # whether it is beyond the TensorFlow ops that every release has


UNKNOWN = "not an image of a known format: starts with"
FORMATS = (
    Format("PNG", ((0, b"\x89PNG\r\n\x1a\n"),), _png, sizes.png),
    Format("JPEG", ((0, b"\xff\xd8\xff"),), _jpeg, sizes.jpeg),
    Format("GIF", ((0, b"GIF87a"), (0, b"GIF89a")), _gif, sizes.gif),
    Format("BMP", ((0, b"BM"),), _bmp, sizes.bmp),
    Format("WebP", ((8, b"WEBP"),), _webp, sizes.webp, extra=True),
    Format("AVIF", ((4, b"ftypavif"),), _avif, sizes.avif, extra=True),
    Format("TIFF", ((0, b"II*\0"), (0, b"MM\0*")), _tiff, sizes.tiff, extra=True),
    Format("JPEG 2000", ((4, b"jP  \r\n\x87\n"),), _jp2, sizes.jp2, extra=True),
    Format("PNM", tuple((0, b"P%d" % i) for i in range(2, 7)), _pnm, sizes.pnm, extra=True),
)
