"""How range coding begins and ends; `kernels.code` codes the bits between."""

import numpy as np

from cnn_compression.packing.kernels import HIGH, LOW, PLACE

_FULL = 0xFFFFFFFF
_AHEAD = 4  # bytes that who reads is ahead of who wrote


def writer(size):
    """A coder that writes: its state, uint64 [5], and room for so many bytes."""
    return np.array([0, _FULL, 0, 0, False], np.uint64), np.zeros(size, np.uint8)


def reader(data):
    """A coder that reads: its state, uint64 [5], and the bytes as an array."""
    head = int.from_bytes(data[:_AHEAD].ljust(_AHEAD, b"\0"), "big")
    state = np.array([0, _FULL, head, _AHEAD, True], np.uint64)
    return state, np.frombuffer(bytearray(data), np.uint8)


def finish(state, data):
    """What a coder wrote.

    Returns:
        bytes, which end with as few as say where in the interval that is; zeros follow them.

    Raises:
        OverflowError: more came than there was room for.
    """
    place = int(state[PLACE])
    if place > len(data):
        raise OverflowError(f"the coded bits need more than {len(data)} bytes")
    return data[:place].tobytes() + _end(state)


def is_finished(state, data):
    """Whether what a coder has read is all, and just as it would have been written."""
    place = int(state[PLACE]) - _AHEAD
    return place <= len(data) and data[place:].tobytes() == _end(state)


def is_beyond(state, data):
    """Whether a coder has read more than was written, which ends within what is read ahead."""
    return int(state[PLACE]) - _AHEAD > len(data)


def _end(state):
    """The shortest bytes that are within the interval when zeros follow."""
    low, high = int(state[LOW]), int(state[HIGH])
    size = next(n for n in range(5) if -low % (1 << 8 * (4 - n)) <= high - low)
    unit = 1 << 8 * (4 - size)
    return (-(-low // unit) * unit).to_bytes(4, "big")[:size]
