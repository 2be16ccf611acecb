"""Bytes in TensorFlow ops: the integers and the parts of a string scalar."""

import tensorflow as tf

ALL = 2**40  # as a length: up to the end
# A graph takes some ten microseconds to walk past a part of a file, and there could be any number.
_MOST_PARTS = 4096


def size_of(contents):
    """How many bytes there are; int64 scalar."""
    return tf.cast(tf.strings.length(contents), tf.int64)


def require(condition, reason, value):
    """`value`, which nothing gets hold of before `condition` was found true."""
    with tf.control_dependencies([tf.Assert(condition, [reason])]):
        return tf.identity(value)


def walk(more, step, state, most=_MOST_PARTS):
    """Goes on while there is more, which must end.

    Args:
        more: of the state's tensors to whether a step follows, bool scalar.
        step: of the state's tensors to the next ones, a tuple.
        state: tuple of tensors, whose shapes stay.
        most: int. If that many steps were not enough, the graph fails.

    Returns:
        list of tensors, the last state.
    """
    state = tf.while_loop(more, step, state, maximum_iterations=most)
    ended = ~more(*state)
    return [require(ended, f"more than {most} parts to walk through", value) for value in state]


def part(contents, at, size):
    """The `size` bytes at `at`, or those of them that there are; string scalar."""
    # TensorFlow's own error for a place outside cites the bytes, which Python then cannot decode.
    at = tf.clip_by_value(tf.convert_to_tensor(at, tf.int64), 0, size_of(contents))
    return tf.strings.substr(contents, at, tf.convert_to_tensor(size, tf.int64))


def parts_after(contents, pattern):
    """What follows each place where bytes `pattern` stand, up to the next; string [N]."""
    return tf.strings.split(contents, pattern)[1:]


def bytes_at(contents, at, size):
    """Like `part`; uint8 [N], N up to `size`."""
    return tf.io.decode_raw(part(contents, at, size), tf.uint8)


def uint(contents, at, size=1, big=False):
    """The unsigned integer of `size` bytes at `at`, int64 scalar; outside the file, it fails."""
    return uints(tf.ensure_shape(bytes_at(contents, at, size), [size]), size, big)


def uints(raw, size, big):
    """uint8 [..., size] -> int64 [...]; the most significant byte comes first if `big`."""
    # Reversed in Python: where TensorFlow meets [::-1] of a vector, it optimises nothing more.
    weights = [256**i for i in range(size)]
    weights = tf.where(big, tf.constant(weights[::-1], tf.int64), tf.constant(weights, tf.int64))
    return tf.reduce_sum(tf.cast(raw, tf.int64) * weights, axis=-1)
