"""Restored pictures as files: PNG unless the output's name says JPEG, WebP or TIFF."""

import io
from pathlib import Path
from typing import Any

from cnn_compression.cli import streams
from cnn_compression.metadata import Metadata, into_jpeg, into_png

PNG = ".png"
QUALITY = 95  # of a format with losses: what was restored is not to lose much once more
_JPEG = {"format": "JPEG", "quality": QUALITY, "subsampling": "4:4:4"}
_WEBP = {"format": "WEBP", "quality": QUALITY}
_TIFF = {"format": "TIFF", "compression": "tiff_lzw"}
# Pillow's settings by the ending of a name.
SETTINGS = {PNG: {"format": "PNG"}, ".jpg": _JPEG, ".jpeg": _JPEG, ".webp": _WEBP}
SETTINGS |= {".tif": _TIFF, ".tiff": _TIFF}
_LONGEST_SIDES = {"JPEG": 65_500, "WEBP": 16_383}
_PREDICTOR, _XMP = 317, 700  # of TIFF
# Exif's own directory and GPS': Pillow writes neither beside LZW.
_INNER = (34665, 34853)


def ending(path: Path) -> str:
    """The ending, one of `SETTINGS`, that says which format an output gets.

    A stream and a name without one get PNG. Raises ValueError for another ending.
    """
    suffix = path.suffix.lower()
    if streams.is_stream(path) or not suffix:
        return PNG
    if suffix not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise ValueError(f"expected -o with a name that ends in {known}. Received: {suffix}")
    return suffix


def check_sides(height: int, width: int, ending: str) -> None:
    """Raises ValueError where the format takes no picture as large."""
    name = SETTINGS[ending]["format"]
    longest = _LONGEST_SIDES.get(name, max(height, width))
    if max(height, width) > longest:
        raise ValueError(
            f"{width} x {height} pixels: {name} takes sides of at most {longest}; pass -o NAME.png"
        )


def write(image: Any, ending: str, kept: Metadata) -> bytes:
    """A file's bytes of uint8 `[H, W, 1]` or `[H, W, 3]`, a tensor or an array, and of metadata."""
    if ending == PNG:
        from cnn_compression import images

        return into_png(images.encode_png(image).numpy(), kept)
    import numpy as np
    from PIL import Image

    pixels = np.asarray(image)
    return _saved(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), ending, kept)


def rewrite(png: bytes, ending: str, kept: Metadata) -> bytes:
    """A PNG file's bytes as those of a file of another format, and with metadata."""
    if ending == PNG:
        return into_png(png, kept)
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return _saved(image, ending, kept)


def _saved(image: Any, ending: str, kept: Metadata) -> bytes:
    settings = SETTINGS[ending]
    if settings["format"] == "TIFF":
        settings = settings | {"exif": _tiff_tags(kept)}
    elif settings["format"] == "WEBP":
        settings = settings | {"exif": kept.exif, "xmp": kept.xmp}
    file = io.BytesIO()
    image.save(file, **settings)
    data = file.getvalue()
    return into_jpeg(data, kept) if settings["format"] == "JPEG" else data


def _tiff_tags(kept: Metadata) -> Any:
    from PIL import Image

    tags = Image.Exif()
    tags.load(kept.exif)
    for tag in _INNER:
        tags.pop(tag, None)
    tags[_PREDICTOR] = 2  # differences of pixels
    if kept.xmp:
        tags[_XMP] = kept.xmp
    return tags
