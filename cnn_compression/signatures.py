"""What an exported model offers, in stock TensorFlow ops. Each item of a batch stands alone.

    signature       inputs                                        outputs, beside status string[N]
    decode          payload_bytes string[N]                       image_bytes string[N], PNG
    encode          image_bytes string[N], quality int32[N]       payload_bytes string[N]
    encode_to_size  image_bytes string[N], max_bytes int32[N]     payload_bytes string[N],
                                                                  quality int32[N]
    encode_pixels   pixels uint8[N, H, W, C], quality int32[N]    payload_bytes string[N]
    decode_pixels   payload_bytes string[N]                       pixels uint8[N, H, W, C]
    info            payload_bytes string[N]                       height, width, channels, scale,
                                                                  quality, all int32[N]

`decode` is also `serving_default`: it is what only the model can do, and of a single input, so that
a request needs no more than the payload. `image_bytes` going in are PNG, JPEG, GIF or BMP, of
different sizes in one batch where wanted. `encode_to_size` takes the highest quality whose payload
is no larger than `max_bytes`; the payload may be a better one than that quality's own, see
`Codec.encode_to`. The pixels of one batch share a size; in `decode_pixels` it is that of the first
payload that can be restored, and the limit of pixels is that of all together.

`status` is empty where all went well. Otherwise it says what was wrong with this item, whose
outputs are then empty strings, zeros, or black pixels; the others are served. Whatever a header can
tell is checked before anything is decoded, the number of pixels too.

Names of bytes end in `_bytes`, so that TensorFlow Serving's REST sends base64.
"""

import functools

import tensorflow as tf

from cnn_compression import container_ops, images, jpeg
from cnn_compression.attempts import attempt, otherwise_said, unless_wrong

MAX_PIXELS = 64 * 10**6

_STRINGS = tf.TensorSpec((None,), tf.string)
_PIXELS = tf.TensorSpec((None, None, None, None), tf.uint8)
_INTEGERS = tf.TensorSpec((None,), tf.int32)
_IMAGE = tf.TensorSpec((None, None, None), tf.uint8)


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
        _one_each(image_bytes, quality)
        payloads, status = _each(items.encode, (image_bytes, quality), tf.string)
        return {"payload_bytes": payloads, "status": status}

    def encode_to_size(image_bytes, max_bytes):
        _one_each(image_bytes, max_bytes)
        outputs = _each(items.encode_to_size, (image_bytes, max_bytes), tf.string, tf.int32)
        return dict(zip(("payload_bytes", "quality", "status"), outputs, strict=True))

    def decode(payload_bytes):
        files, status = _each(items.decode, payload_bytes, tf.string)
        return {"image_bytes": files, "status": status}

    def encode_pixels(pixels, quality):
        _one_each(pixels, quality)
        payloads, status = items.encode_batch(pixels, quality)
        return {"payload_bytes": payloads, "status": status}

    def decode_pixels(payload_bytes):
        pixels, status = items.decode_batch(payload_bytes)
        return {"pixels": pixels, "status": status}

    def info(payload_bytes):
        numbers, status = _each(items.info, payload_bytes, tf.int32)
        return dict(zip(container_ops.NUMBERS, tf.unstack(numbers, 5, axis=1), strict=True)) | {
            "status": status
        }

    trace = functools.partial(tf.function, autograph=False)
    decode = trace(decode, [_STRINGS])
    return {
        "serving_default": decode,
        "decode": decode,
        "encode": trace(encode, [_STRINGS, _INTEGERS]),
        "encode_to_size": trace(encode_to_size, [_STRINGS, _INTEGERS]),
        "encode_pixels": trace(encode_pixels, [_PIXELS, _INTEGERS]),
        "decode_pixels": trace(decode_pixels, [_STRINGS]),
        "info": trace(info, [_STRINGS]),
    }


def _one_each(items, settings):
    """A request whose inputs do not go together fails as a whole: its items are not known."""
    message = "expected as many qualities or limits as images"
    tf.debugging.assert_equal(tf.shape(items)[0], tf.shape(settings)[0], message)


def _each(function, items, *dtypes):
    """`function` of each item: its outputs, and the statuses."""
    # One after the other: each takes all cores, and the memory for a picture.
    return tf.map_fn(
        function, items, fn_output_signature=(*dtypes, tf.string), parallel_iterations=1
    )


class _Items:
    """What the signatures do with an item: outputs and a status; nothing is raised in the graph."""

    def __init__(self, codec, max_pixels):
        self.codec, self.max_pixels = codec, max_pixels
        self.nothing = tf.zeros([0, 0, 0], tf.uint8)

    def encode(self, item):
        contents, quality = item
        image, status = self._read(contents, _quality_status(quality))

        def payload():
            return self.codec.encoder()(image, quality), ""

        return unless_wrong(status, payload, "")

    def encode_to_size(self, item):
        contents, max_bytes = item
        image, status = self._read(contents)

        def payload():
            payload, quality = self.codec.size_encoder()(image, max_bytes)
            fits = otherwise_said(quality > 0, "even quality 1 takes more bytes than ", max_bytes)
            return payload, quality, fits

        return unless_wrong(status, payload, "", 0)

    def encode_batch(self, pixels, quality):
        """All items at once, as they share a size."""
        of_all = self._size_status(*tf.unstack(tf.shape(pixels)[1:]))
        status = tf.where(tf.equal(of_all, ""), _quality_status(quality), of_all)
        fine = tf.equal(status, "")
        payloads = tf.cond(
            tf.reduce_any(fine),
            lambda: self.codec.batch_encoder()(pixels[fine], quality[fine]),
            lambda: tf.zeros([0], tf.string),
        )
        places = [tf.cast(tf.where(which)[:, 0], tf.int32) for which in (fine, ~fine)]
        return tf.dynamic_stitch(places, [payloads, tf.fill(tf.shape(places[1]), "")]), status

    def decode(self, payload):
        image, status = self._restore(payload)
        return unless_wrong(status, lambda: (images.encode_png(image), ""), "")

    def decode_batch(self, payloads):
        """All items, which must restore to the size of the first that can be restored."""

        def restore(payload):
            image, status = self._restore(payload)
            return tf.io.serialize_tensor(image), tf.shape(image), status

        raw, shapes, status = _each(restore, payloads, tf.string, tf.int32)
        fine = tf.equal(status, "")
        shape = tf.concat([shapes[fine], [[0, 0, 0]]], axis=0)[0]
        pixels = tf.size(raw, tf.int64) * tf.reduce_prod(tf.cast(shape[:2], tf.int64))
        fits = pixels <= self.max_pixels
        shape = tf.where(fits, shape, 0)
        same = tf.reduce_all(tf.equal(shapes, shape), axis=1)
        wrong = "restores to another size than the first payload of its batch"
        too_many = otherwise_said(fits, pixels, f" pixels together: at most {self.max_pixels}")
        of_batch = tf.where(fits, otherwise_said(same, wrong), too_many)
        status = tf.where(fine, of_batch, status)

        def place(item):
            image, status = item
            return tf.cond(
                tf.equal(status, ""),
                lambda: tf.ensure_shape(tf.io.parse_tensor(image, tf.uint8), [None] * 3),
                lambda: tf.zeros(shape, tf.uint8),
            )

        pixels = tf.map_fn(place, (raw, status), fn_output_signature=_IMAGE)
        return pixels, status

    def info(self, payload):
        """The numbers of a payload's header, int32 `[5]`."""
        status = container_ops.verify(
            payload, self.codec.fingerprint, self.codec.model.scales, self.max_pixels
        )

        def numbers():
            numbers = tf.stack(
                [container_ops.unpack(payload)[key] for key in container_ops.NUMBERS]
            )
            return numbers, self._size_status(*tf.unstack(numbers[:3]))

        return unless_wrong(status, numbers, tf.zeros([5], tf.int32))

    def _restore(self, payload):
        _, status = self.info(payload)

        def read():
            compact_hat, complete = attempt(jpeg.decode, payload, self.nothing)
            return compact_hat, otherwise_said(complete, "damaged: its JPEG cannot be decoded")

        def restore():
            return self.codec.restore(compact_hat, container_ops.unpack(payload)), ""

        compact_hat, status = unless_wrong(status, read, self.nothing)
        return unless_wrong(status, restore, self.nothing)

    def _read(self, contents, status=""):
        """The image of a file's bytes, where nothing is wrong already."""

        def read():
            own = container_ops.is_payload(contents)
            wrong = otherwise_said(~own, "is a payload already: expected the image that it was of")
            return unless_wrong(wrong, decode, self.nothing)

        def decode():
            return images.decode_checked(contents, self.max_pixels)

        def sized():
            return image, self._size_status(*tf.unstack(tf.shape(image)))

        image, status = unless_wrong(status, read, self.nothing)
        return unless_wrong(status, sized, self.nothing)

    def _size_status(self, height, width, channels):
        known = (1, 3) if self.codec.model.channels == 3 else (1,)
        fine = tf.reduce_any(tf.equal(channels, known))
        fine &= (tf.minimum(height, width) >= 1) & (tf.maximum(height, width) <= jpeg.MAX_SIDE)
        fine &= height <= self.max_pixels // tf.maximum(width, 1)
        limits = f"{' or '.join(map(str, known))} channels, sides of 1 to {jpeg.MAX_SIDE} pixels"
        return otherwise_said(
            fine,
            f"expected {limits}, at most {self.max_pixels} together. Received: ",
            *(height, " x ", width, " x ", channels),
        )


def _quality_status(quality):
    """Of an int32 tensor of any shape."""
    known = tf.equal(tf.clip_by_value(quality, 1, 100), quality)
    return otherwise_said(known, "quality must be in 1..100. Received: ", quality)
