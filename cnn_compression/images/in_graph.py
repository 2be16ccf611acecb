"""Image files' bytes -> uint8 image tensors, in graph mode: by TensorFlow's ops.

It takes less than `reading`, as docs/limits.md says. Colours stay as the file has them, and only
JPEGs are turned upright. Formats other than PNG carry no checksum: a file with changed bytes may
decode to other pixels.
"""

import contextlib
import functools

import tensorflow as tf

from cnn_compression.jpeg import foreign
from cnn_compression.payload.layout import MAX_PIXELS
from cnn_compression.tensors.attempts import attempt, otherwise_said, unless_wrong
from cnn_compression.tensors.bytes import part, parts_after, require, uint, walk
from cnn_compression.tensors.tiles import map_pixels

_MOST_GIF_PARTS = 65536  # of up to 255 bytes each


def decode(contents, max_pixels=MAX_PIXELS):
    """An image file's bytes as pixels; works eagerly and in a graph, as in `dataset.map`.

    Args:
        contents: string scalar (tensor or bytes), a whole file: PNG, JPEG, GIF or BMP, with
            tensorflow-io WebP or AVIF too, and WebP where TensorFlow itself decodes it.
        max_pixels: int, of which the file's header may promise no more: it is read before anything
            is decoded.

    Returns:
        uint8 tensor: [H, W, 1] of grey files, else [H, W, 3]. Samples v of 16 bits become
        round(v / 257).

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs: not an image, damaged, too large, or
            with transparent pixels (alpha that is 255 everywhere is just dropped).
    """
    contents = tf.convert_to_tensor(contents, tf.string)
    return _decode(contents, tf.convert_to_tensor(max_pixels, tf.int64))


@tf.function
def _decode(contents, max_pixels):
    more = 2 if _tensorflow_io() else hasattr(tf.io, "decode_webp")
    image, status = _read(contents, max_pixels, _STOCK + more, ": `images.read` takes more")
    return require(tf.equal(status, ""), status, image)


def decode_checked(contents, max_pixels):
    """An image file's bytes as pixels, or why there are none: nothing is raised in the graph.

    Args:
        contents: string scalar tensor, any bytes. PNG, JPEG, GIF and BMP are known, for which
            TensorFlow's own ops suffice.
        max_pixels: int, as of `decode`.

    Returns:
        uint8 tensor [H, W, 1] or [H, W, 3] as of `decode`, or [0, 0, 0]; and string scalar, what
        is wrong, or "".
    """
    return _read(contents, max_pixels, _STOCK)


def encode_png(image):
    """uint8 tensor [H, W, 1] or [H, W, 3] -> string scalar, a PNG file's bytes."""
    return tf.io.encode_png(image, compression=4)  # of 9: for 3 % less, 6 takes three times as long


def _read(contents, max_pixels, count, hint=""):
    """As `decode_checked`, of the first `count` formats."""
    names, formats = list(_FORMATS)[:count], list(_FORMATS.values())[:count]
    reasons = [f"truncated, damaged or unsupported {name}{hint}" for name in names]
    reasons.append(f"not a {', '.join(names[:-1])} or {names[-1]} file{hint}")
    found = [part(contents, at, len(magic)) == magic for at, magic, _, _ in formats]
    number = tf.argmax(tf.stack([*found, True]), output_type=tf.int32)
    reason = tf.gather(reasons, number)
    nothing = tf.zeros([0, 0, 0], tf.uint8)

    def measured_and_decoded(size, samples):
        status = _size_status(size(contents), max_pixels, reason)
        return unless_wrong(status, lambda: _without_alpha(samples(contents)), nothing)

    branches = [functools.partial(measured_and_decoded, *functions) for _, _, *functions in formats]
    branches.append(lambda: (nothing, reason))
    failed = nothing, reason
    return attempt(lambda which: tf.switch_case(which, branches), number, failed)[0]


def _size_status(size, max_pixels, otherwise):
    """ "" for int64 [2], height and width, of no more than so many pixels; `otherwise` for none."""
    height, width = tf.unstack(size)
    fits = height <= max_pixels // tf.maximum(width, 1)
    limit = (width, " x ", height, " pixels: at most ", max_pixels, " are taken")
    return tf.where(tf.reduce_min(size) > 0, otherwise_said(fits, *limit), otherwise)


def _without_alpha(samples):
    """uint8 [H, W, 1..4], 2 and 4 with alpha last -> uint8 [H, W, 1 or 3]; and a status."""
    channels = tf.shape(samples)[2]
    depth = channels - (channels + 1) % 2
    opaque = tf.reduce_all(samples[..., depth:] == 255)
    image = samples[..., : tf.where(opaque, depth, 0)]
    return image, otherwise_said(opaque, "has transparent pixels")


# The formats.


def _png_size(contents):
    return tf.stack([uint(contents, at, 4, big=True) for at in (20, 16)])


def _png(contents):
    # A colour may mean transparent, which four channels have, and none but them.
    keyed = tf.size(parts_after(contents, b"tRNS")) > 0
    deep, grey = uint(contents, 24) > 8, uint(contents, 25) % 4 == 0

    def of_16_bits(channels):  # round(v / 257), where TensorFlow would cut
        image = tf.io.decode_png(contents, channels, tf.uint16)
        return map_pixels(lambda v: tf.cast((tf.cast(v, tf.int32) + 128) // 257, tf.uint8), image)

    branches = [(keyed, lambda: of_16_bits(4)), (deep, lambda: of_16_bits(0))]
    image = tf.case(branches, lambda: tf.io.decode_png(contents))
    return tf.cond(keyed & grey, lambda: image[..., ::3], lambda: image)


def _gif_size(contents):
    return tf.stack([uint(contents, at, 2) for at in (8, 6)])


def _gif(contents):
    """The first frame: TensorFlow would decode all, which may be of any size."""
    at, clear = _gif_blocks(contents, _after_colours(13, uint(contents, 10)), inside=False)
    covers = part(contents, at + 1, 8) == tf.strings.join([b"\0\0\0\0", part(contents, 6, 4)])
    contents = require(covers & ~clear, "not all of the picture is in its first frame", contents)
    end, _ = _gif_blocks(contents, _after_colours(at + 11, uint(contents, at + 9)), inside=True)
    return tf.io.decode_image(part(contents, 0, end) + b";", expand_animations=False)


def _after_colours(at, packed):
    return at + tf.where(packed > 127, 3 * 2 ** (packed % 8 + 1), 0)


def _gif_blocks(contents, at, inside):
    """Where the extensions end that start at `at` (GIF89a, 23), and whether a colour is clear.

    `inside`: whether the sub-blocks of something come first.
    """

    def more(at, inside, clear):
        return inside | (uint(contents, at) == 0x21)

    def step(at, inside, clear):
        size = uint(contents, at)
        control = ~inside & (part(contents, at, 2) == b"\x21\xf9")
        clear |= control & (uint(contents, at + 3) % 2 == 1)
        return at + tf.where(inside, size + 1, 2), ~inside | (size > 0), clear

    at, _, clear = walk(more, step, (at, tf.constant(inside), tf.constant(False)), _MOST_GIF_PARTS)
    return at, clear


def _bmp_size(contents):
    contents = require(uint(contents, 14, 4) >= 40, "the header is OS/2's", contents)
    height, width = (uint(contents, at, 4) for at in (22, 18))
    return tf.stack([tf.minimum(height, 2**32 - height), width])  # below zero: from the top down


def _bmp(contents):
    bits, start = uint(contents, 28, 2), uint(contents, 10, 4)
    plain = (uint(contents, 30, 4) == 0) & ((bits == 24) | (bits == 32))
    contents = require(plain, "it is compressed or has a palette", contents)
    height, width = tf.unstack(_bmp_size(contents))
    end = start + (bits * width + 31) // 32 * 4 * height  # what follows is damage to TensorFlow
    return tf.io.decode_bmp(part(contents, 0, end))[..., :3]  # the fourth byte has no meaning


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


def _webp(contents):
    still = (part(contents, 12, 4) != b"VP8X") | (uint(contents, 20) // 2 % 2 == 0)
    contents = require(still, "animation stops TensorFlow 2.21", contents)
    if io := _tensorflow_io():
        return io.image.decode_webp(contents)
    return tf.io.decode_webp(contents)[0]


def _avif_size(contents):
    """Of the only item. Its frame may be larger, up to libavif's own limit of 2**28 pixels."""
    told = tf.ensure_shape(parts_after(contents, b"ispe"), [1])[0]
    return tf.stack([uint(told, at, 4, big=True) for at in (8, 4)])


def _avif(contents):
    boxes = [parts_after(contents, box) for box in (b"irot", b"imir", b"auxC")]
    plain = tf.size(tf.concat(boxes, axis=0)) == 0
    contents = require(plain, "it is turned, mirrored or has alpha", contents)
    return _tensorflow_io().experimental.image.decode_avif(contents)


@functools.cache
def _tensorflow_io():
    """The module tensorflow_io, or None where it is missing or its native ops do not load."""
    with contextlib.suppress(ImportError, NotImplementedError, AttributeError, tf.errors.OpError):
        with tf.init_scope():
            import tensorflow_io

            tensorflow_io.experimental.image.decode_pnm(b"P5 1 1 255 0")
        return tensorflow_io


# Where a file has which bytes, and two functions of the whole file, a string scalar: its size, the
# height and width by the header, int64 [2]; and its samples, uint8 [H, W, 1..4], of which 2 and 4
# have alpha last. What would not be decoded right, and what would stop the process, fails before
# it reaches the decoder.
_FORMATS = {
    "PNG": (0, b"\x89PNG\r\n\x1a\n", _png_size, _png),
    "JPEG": (0, b"\xff\xd8\xff", foreign.size, foreign.decode_upright),
    "GIF": (0, b"GIF8", _gif_size, _gif),
    "BMP": (0, b"BM", _bmp_size, _bmp),
    "WebP": (8, b"WEBP", _webp_size, _webp),
    "AVIF": (4, b"ftypavif", _avif_size, _avif),
}
_STOCK = 4  # of them are read by TensorFlow's own ops, in every release
