"""Image files' bytes -> uint8 image tensors, in graph mode.

PNG, JPEG, GIF and BMP by TensorFlow's own ops; WebP, AVIF, TIFF, JPEG 2000 and PNM by
tensorflow-io, which is imported on first use and only where it is installed (without it, WebP
still works where TensorFlow itself decodes it). A decoder that stops the process or gives garbage
on some files is reached only through checks of the file's header.

Limits: JPEG 2000 in a JP2 file of up to 1 MiB, 8 bits, RGB or grey; AVIF of 8 bits, one piece and
one frame, without alpha, rotation or mirroring, and its colours come out up to 3 levels off; BMP of
8, 24 or 32 bits, not run-length coded; PNM with a maximum of 255 or 65535, and binary PBM; a TIFF's
first page, of up to 5 samples a pixel; a GIF's first frame if it covers the picture; no animated
WebP. EXIF orientation counts in JPEG and TIFF only. Formats other than PNG carry no checksum: a
file that was cut is refused, one with changed bytes may decode to other pixels.
"""

import contextlib
import functools
import os
import re
import sys
import threading

import tensorflow as tf

from cnn_compression.images.bytes import bytes_at, part, require
from cnn_compression.images.formats import FORMATS, UNKNOWN
from cnn_compression.payload.layout import MAX_PIXELS
from cnn_compression.tensors.attempts import attempt, otherwise_said, unless_wrong
from cnn_compression.tensors.tiles import map_pixels


class ImageError(ValueError):
    """A file that cannot be used as an image; the text is the reason, without the file's name."""


def decode(contents, flatten=None, max_pixels=MAX_PIXELS):
    """An image file's bytes as pixels; works eagerly and in a graph, as in `dataset.map`.

    Args:
        contents: string scalar (tensor or bytes), a whole file.
        flatten: None, or the colour (3 integers 0..255, RGB) behind transparent pixels.
        max_pixels: int, of which the file's header may promise no more: it is read before anything
            is decoded.

    Returns:
        uint8 tensor, upright: [H, W, 1] of grey files (PNG types 0 and 4, JPEG of one component,
        PGM, PBM, JPEG 2000 and TIFF of one channel, BMP with the ramp of greys as its palette),
        else [H, W, 3]. Samples v of 16 bits become round(v / 257); in a grey TIFF v >> 8, which is
        libtiff's way. A grey file with transparency over a `flatten` that is not grey becomes
        [H, W, 3].

    Raises:
        ValueError: `flatten` is not a colour.
        tf.errors.InvalidArgumentError: when the graph runs: not an image, damaged, too large, or
            with transparent pixels and no `flatten` (alpha that is 255 everywhere is just dropped).
    """
    return _decoder(_colour(flatten), FORMATS)(contents, max_pixels)[0]


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
    formats = tuple(form for form in FORMATS if not form.extra)
    number = _format_number(contents, formats)
    name = tf.gather([*(form.name for form in formats), "image"], number)
    nothing = tf.zeros([0, 0, 0], tf.uint8)

    def measure():
        sizes = [functools.partial(form.size, contents) for form in formats]
        none = tf.zeros([2], tf.int64)
        size, _ = attempt(lambda which: tf.switch_case(which, sizes), number, none)
        damaged = tf.strings.join(["truncated or damaged ", name])
        status = _size_status(size, max_pixels, damaged)
        return unless_wrong(status, decode_samples, nothing)

    def decode_samples():
        sample = _sampler(formats, None)
        samples, decoded = attempt(lambda data: sample(data, max_pixels)[0], contents, nothing)
        status = tf.where(
            decoded,
            otherwise_said(_is_opaque(samples), "has transparent pixels"),
            tf.strings.join(["truncated, damaged or unsupported ", name]),
        )
        return tf.cond(tf.equal(status, ""), lambda: _colours(samples), lambda: nothing), status

    known = otherwise_said(number < len(formats), "not a PNG, JPEG, GIF or BMP file")
    return unless_wrong(known, measure, nothing)


def read(path, flatten=None, max_pixels=MAX_PIXELS):
    """Reads an image file, eagerly; arguments and image are as in `decode`.

    Returns:
        (uint8 NumPy array [H, W, C], list of remarks: "16-bit samples reduced to 8" or none).

    Raises:
        ImageError, OSError: the text is a one-line reason without the file's name.
        ValueError: `flatten` is not a colour.
    """
    flatten = _colour(flatten)
    try:
        with open(path, "rb") as file:
            contents = file.read()
    except OSError as error:
        raise type(error)(error.strerror) from None
    return read_contents(contents, flatten, max_pixels)


def read_contents(contents, flatten=None, max_pixels=MAX_PIXELS):
    """Like `read`, of a whole file's bytes instead of its path; never raises OSError."""
    flatten = _colour(flatten)
    if not contents:
        raise ImageError("empty file")
    formats = tuple(f for f in FORMATS if any(contents[at:].startswith(m) for at, m in f.magic))
    if not formats:
        raise ImageError(f"{UNKNOWN} {contents[:5]!r}")
    decoder = _decoder(flatten, formats)  # a graph of this format alone is built in a second
    # The C libraries print complaints of their own. Worker threads let them: only one thread at a
    # time can turn the stream off, and they would wait for each other.
    main = threading.current_thread() is threading.main_thread()
    try:
        with _quiet() if main else contextlib.nullcontext():
            image, bits = decoder(contents, max_pixels)
    except tf.errors.OpError as error:
        raise ImageError(_reason(error, formats[0])) from None
    return image.numpy(), ["16-bit samples reduced to 8"] if bits == 16 else []


def encode_png(image):
    """uint8 tensor [H, W, 1] or [H, W, 3] -> string scalar, a PNG file's bytes."""
    return tf.io.encode_png(image, compression=4)  # of 9: for 3 % less, 6 takes three times as long


def _colour(flatten):
    if flatten is None:
        return None
    colour = tuple(flatten)
    if len(colour) != 3 or not all(c in range(256) for c in colour):
        raise ValueError(f"flatten must be 3 integers from 0 to 255. Received: {flatten!r}")
    return colour


def _reason(error, form):
    """One line for people, from the error that decoding a file of the format `form` gave."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "too large for the memory of this machine"
    own = re.search(r"assertion failed: \[([^]]*)\]", error.message)
    return own[1] if own else _damaged(form)


def _damaged(form):
    damage = "truncated, damaged or unsupported" if form.extra else "truncated or damaged"
    return f"{damage} {form.name}"


# tensorflow-io.

_stderr_lock = threading.RLock()


@contextlib.contextmanager
def _quiet():
    """Keeps what C code prints off the standard error stream."""
    with _stderr_lock, open(os.devnull, "wb") as null:
        kept = os.dup(2)
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@functools.cache
def _tensorflow_io():
    """The module tensorflow_io, or None where it is missing or its native ops do not load."""
    try:
        with _quiet(), tf.init_scope():
            import tensorflow_io

            tensorflow_io.experimental.image.decode_pnm(b"P5 1 1 255 0")
    except (ImportError, NotImplementedError, AttributeError, tf.errors.OpError):
        return None
    return tensorflow_io


def _needs_tensorflow_io(name):
    if sys.version_info >= (3, 13):
        cure = ", which has no wheels for Python 3.13: use Python 3.11-3.12 or convert the file"
    else:
        cure = ": install tensorflow-io==0.37.1 beside TensorFlow 2.16, or convert the file"
    return f"{name} needs tensorflow-io{cure}"


# The graph: which format, then alpha.


@functools.cache
def _decoder(flatten, formats):
    """tf.function: string scalar -> (image, bits of the file's samples as int64)."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)])
    def decoder(contents, max_pixels):
        samples, bits = _sampler(formats, _tensorflow_io())(contents, max_pixels)
        return _without_alpha(samples, flatten), bits

    return decoder


@functools.cache
def _sampler(formats, io):
    """tf.function: string scalar -> (uint8 [H, W, 1..4], bits of the file's samples as int64)."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)])
    def sampler(contents, max_pixels):
        branches = [functools.partial(_branch, form, io, contents, max_pixels) for form in formats]
        branches.append(functools.partial(_unknown, contents))
        return tf.switch_case(_format_number(contents, formats), branches)

    return sampler


def _format_number(contents, formats):
    """Which of the formats bytes start like, int32 scalar; the number of them all if like none."""
    head = tf.strings.join([part(contents, 0, 16), b"\0" * 16])
    found = [
        tf.reduce_any([part(head, at, len(magic)) == magic for at, magic in form.magic])
        for form in formats
    ]
    return tf.argmax(tf.stack([*found, True]), output_type=tf.int32)


def _size_status(size, max_pixels, damaged):
    """ "" for int64 [2], height and width, of no more than so many pixels; `damaged` for none."""
    height, width = tf.unstack(size)
    fits = height <= max_pixels // tf.maximum(width, 1)
    limit = (width, " x ", height, " pixels: at most ", max_pixels, " are taken")
    return tf.where(tf.reduce_min(size) > 0, otherwise_said(fits, *limit), damaged)


def _branch(form, io, contents, max_pixels):
    if form.extra and io is None and not (form.name == "WebP" and hasattr(tf.io, "decode_webp")):
        return _placeholder(require(False, _needs_tensorflow_io(form.name), contents))
    # Functions of their own, because AutoGraph does not look into the branches of a switch.
    status = _size_status(tf.function(form.size)(contents), max_pixels, _damaged(form))
    contents = require(tf.equal(status, ""), status, contents)
    image, bits = tf.function(functools.partial(form.decode, io=io))(contents)
    return tf.ensure_shape(image, [None, None, None]), tf.cast(bits, tf.int64)


def _unknown(contents):
    return _placeholder(require(False, UNKNOWN, contents))


def _placeholder(contents):
    """What a branch that always fails gives for its type."""
    image = tf.ensure_shape(bytes_at(contents, 0, 0)[None, None], [None, None, None])
    return image, tf.constant(8, tf.int64)


def _colour_channels(samples):
    """1 or 3 of uint8 [H, W, 1..4], of which 2 and 4 have alpha last; int32 scalar."""
    channels = tf.shape(samples)[2]
    return channels - (channels + 1) % 2


def _colours(samples):
    """uint8 [H, W, 1..4] -> uint8 [H, W, 1 or 3] without alpha."""
    return samples[..., : _colour_channels(samples)]


def _is_opaque(samples):
    """Whether alpha is 255 everywhere, as far as uint8 [H, W, 1..4] has any; bool scalar."""
    return tf.reduce_all(samples[..., _colour_channels(samples) :] == 255)


def _without_alpha(samples, flatten):
    """uint8 [H, W, 1..4] -> uint8 [H, W, 1 or 3], on paper of colour `flatten`."""
    opaque = _is_opaque(samples)
    if flatten is None:
        return _colours(require(opaque, "has transparent pixels: pass --flatten=COLOUR", samples))
    grey_colour = len(set(flatten)) == 1
    paper = tf.constant(flatten[:1] if grey_colour else flatten)

    def blend(part):
        alpha = tf.cast(part[..., -1:], tf.int32)
        total = tf.cast(part[..., :-1], tf.int32) * alpha + paper * (255 - alpha)
        return tf.cast((2 * total + 255) // 510, tf.uint8)

    depth = tf.maximum(_colour_channels(samples), tf.size(paper))
    image = tf.cond(opaque, lambda: _colours(samples), lambda: map_pixels(blend, samples, depth))
    return tf.ensure_shape(image, [None] * 3)
