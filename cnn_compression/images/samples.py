"""Pillow's images -> uint8 arrays: of 8 bits a sample, in sRGB, without transparency."""

import contextlib
import io
import re

import numpy as np
from PIL import Image, ImageCms, ImageOps

_SRGB = ImageCms.createProfile("sRGB")


class ImageError(ValueError):
    """A file that cannot be used as an image; the text is the reason, without the file's name."""


def turn_upright(image):
    """In place, as Exif says."""
    with contextlib.suppress(Exception):  # of damaged Exif, which is no damage to the picture
        ImageOps.exif_transpose(image, in_place=True)


def bits_of(image, contents):
    """The bits of a sample in the file, of an image not loaded yet; 8 where nothing says."""
    if image.format in ("AVIF", "HEIF"):  # ISO/IEC 23008-12, 6.5.6
        return next(iter(contents.partition(b"pixi")[2][5:6]), 8)
    if image.format == "JPEG2000":  # ISO/IEC 15444-1, A.5.1
        return contents.partition(b"\xff\x4f\xff\x51")[2][38] % 128 + 1
    layout = image.tile[0].args if image.tile else ""
    if image.format == "PPM" and isinstance(layout, tuple):  # it has the greatest sample
        return max(8, layout[-1].bit_length())
    found = image.format != "BMP" and re.search(r";(\d+)", str(layout))  # there, of all samples
    return int(found[1]) if found else 16 if image.mode.startswith("I") else 8


def plain(image, bits, reopen):
    """An image's colours and its alpha, in 8 bits a sample.

    Args:
        image: Pillow's, loaded and upright.
        bits: int, of a sample in the file. ImageError if it has too many.
        reopen: of no argument to the same image, not loaded yet.

    Returns:
        (image of mode L, RGB or CMYK; image of mode L, or None).
    """
    if bits > 16 or image.mode == "F":
        raise ImageError(f"{image.format} of {bits} bits a sample is not supported")
    samples = None
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    key = image.info.get("transparency")  # the colour that means transparent
    if image.mode.startswith("I") or (bits == 16 and image.format in ("PNG", "TIFF")):
        samples = _deep_samples(image, bits, reopen)
        rounded = (np.minimum(samples, 65407) + 128) // 257  # as v / 257, within 16 bits
        mode = ("L", "LA", "RGB", "RGBA")[samples.shape[-1] - 1]
        image = Image.frombytes(mode, image.size, rounded.astype(np.uint8).tobytes())
    if image.mode in ("LA", "La", "RGBA", "RGBa"):
        image = image.convert(image.mode.upper())  # from colours that alpha was multiplied with
        return image.convert(image.mode[:-1]), image.getchannel("A")
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if key is None:
        return image, None
    if samples is None:  # fewer bits are scaled to 8, which the key is not but for 1
        samples, key = array_of(image), np.minimum(np.multiply(key, 255 // (2**bits - 1)), 255)
    hidden = (samples == key).all(-1)
    return image, Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))


def _deep_samples(image, bits, reopen):
    """uint16 [H, W, C] of an image of 16 bits, of which Pillow keeps the upper 8 in colour.

    Read once more, with the bytes of a sample in the other order, the file gives the lower ones.
    """
    if image.mode.startswith("I"):  # which is scaled to 16 bits but in TIFF
        unused = (16 - bits) * (image.format == "TIFF")
        return np.asarray(image)[..., None].astype(np.uint16) << unused
    again = reopen()
    for at, tile in enumerate(again.tile):
        layout, *more = [tile.args] if isinstance(tile.args, str) else tile.args
        other = layout[:-1] + ("L" if layout.endswith("B") else "B")
        if layout == "LA;16B":  # two samples are four bytes
            other = "RGBA"
        again.tile[at] = tile._replace(args=(other, *more))
    again.load()
    turn_upright(again)
    if other == "RGBA":
        return np.asarray(again).view(">u2").astype(np.uint16)
    return np.asarray(image).astype(np.uint16) << 8 | np.asarray(again)


def to_srgb(image, profile):
    """Converts an image to what sRGB means by its colours.

    Args:
        image: of mode L, RGB or CMYK.
        profile: bytes of an ICC profile, or None. What is sRGB to a level is left as it is.

    Returns:
        (image of mode L or RGB; a remark, "" where nothing was converted).
    """
    remark = ""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = " ".join(ImageCms.getProfileDescription(source).split())
            if image.mode == "CMYK" or not _is_srgb(image.mode, source):
                return _converted(image, source), f"colours converted from {name!r} to sRGB"
        except (ImageCms.PyCMSError, OSError, ValueError):
            remark = "its colour profile cannot be used: colours are taken for sRGB"
    return image.convert("RGB") if image.mode == "CMYK" else image, remark


def _is_srgb(mode, source):
    colours = 17 * np.indices((16,) * len(mode)).reshape(len(mode), -1).T.astype(np.uint8)
    image = Image.frombytes(mode, (len(colours), 1), colours.tobytes())
    return np.abs(array_of(_converted(image, source))[0].astype(int) - colours).max() <= 1


def _converted(image, source):
    changed = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    return changed.getchannel("G") if image.mode == "L" else changed


def on_paper(image, alpha, flatten):
    """An image of mode L or RGB where its alpha, mode L or None, lets the colour `flatten` through.

    Raises:
        ImageError: it does, and `flatten` is None.
    """
    if alpha is None or alpha.getextrema()[0] == 255:
        return image
    if flatten is None:
        raise ImageError("has transparent pixels: pass --flatten=COLOUR")
    if len(set(flatten)) > 1:
        image = image.convert("RGB")
    colour = flatten if image.mode == "RGB" else flatten[0]
    return Image.composite(image, Image.new(image.mode, image.size, colour), alpha)


def array_of(image):
    """uint8 [H, W, 1 or 3] of an image of mode L or RGB."""
    return np.asarray(image).reshape(*image.size[::-1], -1)
