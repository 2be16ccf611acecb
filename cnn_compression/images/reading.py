"""Image files' bytes -> uint8 arrays, by Pillow; without TensorFlow.

Strict where Pillow is lenient: coded data that ends early, scans without number, and sizes that
are checked before anything is decoded. What is lost on the way is said in remarks.
"""

import contextlib
import importlib.util
import io
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cnn_compression import metadata
from cnn_compression.images import colours, tiff_strips
from cnn_compression.jpeg import segments
from cnn_compression.payload.layout import MAX_PIXELS, is_payload

COLOURS = ("srgb", "as_is")
_DEEP = re.compile(r"(.*;16)([BLN])")
# Read in the other order, samples of 16 bits give the bytes that Pillow drops.
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B"}


class ImageError(ValueError):
    """A file that cannot be used as an image; the text is the reason, without the file's name."""


def read(path, flatten=None, max_pixels=MAX_PIXELS, colour="srgb"):
    """Reads an image file.

    Args:
        path: of the file.
        flatten: None, or the colour (3 integers 0..255, RGB) behind transparent pixels.
        max_pixels: int, of which the file's header may promise no more: it is read before anything
            is decoded.
        colour: "srgb" converts the colours of a file with a profile to sRGB (LittleCMS,
            perceptual); "as_is" leaves the numbers.

    Returns:
        (uint8 array, upright: [H, W, 1] of grey files, else [H, W, 3]; list of remarks, lines that
        say what was changed on the way: samples v of 16 bits become round(v / 257), colours become
        sRGB, of several pictures the first is taken). A grey file with transparency over a
        `flatten` that is not grey becomes [H, W, 3].

    Raises:
        ImageError, OSError: the text is a one-line reason without the file's name.
        ValueError: `flatten` is not a colour, or `colour` none of `COLOURS`.
    """
    _check(flatten, colour)
    try:
        with open(path, "rb") as file:
            contents = file.read()
    except OSError as error:
        raise type(error)(error.strerror) from None
    return read_contents(contents, flatten, max_pixels, colour)


def read_contents(contents, flatten=None, max_pixels=MAX_PIXELS, colour="srgb"):
    """Like `read`, of a whole file's bytes instead of its path; never raises OSError."""
    return _read(contents, flatten, max_pixels, colour)[:2]


def read_with_metadata(contents, flatten=None, max_pixels=MAX_PIXELS, colour="srgb"):
    """Like `read_contents`, and the file's `Metadata` third."""
    image, notes, opened = _read(contents, flatten, max_pixels, colour)
    kept, remark = metadata.collect(opened)
    return image, notes + [remark] * bool(remark), kept


def _read(contents, flatten, max_pixels, colour):
    """(uint8 array, remarks, Pillow's image)."""
    flatten = _check(flatten, colour)
    form = _form_of(contents)
    refuse_payload(contents)
    with _refusing(form):
        opened = form.open(contents)
        _check_size(opened, max_pixels)
        bits = _bits(form, contents, opened)
        notes = [f"{bits}-bit samples reduced to 8"] if bits > 8 else []
        if form.name != "JPEG" and getattr(opened, "is_animated", False):
            notes.append("the first of several pictures is taken")
        _load(form, contents, opened)
        profile = opened.info.get("icc_profile") if colour == "srgb" else None
        image, remark = colours.to_srgb(_plain(form, contents, opened, bits), profile)
        return _without_alpha(image, flatten), notes + [remark] * bool(remark), opened


def refuse_payload(contents):
    """Raises `ImageError` for a payload, whose preview would be taken for a photograph."""
    if is_payload(contents):
        raise ImageError("is a payload already: encode the image it was made from")


def check_flatten(flatten):
    """The colour behind transparent pixels as a tuple, or None; raises ValueError for others."""
    if flatten is None:
        return None
    values = tuple(flatten)
    if len(values) != 3 or not all(c in range(256) for c in values):
        raise ValueError(f"flatten must be 3 integers from 0 to 255. Received: {flatten!r}")
    return values


def _check(flatten, colour):
    if colour not in COLOURS:
        raise ValueError(f"colour must be one of {', '.join(COLOURS)}. Received: {colour!r}")
    return check_flatten(flatten)


# Which format.


class _Form(NamedTuple):
    name: str
    magic: re.Pattern
    factory: Callable | None  # of a file object; None where it cannot be read here
    otherwise: str = ""  # what is said then

    def open(self, contents):
        if self.factory is None:
            raise ImageError(f"{self.name} {self.otherwise}")
        # Not by `Image.open`, whose own limit of pixels is the whole process'.
        return self.factory(io.BytesIO(contents))


def _heif(file):
    import pillow_heif

    return pillow_heif.HeifImageFile(file)


def _form(name, magic, factory, otherwise=""):
    return _Form(name, re.compile(magic, re.DOTALL), factory, otherwise)


_HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
_FORMS = (
    _form("PNG", rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    _form("JPEG", rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    _form("GIF", rb"GIF8[79]a", GifImagePlugin.GifImageFile),
    _form("BMP", rb"BM", BmpImagePlugin.BmpImageFile),
    _form("WebP", rb"RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    _form("AVIF", rb"....ftyp(....)*avi[fs]", AvifImagePlugin.AvifImageFile),
    _form("TIFF", rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile),
    _form(
        "JPEG 2000",
        rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    ),
    _form("PNM", rb"P[1-6]", PpmImagePlugin.PpmImageFile),
    _form(
        "HEIC",
        rb"....ftyp(....)*(hei[cmsx]|hev[cmsx]|mi[fm]1|msf1)",
        _heif if _HAS_HEIF else None,
        "needs pillow-heif: pip install 'cnn-compression[heif]', or convert the file",
    ),
    _form("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL ", None, "is not supported: convert the file"),
)


def _form_of(contents):
    if not contents:
        raise ImageError("empty file")
    # The brands of a file are all in its first box.
    own = int.from_bytes(contents[:4], "big") if contents[4:8] == b"ftyp" else 16
    start = contents[: max(min(own, 256), 16)]
    for form in _FORMS:
        if form.magic.match(start):
            return form
    raise ImageError(f"not an image of a known format: starts with {contents[:5]!r}")


@contextlib.contextmanager
def _refusing(form):
    """Turns whatever goes wrong with a file into an `ImageError`."""
    try:
        yield
    except (ImageError, ImportError):
        raise
    except MemoryError:
        raise ImageError("too large for the memory of this machine") from None
    except Image.DecompressionBombError:  # the process' own limit, for pixels as they lie in a file
        limit = f"at most {2 * Image.MAX_IMAGE_PIXELS} pixels are taken"
        raise ImageError(f"{form.name} without compression: {limit}") from None
    except Exception as error:  # a damaged file makes libraries raise all there is
        if form.name == "JPEG" and (bits := re.search(r"cannot handle (\d+)-bit", str(error))):
            raise ImageError(f"JPEG of {bits[1]} bits a sample is not supported") from None
        checked = form.name in ("PNG", "JPEG", "GIF")
        damage = "truncated or damaged" if checked else "truncated, damaged or unsupported"
        raise ImageError(f"{damage} {form.name}") from None


def _check_size(image, max_pixels):
    sizes = [image.size]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sizes += tiff_strips.tile_sizes(image)
    for width, height in sizes:
        if min(width, height) < 1:
            raise ValueError("no picture")
        if width * height > max_pixels:
            raise ImageError(f"{width} x {height} pixels: at most {max_pixels} are taken")


# Samples.


def _bits(form, contents, image):
    """Of a sample in the file, as far as it is known."""
    if form.name == "PNG":
        return contents[24]
    if form.name == "TIFF":
        return max(np.ravel(image.tag_v2.get(258, 1)))
    if form.name == "PNM":
        greatest = re.match(
            rb"P[2356](?:\s|#[^\n]*\n)+" + 2 * rb"\d+(?:\s|#[^\n]*\n)+" + rb"(\d+)", contents
        )
        return max(8, int(greatest[1]).bit_length()) if greatest else 8
    if form.name in ("AVIF", "HEIC"):
        at = contents.find(b"pixi")
        return contents[at + 9] if at >= 0 else 8
    if form.name == "JPEG 2000":
        at = contents.find(b"\xff\x4f\xff\x51")
        return contents[at + 42] % 128 + 1
    return 8


def _load(form, contents, image):
    """Decodes, and turns upright; raises ImageError for damage that Pillow does not hear of."""
    reason, orientation = "", 1
    if form.name == "PNG":
        form.open(contents).verify()  # the checksums, which loading leaves out
    if _is_cut(form, contents, image):
        reason = f"truncated or damaged {form.name}"
    elif form.name == "JPEG":
        reason = segments.strict_reason(contents)
    elif form.name == "TIFF":
        reason, orientation = tiff_strips.reason(contents, image), image.tag_v2.get(274, 1)
    if not reason:
        image.load()
    if form.name == "TIFF" and not reason:
        reason = tiff_strips.fax_reason(contents, orientation, image)
    if reason:
        raise ImageError(reason)
    _turn_upright(image)


def _turn_upright(image):
    with contextlib.suppress(Exception):  # of damaged Exif, which is no damage to the picture
        ImageOps.exif_transpose(image, in_place=True)


def _is_cut(form, contents, image):
    """Whether less is there than a header says, where decoders would make do with it."""
    if form.name == "PNG":
        return b"\0\0\0\0IEND\xae\x42\x60\x82" not in contents
    if form.name == "WebP":
        return int.from_bytes(contents[4:8], "little") + 8 > len(contents)
    if form.name == "BMP" and image.tile[0][0] == "raw":
        _, box, start, (_, stride, _) = image.tile[0]
        return start + stride * box[3] > len(contents)
    return False


def _plain(form, contents, image, bits):
    """An image of mode L, LA, RGB, RGBA or CMYK."""
    key = image.info.get("transparency")
    if image.mode in ("P", "PA"):
        has_alpha = image.mode == "PA" or key is not None
        return image.convert("RGBA" if has_alpha else "RGB")
    if image.mode in ("I", "F") and form.name != "PNM":
        raise ImageError(f"{form.name} of {bits} bits a sample is not supported")
    deep = bits == 16 or image.mode.startswith("I")
    samples = _deep_samples(form, contents, image, bits) if deep else None
    plain = image if samples is None else _from_deep(samples)
    if plain.mode in ("RGBa", "La"):
        plain = plain.convert(plain.mode.upper())
    elif plain.mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        plain = plain.convert("L" if plain.mode in ("1", "I;16") else "RGB")
    if key is not None and plain.mode in ("L", "RGB"):
        if samples is None:
            samples = np.asarray(plain).reshape(*plain.size[::-1], -1)
            key = np.asarray(key) * (255 // (2**bits - 1) if 1 < bits < 8 else 1)
        hidden = (samples == key).all(-1)
        plain.putalpha(Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)))
    return plain


def _deep_samples(form, contents, image, bits):
    """uint16 [H, W, C] of an image of 16 bits a sample; None where Pillow rounds by itself."""
    if image.mode.startswith("I"):
        scale = 16 if form.name == "TIFF" and bits == 12 else 1  # others come scaled already
        return np.asarray(image)[..., None].astype(np.uint16) * scale
    other = form.open(contents)
    if not other.tile:
        return None
    name, box, offset, options = other.tile[0]
    raw = options if isinstance(options, str) else options[0]
    if form.name == "PNG" and raw == "LA;16B":  # two samples are four bytes
        other._mode, changed = "RGBA", "RGBA"
    elif found := _DEEP.fullmatch(raw if isinstance(raw, str) else ""):
        changed = found[1] + _OTHER_ORDER[found[2]]
    else:
        return None
    other.tile = [
        tile._replace(args=changed if isinstance(options, str) else (changed, *tile.args[1:]))
        for tile in other.tile
    ]
    other.load()  # the file was checked when `image` was loaded
    _turn_upright(other)
    pixels = np.asarray(other)
    if raw == "LA;16B":
        high, low = pixels[..., ::2], pixels[..., 1::2]
    else:
        high, low = np.asarray(image), pixels
    return high.astype(np.uint16) << 8 | low


def _from_deep(samples):
    """uint16 [H, W, C] -> an image of round(v / 257)."""
    eight = np.empty(samples.shape, np.uint8)
    for rows, target in zip(_blocks(samples), _blocks(eight), strict=True):
        target[:] = (rows.astype(np.uint32) * 2 + 257) // 514
    return Image.fromarray(eight[..., 0] if samples.shape[2] == 1 else eight)


def _blocks(array):
    """An array's rows, some at a time: arithmetic on all of them would take memory many times."""
    return [array[start : start + 256] for start in range(0, len(array), 256)]


def _without_alpha(image, flatten):
    """uint8 [H, W, 1 or 3] of an image of mode L, LA, RGB or RGBA, on paper of that colour."""
    samples = np.asarray(image).reshape(*image.size[::-1], -1)
    if image.mode in ("L", "RGB"):
        return samples
    if all((rows[..., -1] == 255).all() for rows in _blocks(samples)):
        return np.ascontiguousarray(samples[..., :-1])
    if flatten is None:
        raise ImageError("has transparent pixels: pass --flatten=COLOUR")
    grey_paper = len(set(flatten)) == 1
    depth = max(samples.shape[2] - 1, 1 if grey_paper else 3)
    paper = np.array(flatten[:1] if grey_paper else flatten, np.int32)
    flat = np.empty((*samples.shape[:2], depth), np.uint8)
    for rows, target in zip(_blocks(samples), _blocks(flat), strict=True):
        alpha = rows[..., -1:].astype(np.int32)
        target[:] = (2 * (rows[..., :-1] * alpha + paper * (255 - alpha)) + 255) // 510
    return flat
