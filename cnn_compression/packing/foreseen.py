"""Segments that many JPEGs have: what deflating other segments starts with, so that these cost next
to nothing. Packed files depend on every byte of it."""

import functools

from cnn_compression.jpeg.structure import segment
from cnn_compression.jpeg.tables import quantisation_tables

_COUNTS_OF_DC = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1]), bytes([0, 3] + [1] * 9)
# T.81, tables K.5 and K.6: how many codes of each length, and the symbols of those below 16 bits;
# the others follow in their order.
_AC = (
    bytes.fromhex(
        "0002010303020403050504040000017d"
        "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282"
    ),
    bytes.fromhex(
        "00020102040403040705040400010277"
        "0102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f1"
        "1718191a"
    ),
)
_DQT, _DHT, _SOF, _SOS = 0xDB, 0xC4, (0xC0, 0xC2), 0xDA
_STARTS = (
    b"http://ns.adobe.com/xap/1.0/\0",
    b"ICC_PROFILE\0\1\1",
    b"Photoshop 3.0\x008BIM\4\4\0\0\0\0",
    b"\xff\xee\0\x0eAdobe\0d\x80\0\0\0\0\1",
    b"\xff\xe1Exif\0\0MM\0*\0\0\0\x08",
    b"\xff\xe1Exif\0\0II*\0\x08\0\0\0",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\2\0\0\1\0\1\0\0",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\1\0\x48\0\x48\0\0",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
)


@functools.cache
def segments(quality: int) -> bytes:
    """The bytes that deflating starts with.

    Args:
        quality: 1..100: libjpeg's quantisation tables of it are among them; 0 where they are not.
    """
    parts = [*_STARTS]
    if quality:
        tables = quantisation_tables(quality, 3)[:2]
        parts += [segment(_DQT, bytes([n]) + bytes(one.tolist())) for n, one in enumerate(tables)]
    for marker in _SOF:
        for factors in (0x11, 0x21, 0x22):
            body = [8, 0, 0, 0, 0, 3, 1, factors, 0, 2, 0x11, 1, 3, 0x11, 1]
            parts.append(segment(marker, bytes(body)))
    parts += _progressive_scans()
    for number in range(2):
        parts.append(segment(_DHT, bytes([number]) + _dc(number)))
        parts.append(segment(_DHT, bytes([16 + number]) + _ac(number)))
    parts.append(segment(_SOS, bytes([1, 1, 0, 0, 63, 0])))
    parts.append(segment(_SOS, bytes([3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])) + b"\xff\xd9")
    return b"".join(parts)


def _dc(number):
    """T.81, tables K.3 and K.4."""
    return _COUNTS_OF_DC[number].ljust(16, b"\0") + bytes(range(12))


def _ac(number):
    first = _AC[number][16:]
    known = [16 * run + size for run in range(16) for size in range(1, 11)]
    return _AC[number] + bytes(symbol for symbol in known if symbol not in first)


def _progressive_scans():
    """libjpeg's (`jpeg_simple_progression`)."""
    every = [3, 1, 0, 2, 0x10, 3, 0x10, 0, 0]
    luma, blue, red = [1, 1, 0], [1, 2, 1], [1, 3, 1]
    bodies = [
        [*every, 1],
        *([*luma, 1, 5, 2], [*red, 1, 63, 1], [*blue, 1, 63, 1], [*luma, 6, 63, 2]),
        [*luma, 1, 63, 0x21],
        [*every[:2], 0, 2, 0, 3, 0, 0, 0, 0x10],
        *([*red, 1, 63, 0x10], [*blue, 1, 63, 0x10], [*luma, 1, 63, 0x10]),
    ]
    return [segment(_SOS, bytes(body)) for body in bodies]
