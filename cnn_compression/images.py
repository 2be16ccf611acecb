"""Image files' bytes -> uint8 image tensors, in graph mode.

PNG, JPEG, GIF and BMP by TensorFlow's own ops; WebP, AVIF, TIFF, JPEG 2000 and PNM by
tensorflow-io, which is imported on first use and only where it is installed (without it, WebP
still works where TensorFlow itself decodes it). A decoder that stops the process or gives garbage
on some files is reached only through checks of the file's header.

Limits: JPEG 2000 in a JP2 file of up to 1 MiB, 8 bits, RGB or grey; AVIF of 8 bits without alpha,
rotation or mirroring, and its colours come out up to 3 levels off; BMP of 8, 24 or 32 bits, not
run-length coded; PNM with a maximum of 255 or 65535, and binary PBM; a TIFF's first page; a GIF's
first frame if it covers the picture; no animated WebP. EXIF orientation counts in JPEG and TIFF
only. Formats other than PNG carry no checksum: a file that was cut is refused, one with changed
bytes may decode to other pixels.
"""

import contextlib
import functools
import os
import re
import sys
import threading

import tensorflow as tf

from cnn_compression.attempts import attempt, otherwise_said, unless_wrong
from cnn_compression.image_formats import FORMATS, UNKNOWN, bytes_at, part, require


class ImageError(ValueError):
    """A file that cannot be used as an image; the text is the reason, without the file's name."""


def decode(contents, flatten=None, stock=False):
    """An image file's bytes as pixels; works eagerly and in a graph, as in `dataset.map`.

    Args:
        contents: string scalar (tensor or bytes), a whole file.
        flatten: None, or the colour (3 integers 0..255, RGB) behind transparent pixels.
        stock: know only PNG, JPEG, GIF and BMP, so that the graph has no op of tensorflow-io.

    Returns:
        uint8 tensor, upright: [H, W, 1] of grey files (PNG types 0 and 4, JPEG of one component,
        PGM, PBM, JPEG 2000 and TIFF of one channel, BMP with the ramp of greys as its palette),
        else [H, W, 3]. Samples v of 16 bits become round(v / 257); in a grey TIFF v >> 8, which is
        libtiff's way. A grey file with transparency over a `flatten` that is not grey becomes
        [H, W, 3].

    Raises:
        ValueError: `flatten` is not a colour.
        tf.errors.InvalidArgumentError: when the graph runs: not an image, damaged, or with
            transparent pixels and no `flatten` (alpha that is 255 everywhere is just dropped).
    """
    formats = tuple(form for form in FORMATS if not (stock and form.extra))
    return _decoder(_colour(flatten), formats, stock)(contents)[0]


def decode_checked(contents, max_pixels):
    """An image file's bytes as pixels, or why there are none: nothing is raised in the graph.

    Args:
        contents: string scalar tensor, any bytes. PNG, JPEG, GIF and BMP are known.
        max_pixels: int, of which a file's header may promise no more: it is read before anything is
            decoded.

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
        size, found = attempt(lambda which: tf.switch_case(which, sizes), number, none)
        status = tf.where(
            found & (tf.reduce_min(size) > 0),
            otherwise_said(
                size[0] <= max_pixels // tf.maximum(size[1], 1),
                *(size[1], " x ", size[0], f" pixels: at most {max_pixels} are taken"),
            ),
            tf.strings.join(["truncated or damaged ", name]),
        )
        return unless_wrong(status, decode_samples, nothing)

    def decode_samples():
        sample = _sampler(formats, stock=True)
        samples, decoded = attempt(lambda data: sample(data)[0], contents, nothing)
        image, alpha = _split_alpha(samples)
        status = tf.where(
            decoded,
            otherwise_said(tf.reduce_all(alpha == 255), "has transparent pixels"),
            tf.strings.join(["truncated, damaged or unsupported ", name]),
        )
        return tf.cond(tf.equal(status, ""), lambda: image, lambda: nothing), status

    known = otherwise_said(number < len(formats), "not a PNG, JPEG, GIF or BMP file")
    return unless_wrong(known, measure, nothing)


def read(path, flatten=None):
    """Reads an image file, eagerly; `flatten` and the image are as in `decode`.

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
    return read_contents(contents, flatten)


def read_contents(contents, flatten=None):
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
            image, bits = decoder(contents)
    except tf.errors.OpError as error:
        raise ImageError(_reason(error, formats[0])) from None
    return image.numpy(), ["16-bit samples reduced to 8"] if bits == 16 else []


def encode_png(image):
    """uint8 tensor [H, W, 1] or [H, W, 3] -> string scalar, a PNG file's bytes."""
    return tf.io.encode_png(image)


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
    damage = "truncated, damaged or unsupported" if form.extra else "truncated or damaged"
    return own[1] if own else f"{damage} {form.name}"


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
        cure = ", which has no wheels for Python 3.13: use Python 3.10-3.12 or convert the file"
    else:
        cure = ": install tensorflow-io==0.37.1 beside TensorFlow 2.16, or convert the file"
    return f"{name} needs tensorflow-io{cure}"


# The graph: which format, then alpha.


@functools.cache
def _decoder(flatten, formats, stock=False):
    """tf.function: string scalar -> (image, bits of the file's samples as int64)."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decoder(contents):
        samples, bits = _sampler(formats, stock)(contents)
        return _without_alpha(samples, flatten), bits

    return decoder


@functools.cache
def _sampler(formats, stock=False):
    """tf.function: string scalar -> (uint8 [H, W, 1..4], bits of the file's samples as int64)."""
    io = None if stock else _tensorflow_io()

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def sampler(contents):
        branches = [functools.partial(_branch, form, io, contents) for form in formats]
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


def _branch(form, io, contents):
    if form.extra and io is None and not (form.name == "WebP" and hasattr(tf.io, "decode_webp")):
        return _placeholder(require(False, _needs_tensorflow_io(form.name), contents))
    # A function of its own, because AutoGraph does not look into the branches of a switch.
    image, bits = tf.function(functools.partial(form.decode, io=io))(contents)
    return tf.ensure_shape(image, [None, None, None]), tf.cast(bits, tf.int64)


def _unknown(contents):
    return _placeholder(require(False, UNKNOWN, contents))


def _placeholder(contents):
    """What a branch that always fails gives for its type."""
    image = tf.ensure_shape(bytes_at(contents, 0, 0)[None, None], [None, None, None])
    return image, tf.constant(8, tf.int64)


def _split_alpha(samples):
    """uint8 [H, W, 1..4] -> its colours uint8 [H, W, 1 or 3] and alpha int32 [H, W, 0 or 1]."""
    channels = tf.shape(samples)[2]
    colours = channels - (channels + 1) % 2
    return samples[..., :colours], tf.cast(samples[..., colours:], tf.int32)


def _without_alpha(image, flatten):
    """uint8 [H, W, 1..4], of which 2 and 4 with alpha -> uint8 [H, W, 1 or 3]."""
    image, alpha = _split_alpha(image)
    opaque = tf.reduce_all(alpha == 255)
    if flatten is None:
        return require(opaque, "has transparent pixels: pass --flatten=COLOUR", image)
    grey_colour = len(set(flatten)) == 1
    paper = tf.constant(flatten[:1] if grey_colour else flatten)

    def blend():
        total = tf.cast(image, tf.int32) * alpha + paper * (255 - alpha)
        return tf.cast((2 * total + 255) // 510, tf.uint8)

    return tf.ensure_shape(tf.cond(opaque, lambda: image, blend), [None] * 3)
