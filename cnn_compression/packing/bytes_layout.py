"""The packed file of any bytes: what rebuilds them, and their symbols as coded bits.

Numbers are big-endian, sizes LEB128 as in `layout`.

    bytes
        4  "CNNP": magic
        1  3: version of this layout
        1  method: 0 the bytes follow the checksum as they are, since packing would not make them
           fewer; 1 online; 2 deepzip
        4  CRC-32 of the bytes
      1-5  not with method 0: how many bytes there are
      2-5  only with method 2: bytes of the network, which follows as `any_bytes` says
           the coded bits; zeros are read beyond their end

The file's name is no part of it: `notes.txt` is packed into `notes.txt.cnnp`.
"""

import zlib
from typing import NamedTuple

from cnn_compression.packing.layout import ANY_BYTES, MAGIC, PackedError, leb128, read_leb128

STORED, ONLINE, DEEPZIP = range(3)
METHODS = {"online": ONLINE, "deepzip": DEEPZIP}
_START = MAGIC + bytes([ANY_BYTES])
# What `any_bytes` adds to probabilities keeps a byte from costing less than 0.0011 bits online,
# where it is two symbols of 16, and 0.00035 with DeepZip, whose alphabets have two at least.
_BYTES_A_BYTE = {ONLINE: 7_100, DEEPZIP: 24_500}
_OPEN_BYTES = 4  # that the coder leaves out at its end, at most


class Header(NamedTuple):
    """What stands before the coded bits.

    Attributes:
        method: `STORED`, `ONLINE` or `DEEPZIP`.
        checksum: CRC-32 of the bytes.
        size: how many there are.
    """

    method: int
    checksum: int
    size: int

    @property
    def name(self) -> str:
        """Of the method, for people."""
        return next((name for name, own in METHODS.items() if own == self.method), "as it was")


def write(method: int, data: bytes, coded: bytes) -> bytes:
    """A packed file's bytes: `coded` is all that follows the size."""
    size = b"" if method == STORED else leb128(len(data))
    return b"".join([_START, bytes([method]), zlib.crc32(data).to_bytes(4, "big"), size, coded])


def read(packed: bytes) -> tuple[Header, int]:
    """The header, and where it ends.

    Raises:
        PackedError: the bytes are no packed file of this layout, or say of more bytes than their
            coded bits can hold.
    """
    at = len(_START) + 5
    if packed[: len(_START)] != _START:
        raise PackedError(f"not packed bytes: expected {_START!r}. Received: {bytes(packed[:5])!r}")
    if len(packed) < at:
        raise PackedError(f"cut short: the header has {at} bytes and more")
    method, checksum = packed[at - 5], int.from_bytes(packed[at - 4 : at], "big")
    if method not in (STORED, ONLINE, DEEPZIP):
        raise PackedError(f"method must be 0, 1 or 2. Received: {method}")
    if method == STORED:
        return Header(method, checksum, len(packed) - at), at
    size, at = read_leb128(packed, at)
    if not 0 < size <= _BYTES_A_BYTE[method] * (len(packed) - at + _OPEN_BYTES):
        raise PackedError(f"damaged: {len(packed)} bytes cannot hold {size}")
    return Header(method, checksum, size), at
