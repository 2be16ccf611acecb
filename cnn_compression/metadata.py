"""What a photograph says of itself beside its pixels: Exif, XMP and copyright, as bytes.

A payload carries it as any JPEG does, in application segments behind the payload's own; a restored
PNG as the chunks `eXIf` and `iTXt`. The orientation is left out, for images are made upright, and
so is the thumbnail.
"""

import re
import struct
import zlib
from dataclasses import dataclass

from PIL import ExifTags, Image
from PIL.IptcImagePlugin import getiptcinfo

from cnn_compression.jpeg import segments
from cnn_compression.payload.layout import own_segments

EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_MOST = 65533  # bytes of a segment's body
_PNG = b"\x89PNG\r\n\x1a\n"
# Of a TIFF structure's first directory; what else is there says how the file's own pixels lie.
_KEPT = {269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249, 33432}
_KEPT |= set(range(40091, 40096))
_COPYRIGHT, _MAKER_NOTE, _IPTC_COPYRIGHT = 33432, 0x927C, (2, 116)
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_XMP_TURNED = re.compile(
    rb"\s*(tiff:Orientation=(\"\d*\"|'\d*')|<(tiff:Orientation|xmp:Thumbnails)\b.*?</\3>)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Metadata:
    """`exif` is a TIFF structure, `xmp` a packet of XML, each b"" where there is none."""

    exif: bytes = b""
    xmp: bytes = b""

    def __bool__(self):
        return bool(self.exif or self.xmp)

    @property
    def num_bytes(self) -> int:
        """What it adds to a JPEG."""
        return len(_with_segments(b"", 0, self))


def collect(image: Image.Image) -> tuple[Metadata, str]:
    """Of an image as Pillow opened it; and a remark on what cannot be carried, or "".

    A copyright that stands elsewhere (in a PNG's text, or IPTC) becomes that of Exif.
    """
    try:
        exif = _exif(image, without=())
        if len(EXIF + exif) > _MOST:
            exif = _exif(image, without=(_MAKER_NOTE,))
    except Exception:  # whatever a damaged file provokes: the picture is none the worse
        exif = b""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    xmp = _XMP_TURNED.sub(b"", xmp.encode() if isinstance(xmp, str) else bytes(xmp))
    found = {"Exif": (EXIF, exif), "XMP": (XMP, xmp)}
    large = [name for name, (head, data) in found.items() if len(head + data) > _MOST]
    kept = Metadata(*(b"" if name in large else data for name, (_, data) in found.items()))
    return kept, f"{' and '.join(large)} too large to carry" if large else ""


def _exif(image, without):
    source, kept = image.getexif(), Image.Exif()
    kept.update({tag: _raw(value) for tag, value in source.items() if tag in _KEPT})
    if _COPYRIGHT not in kept and (notice := _copyright(image)):
        kept[_COPYRIGHT] = notice
    has_any = bool(kept)
    for pointer in _DIRECTORIES:
        inside = source.get_ifd(pointer).items()
        if inside := {tag: _raw(value) for tag, value in inside if tag not in without}:
            kept.get_ifd(pointer).update(inside)
            has_any = True
    return kept.tobytes().removeprefix(EXIF) if has_any else b""


def _raw(value):
    """Pillow reads text as Latin-1, whatever it is, and would write ASCII."""
    is_other_text = isinstance(value, str) and not value.isascii()
    return value.encode("latin-1") if is_other_text else value


def _copyright(image):
    notice = image.info.get("Copyright") or (getiptcinfo(image) or {}).get(_IPTC_COPYRIGHT)
    return notice.encode() if isinstance(notice, str) else notice


def into_payload(payload: bytes, metadata: Metadata) -> bytes:
    """A payload with the metadata behind its own segment; see `into_jpeg`."""
    own = own_segments(payload)
    if not own:
        raise ValueError("expected a payload. Received: a file without its segment")
    return _with_segments(payload, own[0].end, metadata)


def into_jpeg(data: bytes, metadata: Metadata) -> bytes:
    """A JPEG with the metadata behind its JFIF segment."""
    first = next(segments.head(data), None)
    return _with_segments(data, first.end if first and first.marker == 0xE0 else 2, metadata)


def _with_segments(data, at, metadata):
    bodies = [(EXIF, metadata.exif), (XMP, metadata.xmp)]
    added = b"".join(
        struct.pack(">BBH", 0xFF, segments.APP1, 2 + len(head) + len(body)) + head + body
        for head, body in bodies
        if body
    )
    return data[:at] + added + data[at:]


def of_payload(payload: bytes) -> Metadata:
    """What a payload, or another JPEG, carries before its first scan; the first of each kind."""
    found = {}
    for segment in segments.head(payload):
        for head in (EXIF, XMP):
            if segment.marker == segments.APP1 and segment.body.startswith(head):
                found.setdefault(head, segment.body[len(head) :])
    return Metadata(found.get(EXIF, b""), found.get(XMP, b""))


def into_png(png: bytes, metadata: Metadata) -> bytes:
    """A PNG with the metadata in chunks behind its header (PNG, third edition, 11.3)."""
    chunks = b""
    if metadata.exif:
        chunks += _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        chunks += _chunk(b"iTXt", _XMP_KEYWORD + bytes(5) + metadata.xmp)
    at = len(_PNG) + 25  # the header is the first chunk, and always of that size
    return png[:at] + chunks + png[at:]


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
