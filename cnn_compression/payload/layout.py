"""The payload: a JPEG with one application segment that says how to restore the image.

The file is a JPEG as TensorFlow writes it, with the segment put in after its APP0 (JFIF), so that
every viewer opens it and shows the compact image. Integers are big-endian, as in JPEG itself.

    offset  bytes
         0     20  start of image, APP0: as in every JFIF file
        20      2  FF E9: marker of APP9
        22      2  34: length of the segment, from here to byte 55
        24      4  "CNNC": magic
        28      1  1: version of this layout
        29      8  fingerprint of the decoder: `Codec.fingerprint`
        37      4  height of the image, pixels
        41      4  width of the image, pixels
        45      1  channels of the image, 1 or 3
        46      1  scale: image pixels per compact pixel along each side
        47      1  quality of the JPEG, 1..100
        48      8  checksum: FarmHash64 of bytes 0..47 and 56.., as `tf.fingerprint` gives it
        56         the rest of the JPEG

`layout_ops` packs and verifies the same bytes in TensorFlow; this module reads them without.
"""

import struct
from dataclasses import dataclass

PAYLOAD_SUFFIX = ".cnn.jpg"  # of the files that hold payloads
# Of an image, unless the caller says otherwise: above any camera's, and what a machine can hold.
MAX_PIXELS = 250_000_000
SEGMENT_START = 20
MAGIC = b"CNNC"
VERSION = 1
# Up to and with the quality; the checksum follows.
FIELDS = struct.Struct(">2sH4sB8sIIBBB")
MAGIC_START = SEGMENT_START + 4
VERSION_START = MAGIC_START + len(MAGIC)
FINGERPRINT_START = VERSION_START + 1
FINGERPRINT_SIZE = 8
NUMBERS_START = FINGERPRINT_START + FINGERPRINT_SIZE
CHECKSUM_START = SEGMENT_START + FIELDS.size
CHECKSUM_SIZE = 8
HEADER_END = CHECKSUM_START + CHECKSUM_SIZE
MARKER = b"\xff\xe9"
SEGMENT_LENGTH = HEADER_END - SEGMENT_START - 2

# Start-of-frame markers: all of C0..CF but DHT (C4), JPG (C8) and DAC (CC) (T.81, table B.1).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class PayloadError(ValueError):
    """Bytes that are no payload, a damaged payload, or a payload of another model."""


@dataclass(frozen=True)
class Header:
    """What the payload's segment says; see the module's table."""

    version: int
    fingerprint: str
    height: int
    width: int
    channels: int
    scale: int
    quality: int
    checksum: bytes


def is_payload(data):
    """Whether bytes carry the payload's segment where it belongs."""
    return data[:2] == b"\xff\xd8" and data[MAGIC_START:VERSION_START] == MAGIC


def read_header(data):
    """Reads the header without verifying the checksum.

    Args:
        data: the payload's bytes, or at least its first 56.

    Raises:
        PayloadError: where the bytes are not the start of a payload of a known version.
    """
    if not is_payload(data):
        kind = "a plain JPEG" if data[:2] == b"\xff\xd8" else f"{len(data)} bytes of something else"
        raise PayloadError(f"not a payload: expected a JPEG with a CNNC segment. Received: {kind}")
    if len(data) < HEADER_END:
        raise PayloadError(f"cut short: the header has {HEADER_END} bytes. Received: {len(data)}")
    _, _, _, version, fingerprint, *numbers = FIELDS.unpack_from(data, SEGMENT_START)
    if version != VERSION:
        raise PayloadError(f"payload version must be {VERSION}. Received: {version}")
    checksum = bytes(data[CHECKSUM_START:HEADER_END])
    return Header(version, fingerprint.hex(), *numbers, checksum)


def preview_size(data):
    """Height and width, in pixels, of the JPEG that a viewer shows: from its start of frame.

    Raises:
        PayloadError: where no start of frame is found.
    """
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = struct.unpack_from(">xBH", data, position)
        if marker in _START_OF_FRAME:
            return struct.unpack_from(">HH", data, position + 5)
        position += 2 + length
    raise PayloadError("cut short: the JPEG has no start of frame")
