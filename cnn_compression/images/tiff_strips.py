"""What Pillow does not hear of libtiff about a TIFF's strips and tiles: sizes and damage."""

import io
import re

import numpy as np
from PIL import Image, ImageChops

from cnn_compression.jpeg import segments

_TILES, _STRIPS = (324, 325), (273, 279)  # tags of their places and of how many bytes they have
_FAX = ("tiff_ccitt", "group3", "group4")
# What undoes an orientation that was made upright.
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
DAMAGED = "truncated or damaged TIFF"


def tile_sizes(image):
    """(width, height) of a tile, for which room is made whatever the picture's size, in a list."""
    tags = image.tag_v2
    return [(tags[322], tags[323])] if 322 in tags and 323 in tags else []


def reason(contents, image):
    """Why a TIFF is refused before it is decoded, or ""."""
    parts = _parts(contents, image.tag_v2)
    if any(part is None for part in parts):
        return DAMAGED
    if image.info.get("compression") == "jpeg":
        tables = image.tag_v2.get(347, b"\xff\xd8\xff\xd9")
        files = (tables[:-2] + part[2:] for part in parts)
        reasons = (segments.strict_reason(file) for file in files)
        return next((said.replace("JPEG", "TIFF's JPEG", 1) for said in reasons if said), "")
    return ""


def fax_reason(contents, orientation, image):
    """Why a bilevel TIFF is refused once it is decoded, or "": libtiff fills what it cannot read.

    A picture has one coding as fax but for ends of lines and what fills up bytes: what was read,
    coded again, must give what was there.
    """
    compression = image.info.get("compression")
    if compression not in _FAX or image.mode != "1" or _TILES[0] in image.tag_v2:
        return ""
    tags = image.tag_v2
    if orientation in _TURNED:  # loading turned it
        image = image.transpose(_TURNED[orientation])
    rows = min(tags.get(278, image.height), image.height)
    settings = {
        "compression": compression,
        "strip_size": (image.width + 7) // 8 * rows,
        "tiffinfo": {292: tags[292]} if 292 in tags else {},
    }
    there = [_codes(part, tags.get(266, 1)) for part in _parts(contents, tags)]
    for picture in (image, ImageChops.invert(image)):  # white may be 0 or 1
        file = io.BytesIO()
        picture.save(file, "TIFF", **settings)
        again = Image.open(file).tag_v2
        if there == [_codes(part, 1) for part in _parts(file.getvalue(), again)]:
            return ""
    return DAMAGED


def _codes(data, fill_order):
    """The bits of coded lines as text, without ends of lines and blocks and what fills bytes."""
    order = "little" if fill_order == 2 else "big"
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder=order) + ord("0")
    return re.sub(b"0{11,}1", b"", bits.tobytes()).rstrip(b"0")


def _parts(contents, tags):
    """The bytes of each strip or tile; None for one that the file has not in full."""
    places, counts = _TILES if _TILES[0] in tags else _STRIPS
    pairs = zip(tags.get(places, ()), tags.get(counts, ()), strict=False)
    return [contents[at : at + size] if at + size <= len(contents) else None for at, size in pairs]
