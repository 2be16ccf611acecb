"""The payload's header in stock TensorFlow ops; `layout` has it, byte by byte."""

import numpy as np
import tensorflow as tf

from cnn_compression.payload import layout, walk_ops
from cnn_compression.tensors.attempts import attempt

NUMBERS = ("height", "width", "channels", "scale", "quality")  # of a payload's header

# A byte is looked up as a one-byte string: TensorFlow has no op that packs integers into strings.
_BYTES = np.array([bytes([value]) for value in range(256)], object)
_POWERS = [1 << 24, 1 << 16, 1 << 8, 1]  # of an integer's bytes
# How the words begin that `layout.OtherModelError` has in a graph, which raises no errors of ours.
OF_ANOTHER = "made by model "
_CUT = "damaged or cut short: the checksum does not match"
_VERSIONS = [bytes([version]) for version in layout.VERSIONS]


def pack(jpeg, fingerprint, height, width, channels, scale, quality, asked=0):
    """Puts the payload's segment into a JPEG.

    Args:
        jpeg: string scalar, as `jpeg.encode` writes it.
        fingerprint: 16 hexadecimal digits, the decoder's.
        height, width, channels, scale, quality, asked: integer scalars; see `layout`.

    Returns:
        string scalar, the payload: 37 bytes longer than the JPEG.
    """
    segment = tf.strings.join(
        [
            layout.MARKER
            + (layout.ASKED_START - 1).to_bytes(2, "big")
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
    asked = _bytes_of(asked, 1)
    start, rest = (
        tf.strings.substr(jpeg, at, size)
        for at, size in ((0, layout.SEGMENT_START), (layout.SEGMENT_START, tf.int32.max))
    )
    # What TensorFlow writes has APP0 alone of what is left out of `layout.picture`.
    covered = tf.strings.join([segment, asked, layout.START_OF_IMAGE, rest])
    return tf.strings.join([start, segment, _digest(covered), asked, rest])


def unpack(payload):
    """Reads the numbers of a payload's header, which `verify` has found in order.

    Returns:
        dict of int32 scalars: height, width, channels, scale, quality.
    """
    return _numbers(_Parts(payload))


def picture(payload):
    """What makes the picture of a payload that `verify` has found in order: see `layout.picture`.

    What others may have put into the file has no say in how this is decoded.

    Returns:
        string scalar, a JPEG.
    """
    return _Parts(payload).picture()


def taken_apart(payload):
    """What `unpack` and `picture` return, from one look at the payload's segments."""
    parts = _Parts(payload)
    return _numbers(parts), parts.picture()


def is_payload(data):
    """Whether bytes carry a payload's segment: string to bool scalar; as `layout.is_payload`."""
    return tf.reduce_any(walk_ops.segments(data).own)


def verify(payload, fingerprint, scales, max_pixels=layout.MAX_PIXELS):
    """What is wrong with a payload, before any of it is decoded.

    Args:
        payload: string scalar, any bytes.
        fingerprint: 16 hexadecimal digits, the decoder's; a string scalar too.
        scales: list of int, or int32 `[S]`: those that the decoder knows.
        max_pixels: int or int64 scalar: the most that the image may have.

    Returns:
        string scalar, empty where magic, version, checksum, model and sizes are in order.
    """
    parts = _Parts(payload)
    return _first_failure(
        [
            *_segment_checks(parts),
            *_checksum_checks(parts),
            *_model_checks(parts, fingerprint, scales),
            *_size_checks(parts, max_pixels),
        ]
    )


def _segment_checks(parts):
    """Whether our segment is there, once, to its end, and of a version that is known."""

    def version():
        return parts.field(layout.VERSION_START, 1)

    return [
        (lambda: parts.count > 0, _said("not a payload: expected a JPEG with a CNNC segment")),
        (
            lambda: tf.equal(parts.count, 1),
            _said("expected one CNNC segment. Received: ", lambda: parts.count),
        ),
        (
            lambda: parts.start + layout.SEGMENT_SIZE <= tf.strings.length(parts.payload),
            _said(_CUT),
        ),
        (
            lambda: tf.reduce_any(tf.equal(version(), _VERSIONS)),
            _said(
                f"payload version must be {' or '.join(map(str, layout.VERSIONS))}. Received: 0x",
                lambda: _hex(version()),
            ),
        ),
    ]


def _checksum_checks(parts):
    """Whether the picture is what was written."""

    def told():
        return parts.field(layout.CHECKSUM_START, layout.CHECKSUM_SIZE)

    return [
        (
            lambda: parts.whole | (parts.segments < layout.MAX_SEGMENTS),
            _said(f"its JPEG has more than {layout.MAX_SEGMENTS} segments"),
        ),
        (lambda: parts.whole, _said(_CUT)),
        (
            lambda: tf.equal(told(), _checksum(parts)),
            _said(
                "damaged, or another program changed it: the checksum does not match the picture"
            ),
        ),
    ]


def _model_checks(parts, fingerprint, scales):
    """Whether it is of this model, and in a way that this model knows."""

    def of_model():
        return parts.field(layout.FINGERPRINT_START, layout.FINGERPRINT_SIZE)

    def number(name):
        return _numbers(parts)[name]

    def known_scales():
        return tf.strings.reduce_join(tf.strings.as_string(scales), separator=" or ")

    return [
        (
            lambda: tf.equal(_hex(of_model()), fingerprint),
            _said(OF_ANOTHER, lambda: _hex(of_model()), "; this one is ", fingerprint),
        ),
        (
            lambda: tf.reduce_any(number("quality") == tf.range(1, 101)),
            _said("damaged: its quality is not in 1..100"),
        ),
        (
            lambda: tf.reduce_any(number("scale") == tf.convert_to_tensor(scales)),
            _said("damaged: its scale is none of ", known_scales),
        ),
    ]


def _size_checks(parts, max_pixels):
    """Whether its image is not too large, and its JPEG's size the one that the header says."""

    def sides():
        """int64 `[2]`, whatever the four bytes of each say."""
        raw = tf.io.decode_raw(parts.field(layout.NUMBERS_START, 8), tf.uint8)
        powers = tf.constant(_POWERS, tf.int64)
        return tf.reduce_sum(tf.cast(tf.reshape(raw, [2, 4]), tf.int64) * powers, axis=1)

    def compact_shape():
        header = _numbers(parts)
        compact = [-(-header[side] // header["scale"]) for side in ("height", "width")]
        return tf.stack([*compact, header["channels"]])

    return [
        (
            # Divided, since the product may be more than an integer holds.
            lambda: sides()[0] <= max_pixels // tf.maximum(sides()[1], 1),
            _said(
                *(lambda: sides()[1], " x ", lambda: sides()[0], " pixels: at most "),
                *(lambda: max_pixels, " are taken"),
            ),
        ),
        (
            lambda: tf.reduce_all(tf.equal(compact_shape(), _jpeg_shape(parts.picture()))),
            _said("damaged: its JPEG has another size than its header says, or is none"),
        ),
    ]


def _said(*parts):
    """A function that joins strings and what functions give: strings, and integer scalars."""

    def text(part):
        value = tf.convert_to_tensor(part() if callable(part) else part)
        return value if value.dtype == tf.string else tf.strings.as_string(value)

    return lambda: tf.strings.join([text(part) for part in parts])


def _first_failure(checks):
    """The message of the first check that does not hold, or ""; later ones are not evaluated."""
    if not checks:
        return tf.constant("")
    (holds, message), *others = checks
    return tf.cond(holds(), lambda: _first_failure(others), message)


class _Parts:
    """A payload, string scalar, any bytes, and what is found in it.

    Attributes:
        count: int32 scalar: how many segments are a payload's.
        start, end: int32 scalars: where the first of them is; 0 where there is none.
        segments: int32 scalar: how many segments there are.
        whole: bool scalar: whether the end of image was reached.
    """

    def __init__(self, payload):
        self.payload, self._segments = payload, walk_ops.segments(payload)
        kinds, starts, ends, own = self._segments
        self.count = tf.reduce_sum(tf.cast(own, tf.int32))
        self.start, self.end = (
            tf.concat([tf.boolean_mask(places, own), [0]], 0)[0] for places in (starts, ends)
        )
        self.segments, self.whole = tf.size(kinds), tf.reduce_any(tf.equal(kinds, layout.END))

    def field(self, start, size):
        """Bytes of our segment, as far as the file goes."""
        return tf.strings.substr(self.payload, self.start + start, size)

    def picture(self):
        return walk_ops.joined(self.payload, self._segments)


def _numbers(parts):
    """What `unpack` documents."""
    raw = tf.io.decode_raw(parts.field(layout.NUMBERS_START, 11), tf.uint8)
    raw = tf.cast(raw, tf.int32)
    sides = [tf.reduce_sum(raw[start : start + 4] * tf.constant(_POWERS)) for start in (0, 4)]
    return dict(zip(NUMBERS, [*sides, *tf.unstack(raw[8:11], 3)], strict=True))


def _checksum(parts):
    """The 8 bytes that belong into a payload: FarmHash64 of what `layout.covered` returns."""

    def between(start, end):
        return tf.strings.substr(parts.payload, start, end - start)

    head = parts.start + layout.CHECKSUM_START
    tail = parts.start + layout.SEGMENT_SIZE
    covered = tf.cond(
        tf.equal(parts.field(layout.VERSION_START, 1), b"\x01"),
        lambda: [between(0, head), between(tail, tf.strings.length(parts.payload)), ""],
        lambda: [between(parts.start, head), between(tail, parts.end), parts.picture()],
    )
    return _digest(tf.strings.join(covered))


def _digest(covered):
    """FarmHash64 of a string scalar as a string scalar of 8 bytes."""
    digest = tf.fingerprint(tf.io.decode_raw(covered[None], tf.uint8))[0]
    return tf.strings.reduce_join(tf.gather(tf.constant(_BYTES), tf.cast(digest, tf.int32)))


def _jpeg_shape(data):
    """Height, width and channels that a JPEG says it has; -1 where the bytes are none."""
    return attempt(tf.io.extract_jpeg_shape, data, tf.fill([3], -1))[0]


def _bytes_of(value, size):
    """An integer scalar as a string scalar of `size` bytes, big-endian."""
    shifts = tf.range(8 * (size - 1), -1, -8, dtype=tf.int64)
    digits = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(tf.cast(value, tf.int64), shifts), tf.constant(255, tf.int64)
    )
    return tf.strings.reduce_join(tf.gather(tf.constant(_BYTES), digits))


def _hex(data):
    """A string scalar as hexadecimal digits."""
    digits = tf.constant([f"{value:02x}" for value in range(256)])
    return tf.strings.reduce_join(
        tf.gather(digits, tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int32))
    )
