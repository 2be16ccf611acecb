"""The payload of a latent codec: a header, and the coded symbols in one or more passes.

It is no JPEG. Integers are big-endian.

    offset  bytes
         0      4  "CNNL": magic
         4      1  1: version of this layout
         5      1  family of the model, by its number in `FAMILIES`
         6      8  fingerprint of the model: `LatentCodec.fingerprint`
        14      4  height of the image, pixels
        18      4  width of the image, pixels
        22      1  channels of the image, 1 or 3
        23      1  quality, 1..100: of the model's own
        24      1  passes, 1..255
        25      4  CRC-32 of the 25 bytes before
        29         the passes, one after the other; each is
                        4  bytes of its symbols
                        4  CRC-32 of those 4 bytes and of the symbols
                           the symbols, as `packing.symbols` codes them

Symbols are a model's codes, counted from its alphabet's lowest: a row for each cell of the picture,
from left to right and from top to bottom, and a column for each of a cell's codes. Cells at the
right and lower edge may lie across it. A progressive model has a pass for each quality up to the
payload's, with the codes that it has more than the one before; others have one pass.

A model that makes parts of a picture up may have one pass more, the first: which cells are sent, a
bit each in the same order, 1 for sent, padded to bytes (zlib, RFC 1950). Symbols are then those of
the cells that are sent; all codes of the others are 0.

So a file of several passes can be cut anywhere: those that are whole still give a picture.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from cnn_compression.payload.layout import MAX_PIXELS, PayloadError

LATENT_SUFFIX = ".cnnl"  # of the files that hold them
MAGIC = b"CNNL"
VERSION = 1
FAMILIES = {1: "bottleneck", 2: "progressive", 3: "generative"}

_FIELDS = struct.Struct(">4sBB8sIIBBB")
_CHECKSUM = struct.Struct(">I")
_PASS = struct.Struct(">II")
HEADER_SIZE = _FIELDS.size + _CHECKSUM.size
# Of an image, pixels, as of a JPEG: cells that lie across its edges stay few beside the others.
MAX_SIDE = 65535


@dataclass(frozen=True)
class Header:
    """What stands before the passes; see the module's table. `family` is its name."""

    family: str
    fingerprint: str
    height: int
    width: int
    channels: int
    quality: int
    passes: int


def is_latent(data: bytes) -> bool:
    """Whether bytes begin as a latent codec's payload, whatever else is right or wrong with them.

    The first four are enough.
    """
    return data[: len(MAGIC)] == MAGIC


def write(header: Header, passes: list[bytes]) -> bytes:
    """A payload's bytes; the passes are as many as the header says."""
    number = {name: number for number, name in FAMILIES.items()}[header.family]
    sizes = header.height, header.width, header.channels, header.quality, header.passes
    head = _FIELDS.pack(MAGIC, VERSION, number, bytes.fromhex(header.fingerprint), *sizes)
    parts = [head, _CHECKSUM.pack(zlib.crc32(head))]
    for symbols in passes:
        parts += [_PASS.pack(len(symbols), _pass_checksum(symbols)), symbols]
    return b"".join(parts)


def read_header(data: bytes) -> Header:
    """The header, its checksum verified.

    Args:
        data: the payload's bytes, or its first ones.

    Raises:
        PayloadError: where the bytes are not the start of a payload of this layout, or damaged.
    """
    if not is_latent(data):
        raise PayloadError(f"not a latent payload: expected {MAGIC!r}. Received: {data[:4]!r}")
    if len(data) < HEADER_SIZE:
        raise PayloadError(f"cut short: the header has {HEADER_SIZE} bytes. Received: {len(data)}")
    _, version, number, fingerprint, *sizes = _FIELDS.unpack_from(data)
    if version != VERSION:
        raise PayloadError(f"latent payload version must be {VERSION}. Received: {version}")
    [checksum], expected = _CHECKSUM.unpack_from(data, _FIELDS.size), _header_checksum(data)
    if checksum != expected:
        raise PayloadError(
            f"damaged: expected the header's checksum {expected:08x}. Received: {checksum:08x}"
        )
    if number not in FAMILIES:
        known = ", ".join(f"{number} ({name})" for number, name in FAMILIES.items())
        raise PayloadError(f"family must be one of {known}. Received: {number}")
    header = Header(FAMILIES[number], fingerprint.hex(), *sizes)
    fits = header.height and header.width and header.channels in (1, 3) and header.passes
    if not (fits and 1 <= header.quality <= 100):
        raise PayloadError(f"damaged: expected sizes that can be. Received: {header}")
    return header


def check_pixels(header: Header, max_pixels: int = MAX_PIXELS) -> None:
    """Raises PayloadError where an image has more pixels, or a longer side, than are taken."""
    sides = f"{header.width} x {header.height}"
    if header.height * header.width > max_pixels:
        raise PayloadError(f"{sides} pixels: at most {max_pixels} are taken")
    if max(header.height, header.width) > MAX_SIDE:
        raise PayloadError(f"{sides} pixels: sides of at most {MAX_SIDE} are taken")


def read_passes(data: bytes, partial: bool = False) -> list[bytes]:
    """The symbols of each pass, as coded.

    Args:
        data: the payload's bytes.
        partial: whether the first passes will do where those after them are cut off or damaged.

    Returns:
        As many as the header says; with `partial` at least one.

    Raises:
        PayloadError: as of `read_header`, or where a pass that has to be there is not, or there is
            more than the passes.
    """
    header, found, at, wrong = read_header(data), [], HEADER_SIZE, ""
    while len(found) < header.passes and not wrong:
        there = len(data) - at - _PASS.size
        size, checksum = _PASS.unpack_from(data, at) if there >= 0 else (0, 0)
        symbols = data[at + _PASS.size : at + _PASS.size + size]
        if there < size:
            wrong = f"cut short: expected {header.passes} passes. Received: {len(found)}"
        elif _pass_checksum(symbols) != checksum:
            wrong = f"damaged: the checksum of pass {len(found) + 1} does not fit"
        else:
            found.append(symbols)
            at += _PASS.size + size
    if not wrong and at < len(data):
        wrong = f"damaged: expected {at} bytes. Received: {len(data)}"
    if wrong and not (partial and found):
        raise PayloadError(wrong)
    return found


def write_mask(sent: np.ndarray) -> bytes:
    """The pass that says which cells are sent: bool of any shape."""
    return zlib.compress(np.packbits(sent).tobytes(), 9)


def read_mask(coded: bytes, cells: int) -> np.ndarray:
    """bool `[cells]`, as it was given to `write_mask`.

    Raises:
        PayloadError: where it is not that of as many cells.
    """
    expected, reader = -(-cells // 8), zlib.decompressobj()
    try:
        data = reader.decompress(coded, expected + 1)
    except zlib.error as error:
        raise PayloadError(f"damaged: which cells are sent cannot be read: {error}") from error
    if len(data) != expected or not reader.eof or reader.unused_data:
        raise PayloadError(f"damaged: expected {expected} bytes of a mask. Received: {len(data)}")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=cells).astype(bool)


def _header_checksum(data):
    return zlib.crc32(data[: _FIELDS.size])


def _pass_checksum(symbols):
    return zlib.crc32(symbols, zlib.crc32(len(symbols).to_bytes(4, "big")))
