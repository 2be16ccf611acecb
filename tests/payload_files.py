"""Payloads as others may leave them."""

import numpy as np
import tensorflow as tf

from cnn_compression.payload import layout

SOS = 0xDA


def sealed(data):
    """A payload whose checksum fits whatever else was done to it."""
    digest = tf.fingerprint(np.frombuffer(layout.covered(data), np.uint8)[None]).numpy().tobytes()
    at = layout.own_segments(data)[0].start + layout.CHECKSUM_START
    return data[:at] + digest + data[at + len(digest) :]


def parts_of(data):
    """The bytes of a JPEG's segments, one after the other; the start of image is left out."""
    return [data[segment.start : segment.end] for segment in layout.segments(data)]


def joined(parts):
    return b"\xff\xd8" + b"".join(parts)


def with_missing_tables(data):
    """A JPEG that has a size and cannot be decoded: its first component names no table there is."""
    return joined(
        part[:6] + b"\x33" + part[7:] if part[1] == SOS else part for part in parts_of(data)
    )
