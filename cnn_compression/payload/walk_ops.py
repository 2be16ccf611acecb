"""A JPEG's segments in stock TensorFlow ops, as `layout.segments` finds them in Python.

No op follows from one segment to the next but a loop, which takes a fifth of a millisecond a step.
So all places where a segment might start are looked at together: to each belongs the one behind its
segment's end, and the way from the first is had by doubling, as `layout.MAX_SEGMENTS` is 2**10.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

from cnn_compression.payload import layout
from cnn_compression.tensors.functions import shared

_PAD = 8  # zeros behind a file, so that what starts in it is read without asking whether it ends


class Segments(NamedTuple):
    """What `layout.segments` gives: int32 `[N]` each but the last.

    Attributes:
        kinds: as of `layout.KINDS`.
        starts, ends: bytes: from the marker to what follows; beyond the file where it is cut.
        own: bool `[N]`: whether it is a payload's: before the first scan, with our mark.
    """

    kinds: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    own: tf.Tensor


def segments(data):
    """`Segments` of any bytes, string scalar."""
    return Segments(*_walker()(data))


def joined(data, parts):
    """What makes the picture: string scalar, as of `layout.picture`, of `Segments`."""
    kept = tf.concat([[False], tf.not_equal(parts.kinds, layout.TOLD), [False]], 0)
    starts, ends = parts.starts, parts.ends
    # Neighbours are copied together: what we wrote is one piece.
    touch = tf.concat([[False], tf.equal(starts[1:], ends[:-1]), [False]], 0)[: tf.size(kept) - 1]
    opens = kept[1:-1] & ~(kept[:-2] & touch[:-1])
    closes = kept[1:-1] & ~(kept[2:] & touch[1:])
    length = tf.strings.length(data)
    pieces = tf.map_fn(
        lambda piece: tf.strings.substr(data, piece[0], tf.minimum(piece[1], length) - piece[0]),
        (tf.boolean_mask(starts, opens), tf.boolean_mask(ends, closes)),
        fn_output_signature=tf.TensorSpec((), tf.string),
    )
    start = tf.strings.substr(data, 0, tf.minimum(length, 2))
    return tf.strings.join([start, tf.strings.reduce_join(pieces)])


@functools.cache
def _walker():
    return shared(_walk, [tf.TensorSpec((), tf.string)])


def _walk(data):
    length = tf.strings.length(data)
    padded = tf.strings.join([data, tf.constant(bytes(_PAD))])
    raw = tf.io.decode_raw(padded, tf.uint8)
    fills, marks = _markers(raw)
    kinds, ends, known = _told(raw, fills, marks, length)
    nowhere = tf.size(marks)

    def marker_at(place):
        """Position of the marker that stands there, behind fill bytes or not; else `nowhere`."""
        number = tf.searchsorted(marks, place)
        there = tf.gather(tf.concat([fills, [tf.int32.max]], 0), number) <= place
        return tf.where(there & tf.gather(tf.concat([known, [False]], 0), number), number, nowhere)

    begins = tf.equal(tf.strings.substr(padded, 0, 2), layout.START_OF_IMAGE)
    path = tf.where(begins, marker_at([2]), nowhere)
    jump = tf.where(tf.equal(kinds, layout.END), nowhere, marker_at(ends))
    jump = tf.concat([jump, [nowhere]], 0)
    for _ in range((layout.MAX_SEGMENTS - 1).bit_length()):  # the way, and as far again from there
        path = tf.concat([path, tf.gather(jump, path)], 0)
        jump = tf.gather(jump, jump)
    path = tf.boolean_mask(path, path < nowhere)
    kinds = tf.gather(kinds, path)
    scans = tf.cumsum(tf.cast(tf.equal(kinds, layout.SCAN), tf.int32))
    path = tf.boolean_mask(path, scans <= layout.MAX_SCANS)
    count = tf.size(path)
    starts, ends = tf.gather(marks, path), tf.gather(ends, path)
    return kinds[:count], starts, ends, tf.equal(scans[:count], 0) & _carries_mark(raw, starts)


def _markers(raw):
    """Where the markers of any file are, and where the fill bytes before each: int32 `[M]` each."""
    is_ff = tf.equal(raw, 0xFF)
    first = tf.where(is_ff & ~tf.concat([[False], is_ff[:-1]], 0))[:, 0]
    last = tf.where(is_ff[:-1] & ~is_ff[1:])[:, 0]
    marked = tf.not_equal(tf.gather(raw, last + 1), 0)  # no stuffed byte
    return [tf.cast(tf.boolean_mask(place, marked), tf.int32) for place in (first, last)]


def _told(raw, fills, marks, length):
    """What begins at markers: kind, end, and whether it is anything that `layout` knows."""

    def byte(offset):
        return tf.cast(tf.gather(raw, marks + offset), tf.int32)

    kinds = tf.gather(tf.constant(layout.KINDS), byte(1))
    sizes, told = tf.gather(tf.constant(layout.SIZES), kinds), 256 * byte(2) + byte(3)
    known = tf.not_equal(kinds, layout.NOTHING) & ((sizes > 0) | (told >= 2))
    ends = marks + tf.where(sizes > 0, sizes, 2 + told)
    restart = tf.equal(tf.bitwise.bitwise_and(byte(1), 0xF8), 0xD0)
    # A scan's data end before the next marker that is no RSTn, or with the file.
    behind, stop = (
        tf.concat([tf.boolean_mask(places, ~restart), [length, tf.int32.max]], 0)
        for places in (marks, fills)
    )
    of_scan = tf.maximum(tf.gather(stop, tf.searchsorted(behind, ends)), ends)
    return kinds, tf.where(tf.equal(kinds, layout.SCAN), of_scan, ends), known


def _carries_mark(raw, starts):
    mark = {1: layout.MARKER[1]} | dict(enumerate(layout.MAGIC, layout.MAGIC_START))
    there = tf.gather(raw, starts[:, None] + tf.constant(list(mark)))
    return tf.reduce_all(tf.equal(there, tf.constant(list(mark.values()), tf.uint8)), axis=1)
