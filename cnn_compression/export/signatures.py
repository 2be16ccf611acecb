"""What an exported model offers, in stock TensorFlow ops. Each item of a batch stands alone.

    signature       inputs                                        outputs, beside status string[N]
    decode          payload_bytes string[N]                       image_bytes string[N], PNG
    encode          image_bytes string[N], quality int32[N]       payload_bytes string[N]
    encode_to_size  image_bytes string[N], max_bytes int32[N]     payload_bytes string[N],
                                                                  quality int32[N]
    encode_pixels   pixels_bytes string[N], height, width,        payload_bytes string[N]
                    channels, quality, all int32[N]
    decode_pixels   payload_bytes string[N]                       pixels_bytes string[N], height,
                                                                  width, channels, all int32[N]
    info            payload_bytes string[N]                       height, width, channels, scale,
                                                                  quality, all int32[N]

`decode` is also `serving_default`: it is what only the model can do, and of a single input, so that
a request needs no more than the payload. `image_bytes` going in are PNG, JPEG, GIF or BMP, of
different sizes in one batch where wanted. `pixels_bytes` are an image's uint8 `[height, width,
channels]` as they lie in memory. `encode_to_size` takes the highest quality whose payload is no
larger than `max_bytes`; the payload may be a better one than that quality's own, see
`Codec.encode_to`.

`status` is empty where all went well. Otherwise it says what was wrong with this item, whose
outputs are then empty strings and zeros; the others are served. Whatever a header can tell is
checked before anything is decoded, the number of pixels too. What a batch answers is held in memory
until all of it is done: once that is `MAX_ANSWER` bytes or more, further items are not begun. A
batch of more than `MAX_ITEMS` fails, whatever its items are.

Names of bytes end in `_bytes`, so that TensorFlow Serving's REST sends base64.
"""

import tensorflow as tf

from cnn_compression import images
from cnn_compression.jpeg import coding
from cnn_compression.payload import layout_ops
from cnn_compression.tensors.attempts import attempt, otherwise_said, unless_wrong

MAX_PIXELS = 64 * 10**6
# A number is all that a tensor of many empty items takes to be sent, but not what it takes here.
MAX_ITEMS = 1024
MAX_ANSWER = 2**26  # bytes

_STRINGS, _INTEGERS = tf.TensorSpec((None,), tf.string), tf.TensorSpec((None,), tf.int32)
_SIZE = layout_ops.NUMBERS[:3]  # height, width, channels


def signatures(codec, max_pixels=MAX_PIXELS):
    """The functions of a codec.

    Args:
        codec: `Codec`.
        max_pixels: int: of an image, in and out; more of them is an item's error.

    Returns:
        dict of signature name to `tf.function` of keyword tensors, which returns a dict of tensors.
    """
    items = _Items(codec, max_pixels)

    def encode(image_bytes, quality):
        payloads, status = _each(items.encode, [image_bytes, quality], "")
        return {"payload_bytes": payloads, "status": status}

    def encode_to_size(image_bytes, max_bytes):
        outputs = _each(items.encode_to_size, [image_bytes, max_bytes], "", 0)
        return dict(zip(("payload_bytes", "quality", "status"), outputs, strict=True))

    def decode(payload_bytes):
        files, status = _each(items.decode, [payload_bytes], "")
        return {"image_bytes": files, "status": status}

    def encode_pixels(pixels_bytes, height, width, channels, quality):
        inputs = [pixels_bytes, height, width, channels, quality]
        payloads, status = _each(items.encode_pixels, inputs, "")
        return {"payload_bytes": payloads, "status": status}

    def decode_pixels(payload_bytes):
        outputs = _each(items.decode_pixels, [payload_bytes], "", 0, 0, 0)
        return dict(zip(("pixels_bytes", *_SIZE, "status"), outputs, strict=True))

    def info(payload_bytes):
        outputs = _each(items.info, [payload_bytes], 0, 0, 0, 0, 0)
        return dict(zip((*layout_ops.NUMBERS, "status"), outputs, strict=True))

    decode = _function(decode, [_STRINGS])
    return {
        "serving_default": decode,
        "decode": decode,
        "encode": _function(encode, [_STRINGS, _INTEGERS]),
        "encode_to_size": _function(encode_to_size, [_STRINGS, _INTEGERS]),
        "encode_pixels": _function(encode_pixels, [_STRINGS, *[_INTEGERS] * 4]),
        "decode_pixels": _function(decode_pixels, [_STRINGS]),
        "info": _function(info, [_STRINGS]),
    }


def _function(function, signature):
    return tf.function(function, signature, autograph=False)


def _each(function, inputs, *nothing):
    """`function` of each item, one after the other: each takes all cores, and a picture's memory.

    Args:
        function: of an item's inputs, scalars, to its outputs and status, scalars.
        inputs: list of tensors `[N]`.
        nothing: the outputs where something is wrong: "" or 0.

    Returns:
        The outputs and the statuses, `[N]` each.
    """
    counts = [tf.shape(values)[0] for values in inputs]
    # Its items are not known where these do not hold: such a request fails as a whole.
    known = [
        tf.debugging.assert_equal([*map(_rank, inputs)], 1, "one dimension of each input"),
        tf.debugging.assert_less_equal(counts[0], MAX_ITEMS, f"at most {MAX_ITEMS} items"),
        tf.debugging.assert_equal(counts, counts[0], "as many of each input as of the first"),
    ]
    with tf.control_dependencies(known):
        count = tf.identity(counts[0])
    nothing = [tf.constant(value) for value in (*nothing, "")]

    def step(number, left, *done):
        status = otherwise_said(left > 0, f"those before it have {MAX_ANSWER} bytes: ask again")
        item = [values[number] for values in inputs]
        outputs = unless_wrong(status, lambda: function(*item), *nothing[:-1])
        sizes = [tf.strings.length(value) for value in outputs if value.dtype == tf.string]
        done = [array.write(number, value) for array, value in zip(done, outputs, strict=True)]
        return number + 1, left - tf.cast(sum(sizes), tf.int64), *done

    arrays = [tf.TensorArray(value.dtype, count, element_shape=()) for value in nothing]
    state = tf.constant(0), tf.constant(MAX_ANSWER, tf.int64), *arrays
    ends = tf.while_loop(lambda number, *_: number < count, step, state, parallel_iterations=1)
    return [array.stack() for array in ends[2:]]


def _rank(values):
    """Of what really comes: a server does not look whether that is what a signature says, and the
    graph holds what it says for granted.
    """
    unknown = tf.raw_ops.PlaceholderWithDefault(input=values, shape=tf.TensorShape(None))
    return tf.rank(unknown)


class _Items:
    """What the signatures do with an item: outputs and a status; nothing is raised in the graph."""

    def __init__(self, codec, max_pixels):
        self.codec, self.max_pixels = codec, max_pixels
        self.nothing = tf.zeros([0, 0, 0], tf.uint8)

    def encode(self, contents, quality):
        def read():
            return self._read(contents)

        image, status = unless_wrong(_quality_status(quality), read, self.nothing)
        return self._encoded(image, quality, status)

    def encode_pixels(self, contents, height, width, channels, quality):
        size = [height, width, channels]

        def measure():
            expected = tf.reduce_prod(tf.cast(size, tf.int64))
            received = tf.strings.length(contents)
            fits = tf.equal(tf.cast(received, tf.int64), expected)
            wrong = ("expected height x width x channels bytes: ", expected, ". Received: ")
            return unless_wrong(otherwise_said(fits, *wrong, received), read, self.nothing)

        def read():
            return tf.reshape(tf.io.decode_raw(contents, tf.uint8), size), ""

        status = self._size_status(*size)
        _, status = unless_wrong(status, lambda: ("", _quality_status(quality)), "")
        image, status = unless_wrong(status, measure, self.nothing)
        return self._encoded(image, quality, status)

    def encode_to_size(self, contents, max_bytes):
        image, status = self._read(contents)

        def payload():
            payload, quality = self.codec.size_encoder()(image, max_bytes)
            fits = otherwise_said(quality > 0, "even quality 1 takes more bytes than ", max_bytes)
            return payload, quality, fits

        return unless_wrong(status, payload, "", 0)

    def decode(self, payload):
        image, status = self._restore(payload)
        return unless_wrong(status, lambda: (images.encode_png(image), ""), "")

    def decode_pixels(self, payload):
        image, status = self._restore(payload)
        # What TensorFlow writes of a tensor ends with its bytes.
        written, size = tf.io.serialize_tensor(image), tf.size(image)
        pixels = tf.strings.substr(written, tf.strings.length(written) - size, size)
        return pixels, *tf.unstack(tf.shape(image)), status

    def info(self, payload):
        """The numbers of a payload's header."""
        status = self.codec.verify(payload, self.max_pixels)

        def numbers():
            header = layout_ops.unpack(payload)
            return *header.values(), self._size_status(*(header[name] for name in _SIZE))

        return unless_wrong(status, numbers, *[0] * len(layout_ops.NUMBERS))

    def _encoded(self, image, quality, status):
        return unless_wrong(status, lambda: (self.codec.encoder()(image, quality), ""), "")

    def _restore(self, payload):
        *numbers, status = self.info(payload)
        header = dict(zip(layout_ops.NUMBERS, numbers, strict=True))

        def read():
            picture = layout_ops.picture(payload)
            compact_hat, complete = attempt(coding.decode, picture, self.nothing)
            return compact_hat, otherwise_said(complete, "damaged: its JPEG cannot be decoded")

        def restore():
            return self.codec.restore(compact_hat, header), ""

        compact_hat, status = unless_wrong(status, read, self.nothing)
        return unless_wrong(status, restore, self.nothing)

    def _read(self, contents):
        """The image of a file's bytes."""

        def decode():
            return images.decode_checked(contents, self.max_pixels)

        def sized():
            return image, self._size_status(*tf.unstack(tf.shape(image)))

        own = layout_ops.is_payload(contents)
        wrong = otherwise_said(~own, "is a payload already: expected the image that it was of")
        image, status = unless_wrong(wrong, decode, self.nothing)
        return unless_wrong(status, sized, self.nothing)

    def _size_status(self, height, width, channels):
        known = (1, 3) if self.codec.model.channels == 3 else (1,)
        fine = tf.reduce_any(tf.equal(channels, known))
        fine &= (tf.minimum(height, width) >= 1) & (tf.maximum(height, width) <= coding.MAX_SIDE)
        fine &= height <= self.max_pixels // tf.maximum(width, 1)
        limits = f"{' or '.join(map(str, known))} channels, sides of 1 to {coding.MAX_SIDE} pixels"
        return otherwise_said(
            fine,
            f"expected {limits}, at most {self.max_pixels} together. Received: ",
            *(height, " x ", width, " x ", channels),
        )


def _quality_status(quality):
    known = tf.equal(tf.clip_by_value(quality, 1, 100), quality)
    return otherwise_said(known, "quality must be in 1..100. Received: ", quality)
