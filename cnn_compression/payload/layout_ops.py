"""The payload's header in stock TensorFlow ops; `layout` has it, byte by byte."""

import numpy as np
import tensorflow as tf

from cnn_compression.payload import layout
from cnn_compression.tensors.attempts import attempt

NUMBERS = ("height", "width", "channels", "scale", "quality")  # of a payload's header

# A byte is looked up as a one-byte string: TensorFlow has no op that packs integers into strings.
_BYTES = np.array([bytes([value]) for value in range(256)], object)


def _bytes_of(value, size):
    """An integer scalar as a string scalar of `size` bytes, big-endian."""
    shifts = tf.range(8 * (size - 1), -1, -8, dtype=tf.int64)
    digits = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(tf.cast(value, tf.int64), shifts), tf.constant(255, tf.int64)
    )
    return tf.strings.reduce_join(tf.gather(tf.constant(_BYTES), digits))


def _checksum(data):
    """FarmHash64 of a payload's bytes without the checksum itself: string to 8-byte string."""
    covered = tf.strings.join(
        [
            tf.strings.substr(data, 0, layout.CHECKSUM_START),
            tf.strings.substr(data, layout.HEADER_END, tf.int32.max),
        ]
    )
    digest = tf.fingerprint(tf.io.decode_raw([covered], tf.uint8))[0]
    return tf.strings.reduce_join(tf.gather(tf.constant(_BYTES), tf.cast(digest, tf.int32)))


def pack(jpeg, fingerprint, height, width, channels, scale, quality):
    """Puts the payload's segment into a JPEG.

    Args:
        jpeg: string scalar, as `jpeg.encode` writes it.
        fingerprint: 16 hexadecimal digits, the decoder's.
        height, width, channels, scale, quality: integer scalars; see `layout`.

    Returns:
        string scalar, the payload: 36 bytes longer than the JPEG.
    """
    head = tf.strings.join(
        [
            tf.strings.substr(jpeg, 0, layout.SEGMENT_START),
            layout.MARKER
            + layout.SEGMENT_LENGTH.to_bytes(2, "big")
            + layout.MAGIC
            + bytes([layout.VERSION])
            + bytes.fromhex(fingerprint),
            _bytes_of(height, 4),
            _bytes_of(width, 4),
            _bytes_of(channels, 1),
            _bytes_of(scale, 1),
            _bytes_of(quality, 1),
        ]
    )
    tail = tf.strings.substr(jpeg, layout.SEGMENT_START, tf.int32.max)
    unsigned = tf.strings.join([head, tf.constant(bytes(layout.CHECKSUM_SIZE)), tail])
    return tf.strings.join([head, _checksum(unsigned), tail])


def unpack(payload):
    """Reads the numbers of a payload's header, which `verify` has found in order.

    Returns:
        dict of int32 scalars: height, width, channels, scale, quality.
    """
    numbers = tf.cast(
        tf.io.decode_raw(tf.strings.substr(payload, layout.NUMBERS_START, 11), tf.uint8),
        tf.int32,
    )
    powers = tf.constant([1 << 24, 1 << 16, 1 << 8, 1])
    sides = [tf.reduce_sum(numbers[start : start + 4] * powers) for start in (0, 4)]
    return dict(zip(NUMBERS, [*sides, *tf.unstack(numbers[8:11], 3)], strict=True))


def is_payload(data):
    """Whether bytes carry the payload's segment where it belongs: string to bool scalar."""

    def has_marks():
        magic = tf.strings.substr(data, layout.MAGIC_START, len(layout.MAGIC))
        return tf.equal(magic, layout.MAGIC) & tf.equal(tf.strings.substr(data, 0, 2), b"\xff\xd8")

    return tf.cond(tf.strings.length(data) >= layout.HEADER_END, has_marks, lambda: False)


def verify(payload, fingerprint, scales, max_pixels=layout.MAX_PIXELS):
    """What is wrong with a payload, before any of it is decoded.

    Args:
        payload: string scalar, any bytes.
        fingerprint: 16 hexadecimal digits, the decoder's.
        scales: list of int, those that the decoder knows.
        max_pixels: int or int64 scalar: the most that the image may have.

    Returns:
        string scalar, empty where magic, version, checksum, model and sizes are in order.
    """

    def field(start, size):
        return tf.strings.substr(payload, start, size)

    def fingerprint_bytes():
        return field(layout.FINGERPRINT_START, layout.FINGERPRINT_SIZE)

    def said(*parts):
        return lambda: tf.strings.join([part() if callable(part) else part for part in parts])

    return _first_failure(
        [
            (
                lambda: is_payload(payload),
                said("not a payload: expected a JPEG with a CNNC segment"),
            ),
            (
                lambda: tf.equal(field(layout.VERSION_START, 1), bytes([layout.VERSION])),
                said(
                    f"payload version must be {layout.VERSION}. Received: 0x",
                    lambda: _hex(field(layout.VERSION_START, 1)),
                ),
            ),
            (
                lambda: tf.equal(
                    field(layout.CHECKSUM_START, layout.CHECKSUM_SIZE), _checksum(payload)
                ),
                said("damaged or cut short: the checksum does not match"),
            ),
            (
                lambda: tf.equal(fingerprint_bytes(), bytes.fromhex(fingerprint)),
                said(
                    "made by model ",
                    lambda: _hex(fingerprint_bytes()),
                    f"; this one is {fingerprint}",
                ),
            ),
            (
                lambda: tf.reduce_any(unpack(payload)["quality"] == tf.range(1, 101)),
                said("damaged: its quality is not in 1..100"),
            ),
            (
                lambda: tf.reduce_any(unpack(payload)["scale"] == tf.constant(scales)),
                said("damaged: its scale is none of ", " or ".join(map(str, scales))),
            ),
            (
                # Divided, since the product may be more than an integer holds.
                lambda: _sides(payload)[0] <= max_pixels // tf.maximum(_sides(payload)[1], 1),
                said(
                    lambda: tf.strings.reduce_join(
                        tf.strings.as_string(_sides(payload)[::-1]), separator=" x "
                    ),
                    " pixels: at most ",
                    lambda: tf.strings.as_string(max_pixels),
                    " are taken",
                ),
            ),
            (
                lambda: tf.reduce_all(tf.equal(_compact_shape(payload), _jpeg_shape(payload))),
                said("damaged: its JPEG has another size than its header says, or is none"),
            ),
        ]
    )


def _first_failure(checks):
    """The message of the first check that does not hold, or ""; later ones are not evaluated."""
    if not checks:
        return tf.constant("")
    (holds, message), *others = checks
    return tf.cond(holds(), lambda: _first_failure(others), message)


def _sides(payload):
    """Height and width of the image, int64 `[2]`, whatever the four bytes of each say."""
    raw = tf.io.decode_raw(tf.strings.substr(payload, layout.NUMBERS_START, 8), tf.uint8)
    powers = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    return tf.reduce_sum(tf.cast(tf.reshape(raw, [2, 4]), tf.int64) * powers, axis=1)


def _compact_shape(payload):
    """Height, width and channels that the JPEG must have for the image that the header names."""
    header = unpack(payload)
    sides = [-(-header[side] // header["scale"]) for side in ("height", "width")]
    return tf.stack([*sides, header["channels"]])


def _jpeg_shape(data):
    """Height, width and channels that a JPEG says it has; -1 where the bytes are none."""
    return attempt(tf.io.extract_jpeg_shape, data, tf.fill([3], -1))[0]


def _hex(data):
    """A string scalar as hexadecimal digits."""
    digits = tf.constant([f"{value:02x}" for value in range(256)])
    return tf.strings.reduce_join(
        tf.gather(digits, tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int32))
    )
