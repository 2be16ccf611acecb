"""Image files' bytes -> uint8 image tensors, in graph mode.

PNG, JPEG, GIF and BMP by TensorFlow's own ops; WebP, AVIF, TIFF, JPEG 2000 and PNM by
tensorflow-io, which is imported on first use and only where it is installed (without it, WebP
still works where TensorFlow itself decodes it).

It takes less than `reading`, and says what it does not take: `formats_in_graph` has the limits.
Colours stay as the file has them, and only JPEGs are turned upright. Formats other than PNG carry
no checksum: a file with changed bytes may decode to other pixels, one of tensorflow-io's formats
that was cut may come out in part.
"""

import contextlib
import functools
import sys

import tensorflow as tf

from cnn_compression.images.formats_in_graph import FORMATS, UNKNOWN
from cnn_compression.images.reading import check_flatten
from cnn_compression.payload.layout import MAX_PIXELS
from cnn_compression.tensors.attempts import attempt, otherwise_said, unless_wrong
from cnn_compression.tensors.bytes import bytes_at, part, require
from cnn_compression.tensors.tiles import map_pixels


def decode(contents, flatten=None, max_pixels=MAX_PIXELS):
    """An image file's bytes as pixels; works eagerly and in a graph, as in `dataset.map`.

    Args:
        contents: string scalar (tensor or bytes), a whole file.
        flatten: None, or the colour (3 integers 0..255, RGB) behind transparent pixels.
        max_pixels: int, of which the file's header may promise no more: it is read before anything
            is decoded.

    Returns:
        uint8 tensor: [H, W, 1] of grey files, else [H, W, 3]. Samples v of 16 bits become
        round(v / 257). A grey file with transparency over a `flatten` that is not grey becomes
        [H, W, 3].

    Raises:
        ValueError: `flatten` is not a colour.
        tf.errors.InvalidArgumentError: when the graph runs: not an image, damaged, too large, or
            with transparent pixels and no `flatten` (alpha that is 255 everywhere is just dropped).
    """
    return _decoder(check_flatten(flatten))(contents, max_pixels)


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
        samples, decoded = attempt(lambda data: sample(data, max_pixels), contents, nothing)
        status = tf.where(
            decoded,
            otherwise_said(_is_opaque(samples), "has transparent pixels"),
            tf.strings.join(["truncated, damaged or unsupported ", name]),
        )
        return tf.cond(tf.equal(status, ""), lambda: _colours(samples), lambda: nothing), status

    known = otherwise_said(number < len(formats), "not a PNG, JPEG, GIF or BMP file")
    return unless_wrong(known, measure, nothing)


def encode_png(image):
    """uint8 tensor [H, W, 1] or [H, W, 3] -> string scalar, a PNG file's bytes."""
    return tf.io.encode_png(image, compression=4)  # of 9: for 3 % less, 6 takes three times as long


@functools.cache
def _tensorflow_io():
    """The module tensorflow_io, or None where it is missing or its native ops do not load."""
    with contextlib.suppress(ImportError, NotImplementedError, AttributeError, tf.errors.OpError):
        with tf.init_scope():
            import tensorflow_io

            tensorflow_io.experimental.image.decode_pnm(b"P5 1 1 255 0")
        return tensorflow_io


def _needs_tensorflow_io(name):
    if sys.version_info >= (3, 13):
        cure = ", which has no wheels for Python 3.13"
    else:
        cure = ": install tensorflow-io==0.37.1 beside TensorFlow 2.16"
    return f"{name} in a graph needs tensorflow-io{cure}; `images.read` reads it without"


@functools.cache
def _decoder(flatten):
    """tf.function: string scalar -> uint8 [H, W, 1 or 3]."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)])
    def decoder(contents, max_pixels):
        samples = _sampler(FORMATS, _tensorflow_io())(contents, max_pixels)
        return _without_alpha(samples, flatten)

    return decoder


@functools.cache
def _sampler(formats, io):
    """tf.function: string scalar -> uint8 [H, W, 1..4]."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)])
    def sampler(contents, max_pixels):
        branches = [functools.partial(_branch, form, io, contents, max_pixels) for form in formats]
        branches.append(functools.partial(_failing, UNKNOWN, contents))
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
        return _failing(_needs_tensorflow_io(form.name), contents)
    # Functions of their own, because AutoGraph does not look into the branches of a switch.
    size = tf.ensure_shape(tf.function(form.size)(contents), [2])
    status = _size_status(size, max_pixels, f"truncated or damaged {form.name}")
    contents = require(tf.equal(status, ""), status, contents)
    image = tf.function(functools.partial(form.decode, io=io))(contents)
    return tf.ensure_shape(image, [None, None, None])


def _failing(reason, contents):
    """What a branch that always fails gives for its type."""
    contents = require(False, reason, contents)
    return tf.ensure_shape(bytes_at(contents, 0, 0)[None, None], [None, None, None])


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
