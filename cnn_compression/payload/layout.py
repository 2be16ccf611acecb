"""The payload: a JPEG with one application segment that says how to restore the image.

The file is a JPEG as TensorFlow writes it, with the segment put in after its APP0 (JFIF), so that
every viewer opens it and shows the compact image. Integers are big-endian, as in JPEG itself.

    offset  bytes
         0      2  FF E9: marker of APP9
         2      2  35: length of the segment, without its marker
         4      4  "CNNC": magic
         8      1  2: version of this layout
         9      8  fingerprint of the decoder: `Codec.fingerprint`
        17      4  height of the image, pixels
        21      4  width of the image, pixels
        25      1  channels of the image, 1 or 3
        26      1  scale: image pixels per compact pixel along each side
        27      1  quality of the JPEG, 1..100
        28      8  checksum: FarmHash64, as `tf.fingerprint` gives it, of what `covered` returns
        36      1  quality that was asked of the model, 1..100; 0 where a target of bytes or PSNR
                   was met between two of them

The segment counts wherever it stands before the first scan, once. The checksum covers the segment
itself and what makes the picture: tables, frame, scans, to the end of image. So programs may put
in, change, move and remove other application segments and comments, and put bytes after the end:
what they leave of the picture is what was written, and nothing else is decoded (`picture`).

Version 1 ends with its checksum, which covers every byte of the file.

`layout_ops` packs and verifies the same bytes in TensorFlow; this module reads them without.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

PAYLOAD_SUFFIX = ".cnn.jpg"  # of the files that hold payloads
# Of an image, unless the caller says otherwise: above any camera's, and what a machine can hold.
MAX_PIXELS = 250_000_000
# Of a file: what is read of more segments costs time and tells nothing. Profiles and metadata of
# real files take up to some hundreds; JPEG has 10 scans as libjpeg writes it.
MAX_SEGMENTS = 1024
MAX_SCANS = 16

SEGMENT_START = 20  # where the encoder puts it: after APP0
MAGIC = b"CNNC"
VERSION = 2
VERSIONS = (1, 2)
# Up to and with the quality; the checksum follows.
FIELDS = struct.Struct(">2sH4sB8sIIBBB")
MAGIC_START = 4
VERSION_START = MAGIC_START + len(MAGIC)
FINGERPRINT_START = VERSION_START + 1
FINGERPRINT_SIZE = 8
NUMBERS_START = FINGERPRINT_START + FINGERPRINT_SIZE
CHECKSUM_START = FIELDS.size
CHECKSUM_SIZE = 8
ASKED_START = CHECKSUM_START + CHECKSUM_SIZE
SEGMENT_SIZE = ASKED_START  # at least; what is not there was not asked
MARKER = b"\xff\xe9"

# What a marker begins (T.81, table B.1), by its second byte.
NOTHING, ALONE, TOLD, PICTURE, SCAN, END = range(6)


def _kind(marker: int) -> int:
    if marker in (0x00, 0xD8, 0xFF):  # stuffed, fill; a start of image is only at the start
        return NOTHING
    if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # TEM, RSTn: no length follows
        return ALONE
    if 0xE0 <= marker <= 0xEF or marker == 0xFE:  # APPn, COM: they tell about the picture
        return TOLD
    return {0xDA: SCAN, 0xD9: END}.get(marker, PICTURE)


KINDS = [_kind(marker) for marker in range(256)]
# Bytes of each kind, from the marker; 0 where the segment says so itself.
SIZES = [0, 2, 0, 0, 0, 2]
START_OF_IMAGE = b"\xff\xd8"
_MARKER = re.compile(rb"\xff+[^\x00\xff]")  # fill bytes may come before it (T.81, B.1.1.2)
# What ends a scan's data: a marker other than RSTn, and no stuffed byte.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# All of C0..CF but DHT (C4), JPG (C8) and DAC (CC).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class PayloadError(ValueError):
    """Bytes that are no payload, a damaged payload, or a payload of another model."""


class OtherModelError(PayloadError):
    """A payload of another model than was asked to decode it."""


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
    asked: int


class Segment(NamedTuple):
    """A segment of a JPEG; a scan has its data with it.

    Attributes:
        marker: int, the marker's second byte.
        start, end: ints, bytes: from the marker to what follows; beyond the file where it is cut.
    """

    marker: int
    start: int
    end: int


def segments(data: bytes, max_scans: int = MAX_SCANS) -> Iterator[Segment]:
    """A JPEG's segments in their order, as far as there are any.

    The last one is the end of image (D9) where the file is whole and has at most `MAX_SEGMENTS`
    and `max_scans`.
    """
    at = len(START_OF_IMAGE)
    scans = 0
    for _ in range(MAX_SEGMENTS if data[:at] == START_OF_IMAGE else 0):
        marker = _MARKER.match(data, at)
        if not marker:
            return
        at = marker.end() - 2
        kind = KINDS[data[at + 1]]
        size = SIZES[kind] or 2 + int.from_bytes(data[at + 2 : at + 4].ljust(2, b"\0"), "big")
        end = at + size
        scans += kind == SCAN
        if kind == NOTHING or (SIZES[kind] == 0 and size < 4) or scans > max_scans:
            return
        if kind == SCAN:
            after = _AFTER_SCAN.search(data, end)
            data_end = after.start() if after else len(data)
            end += len(data[end:data_end].rstrip(b"\xff"))
        yield Segment(data[at + 1], at, end)
        if kind == END:
            return
        at = end


def picture(data: bytes) -> bytes:
    """What makes the picture: a JPEG without application segments, comments and fill bytes."""
    parts = [
        data[segment.start : segment.end]
        for segment in segments(data)
        if KINDS[segment.marker] != TOLD
    ]
    return b"".join([data[:2], *parts])


def covered(data: bytes) -> bytes:
    """What a payload's checksum is of.

    Raises:
        PayloadError: as of `read_header`.
    """
    version = read_header(data).version
    _, start, end = own_segments(data)[0]
    before, after = start + CHECKSUM_START, start + SEGMENT_SIZE
    if version == 1:
        return data[:before] + data[after:]
    return data[start:before] + data[after:end] + picture(data)


def own_segments(data: bytes) -> list[Segment]:
    """The segments that are a payload's, of those before the first scan."""
    found = []
    for segment in segments(data):
        if KINDS[segment.marker] == SCAN:
            break
        magic = data[segment.start + MAGIC_START : segment.start + VERSION_START]
        if segment.marker == MARKER[1] and magic == MAGIC:
            found.append(segment)
    return found


def is_payload(data: bytes) -> bool:
    """Whether bytes carry a payload's segment, whatever else is right or wrong with them."""
    return bool(own_segments(data))


def read_header(data: bytes) -> Header:
    """Reads the header without verifying the checksum.

    Args:
        data: the payload's bytes, or its first ones to the end of the segment.

    Raises:
        PayloadError: where the bytes are not the start of a payload of a known version.
    """
    found = own_segments(data)
    if not found:
        jpeg = data[:2] == START_OF_IMAGE
        kind = "a plain JPEG" if jpeg else f"{len(data)} bytes of something else"
        raise PayloadError(f"not a payload: expected a JPEG with a CNNC segment. Received: {kind}")
    if len(found) > 1:
        raise PayloadError(f"expected one CNNC segment. Received: {len(found)}")
    _, start, end = found[0]
    size, there = max(end - start, SEGMENT_SIZE), len(data) - start
    if there < size:
        raise PayloadError(f"cut short: the header has {size} bytes. Received: {there}")
    _, _, _, version, fingerprint, *numbers = FIELDS.unpack_from(data, start)
    if version not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        raise PayloadError(f"payload version must be {known}. Received: {version}")
    checksum = bytes(data[start + CHECKSUM_START : start + SEGMENT_SIZE])
    asked = data[start + ASKED_START] if end > start + ASKED_START else 0
    return Header(version, fingerprint.hex(), *numbers, checksum, asked)


def preview_size(data: bytes) -> tuple[int, int]:
    """Height and width, in pixels, of the JPEG that a viewer shows: from its start of frame.

    Raises:
        PayloadError: where no start of frame is found.
    """
    for segment in segments(data):
        if segment.marker in _START_OF_FRAME and segment.start + 9 <= len(data):
            return struct.unpack_from(">HH", data, segment.start + 5)
    raise PayloadError("cut short: the JPEG has no start of frame")
