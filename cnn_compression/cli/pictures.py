"""Restored pictures as files: PNG unless the output's name says JPEG, WebP or TIFF."""

import io
from pathlib import Path
from typing import Any

from cnn_compression.cli import streams

PNG = ".png"
QUALITY = 95  # of a format with losses: what was restored is not to lose much once more
_JPEG = {"format": "JPEG", "quality": QUALITY, "subsampling": "4:4:4"}
_WEBP = {"format": "WEBP", "quality": QUALITY}
_TIFF = {"format": "TIFF", "compression": "tiff_lzw", "tiffinfo": {317: 2}}  # differences of pixels
# Pillow's settings by the ending of a name.
SETTINGS = {PNG: {"format": "PNG"}, ".jpg": _JPEG, ".jpeg": _JPEG, ".webp": _WEBP}
SETTINGS |= {".tif": _TIFF, ".tiff": _TIFF}
_LONGEST_SIDES = {"JPEG": 65_535, "WEBP": 16_383}


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


def write(image: Any, ending: str) -> bytes:
    """A file's bytes of uint8 `[H, W, 1]` or `[H, W, 3]`, a tensor or an array."""
    if ending == PNG:
        from cnn_compression import images

        return images.encode_png(image).numpy()
    import numpy as np
    from PIL import Image

    pixels = np.asarray(image)
    return _saved(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), ending)


def rewrite(png: bytes, ending: str) -> bytes:
    """A PNG file's bytes as those of a file of another format."""
    if ending == PNG:
        return png
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return _saved(image, ending)


def _saved(image: Any, ending: str) -> bytes:
    file = io.BytesIO()
    image.save(file, **SETTINGS[ending])
    return file.getvalue()
