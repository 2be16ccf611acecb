"""Colour profiles (ICC) -> sRGB, by LittleCMS through Pillow."""

import functools
import io
import itertools

import numpy as np
from PIL import Image, ImageCms

_SRGB = functools.cache(lambda: ImageCms.createProfile("sRGB"))
DAMAGED = "its colour profile cannot be used: colours are taken for sRGB"


def to_srgb(image, profile):
    """Converts an image to what sRGB means by its colours.

    Args:
        image: of mode L, LA, RGB, RGBA, CMYK or LAB.
        profile: bytes of an ICC profile, or None.

    Returns:
        (image of mode L, LA, RGB or RGBA; a remark, "" where nothing was converted).
    """
    if image.mode == "LAB":
        return _converted(image, ImageCms.createProfile("LAB")), ""
    remark = ""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = " ".join(ImageCms.getProfileDescription(source).split())
            if image.mode == "CMYK" or _changes(image.mode.removesuffix("A"), source):
                return _converted(image, source), f"colours converted from {name!r} to sRGB"
        except (ImageCms.PyCMSError, OSError, ValueError):
            remark = DAMAGED
    return image.convert("RGB") if image.mode == "CMYK" else image, remark


def _changes(mode, source):
    """Whether a profile means colours more than a level away from sRGB's."""
    levels = range(0, 256, 1 if mode == "L" else 17)
    colours = np.array(list(itertools.product(levels, repeat=len(mode))), np.uint8)
    image = Image.fromarray(colours[None] if len(mode) == 3 else colours.reshape(1, -1))
    difference = np.asarray(_converted(image, source)).astype(int) - np.asarray(image)
    return np.abs(difference).max() > 1


def _converted(image, source):
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    plain = image.convert(image.mode.removesuffix("A")) if alpha else image
    converted = ImageCms.profileToProfile(plain, source, _SRGB(), outputMode="RGB")
    if plain.mode == "L":
        converted = converted.getchannel("G")
    if alpha:
        converted.putalpha(alpha)
    return converted
