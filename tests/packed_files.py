"""Packed files that are damaged."""

import pytest

from cnn_compression.packing.layout import PackedError


def assert_damage_is_refused(unpack, packed):
    """Every byte changed, every cut and every byte more is refused with one line."""
    damaged = [packed[:end] for end in range(len(packed))]
    for at in range(len(packed)):
        for change in (0xFF, 0x01 << at % 8):
            damaged.append(packed[:at] + bytes([packed[at] ^ change]) + packed[at + 1 :])
    damaged += [packed + bytes([more]) for more in (0, 1, 255)]
    for data in damaged:
        with pytest.raises(PackedError) as refused:
            unpack(data)
        assert "\n" not in str(refused.value) and str(refused.value)
