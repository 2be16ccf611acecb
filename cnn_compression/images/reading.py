"""Image files' bytes -> uint8 arrays, by Pillow; without TensorFlow.

Strict where Pillow is lenient: coded data that ends early, scans without number, and sizes that
are checked before anything is decoded. What is lost on the way is said in remarks.
"""

import contextlib
import io
import pkgutil
import re

from PIL import Image

from cnn_compression import metadata
from cnn_compression.images import samples
from cnn_compression.images.samples import ImageError
from cnn_compression.jpeg import segments
from cnn_compression.payload.latent_layout import is_latent
from cnn_compression.payload.layout import MAX_PIXELS, is_payload

COLOURS = ("srgb", "as_is")
# A file's first bytes, and the class that opens it.
_FORMS = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin:PngImageFile"),
    "JPEG": (rb"\xff\xd8\xff", "PIL.JpegImagePlugin:JpegImageFile"),
    "GIF": (rb"GIF8[79]a", "PIL.GifImagePlugin:GifImageFile"),
    "BMP": (rb"BM", "PIL.BmpImagePlugin:BmpImageFile"),
    "WebP": (rb"RIFF....WEBP", "PIL.WebPImagePlugin:WebPImageFile"),
    "AVIF": (rb"....ftyp(....)*avi[fs]", "PIL.AvifImagePlugin:AvifImageFile"),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", "PIL.TiffImagePlugin:TiffImageFile"),
    "JPEG 2000": (rb"....jP  \r\n\x87\n|\xff\x4f\xff\x51", "PIL.Jpeg2KImagePlugin:Jpeg2KImageFile"),
    "PNM": (rb"P[1-6]", "PIL.PpmImagePlugin:PpmImageFile"),
    "HEIC": (rb"....ftyp(....)*(hei[cmsx]|hev[cmsx]|mi[fm]1|msf1)", "pillow_heif:HeifImageFile"),
    "JPEG XL": (rb"\xff\x0a|\0\0\0\x0cJXL ", None),
}
_BAD = "truncated, damaged or unsupported "


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
    flatten = check_flatten(flatten)
    if colour not in COLOURS:
        raise ValueError(f"colour must be one of {', '.join(COLOURS)}. Received: {colour!r}")
    refuse_payload(contents)
    form = _form_of(contents)
    with _refusing(form):
        opened = _open(form, contents)
        _check_size(form, opened, max_pixels)
        if reason := _damage(form, contents, opened):
            raise ImageError(reason)
        bits = samples.bits_of(opened, contents)
        notes = [f"{bits}-bit samples reduced to 8"] if bits > 8 else []
        if getattr(opened, "is_animated", False):
            notes.append("the first of several pictures is taken")
        opened.load()
        samples.turn_upright(opened)
        image, alpha = samples.plain(opened, bits, lambda: _open(form, contents))
        profile = opened.info.get("icc_profile") if colour == "srgb" else None
        image, remark = samples.to_srgb(image, profile)
        image = samples.array_of(samples.on_paper(image, alpha, flatten))
        return image, notes + [remark] * bool(remark), opened


def refuse_payload(contents):
    """Raises `ImageError` for a payload, whose preview may be taken for a photograph."""
    if is_payload(contents) or is_latent(contents):
        raise ImageError("is a payload already: encode the image it was made from")


def check_flatten(flatten):
    """The colour behind transparent pixels as a tuple, or None; raises ValueError for others."""
    if flatten is None:
        return None
    values = tuple(flatten)
    if len(values) != 3 or not all(c in range(256) for c in values):
        raise ValueError(f"flatten must be 3 integers from 0 to 255. Received: {flatten!r}")
    return values


def _form_of(contents):
    if not contents:
        raise ImageError("empty file")
    # The brands of a file are all in its first box.
    own = int.from_bytes(contents[:4], "big") if contents[4:8] == b"ftyp" else 16
    start = contents[: max(min(own, 256), 16)]
    for form, (magic, _) in _FORMS.items():
        if re.match(magic, start, re.DOTALL):
            return form
    raise ImageError(f"not an image of a known format: starts with {contents[:5]!r}")


def _open(form, contents):
    """Pillow's image, not decoded yet."""
    if not (name := _FORMS[form][1]):
        raise ImageError(f"{form} is not supported: convert the file")
    try:
        opener = pkgutil.resolve_name(name)
    except ImportError:
        cure = "pip install 'cnn-compression[heif]', or convert the file"
        raise ImageError(f"{form} needs pillow-heif: {cure}") from None
    # Not by `Image.open`, whose own limit of pixels is the whole process'.
    return opener(io.BytesIO(contents))


@contextlib.contextmanager
def _refusing(form):
    """Turns whatever goes wrong with a file into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("too large for the memory of this machine") from None
    except Image.DecompressionBombError as error:  # the process' own limit
        raise ImageError(f"{form}: {error}") from None
    except Exception as error:  # a damaged file makes libraries raise all there is
        if deep := form == "JPEG" and re.search(r"cannot handle (\d+)-bit", str(error)):
            raise ImageError(f"JPEG of {deep[1]} bits a sample is not supported") from None
        raise ImageError(_BAD + form) from None


def _check_size(form, image, max_pixels):
    width, height = image.size
    if form == "TIFF":  # room is made for a whole tile
        width = max(width, image.tag_v2.get(322, 0))
        height = max(height, image.tag_v2.get(323, 0))
    if min(image.size) < 1:
        raise ImageError(_BAD + form)
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels: at most {max_pixels} are taken")


def _damage(form, contents, image):
    """Why a file is refused before it is decoded, though Pillow would make do with it, or ""."""
    if form == "PNG":
        _open(form, contents).verify()  # the checksums, which loading leaves out
        return "" if b"\0\0\0\0IEND\xae\x42\x60\x82" in contents else _BAD + form
    if form == "JPEG":
        return segments.strict_reason(contents)
    return _tiff_damage(form, contents, image) if form == "TIFF" else ""


def _tiff_damage(form, contents, image):
    """libtiff fills what it cannot read, and Pillow does not hear of it."""
    tags = image.tag_v2
    if tags.get(259) in (2, 3, 4, 32771):  # no sign of damage is in these codes
        return "TIFF coded as fax is not supported: convert the file"
    places, sizes = (324, 325) if 324 in tags else (273, 279)  # of tiles, or else strips
    parts = list(zip(tags.get(places, ()), tags.get(sizes, ()), strict=False))
    if any(at + size > len(contents) for at, size in parts):
        return _BAD + form
    if image.info.get("compression") == "jpeg":
        tables = tags.get(347, b"\xff\xd8\xff\xd9")[:-2]
        reasons = (segments.strict_reason(tables + contents[at + 2 : at + n]) for at, n in parts)
        return next((said.replace("JPEG", "TIFF's JPEG", 1) for said in reasons if said), "")
    return ""
