"""A JPEG's segments: how many scans, how many bits, and what else it carries (T.81, B.1)."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

MOST_SCANS = 100  # that are decoded: an empty one takes no bytes, and as long as any other
APP0, APP1, SOS = 0xE0, 0xE1, 0xDA
_END = 0xD9
PROGRESSIVE = 0xC2
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # behind coded data, with its fill bytes


class Segment(NamedTuple):
    """`data[start:end]` is the whole segment, marker and length too, fill bytes left out."""

    marker: int
    start: int
    end: int
    body: bytes


def segments(data: bytes) -> Iterator[Segment]:
    """The segments of a JPEG up to its end marker, or to where the bytes stop being one."""
    position = 2 if data[:2] == b"\xff\xd8" else len(data)
    while (found := _MARKER.search(data, position)) and found[1][0] != _END:
        start = found.end() - 2
        if start + 4 > len(data):
            return
        [length] = struct.unpack_from(">H", data, start + 2)
        position = start + 2 + length
        yield Segment(found[1][0], start, position, data[start + 4 : position])


def head(data: bytes) -> Iterator[Segment]:
    """The segments before the first scan."""
    for segment in segments(data):
        if segment.marker == SOS:
            return
        yield segment


def strict_reason(data: bytes) -> str:
    """Why a JPEG is refused that libjpeg opens, or "".

    Pillow hears none of libjpeg's warnings, of coded data that ends early for one: another
    library that does, simplejpeg, takes the file through once more, at an eighth of its size.
    """
    import simplejpeg

    kinds = [segment.marker for segment in segments(data)]
    if (scans := kinds.count(SOS)) > MOST_SCANS:
        return f"JPEG of {scans} scans: at most {MOST_SCANS} are taken"
    if PROGRESSIVE in kinds and not _all_scans(data):
        return "truncated or damaged JPEG"
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1)
    except ValueError as error:
        # What only this library cannot do is no damage.
        if not str(error).startswith(("Unsupported", "Could not", "Unknown Adobe", "Warning")):
            return "truncated or damaged JPEG"
    return ""


def _all_scans(data):
    """Whether a progressive JPEG has all coefficients to their last bit (G.1.1.1)."""
    left = {}  # (component, coefficient) -> bits that no scan had yet
    for segment in segments(data):
        if segment.marker == PROGRESSIVE:
            left |= {(name, k): 16 for name in segment.body[6::3] for k in range(64)}
        elif segment.marker == SOS:
            count = segment.body[0]
            first, last, bits = segment.body[1 + 2 * count : 4 + 2 * count]
            names = segment.body[1 : 1 + 2 * count : 2]
            left |= {(name, k): bits % 16 for name in names for k in range(first, last + 1)}
    return not any(left.values())
