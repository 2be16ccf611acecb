"""Image files for the tests of reading: as Pillow writes them, and what it cannot write."""

import io
import struct
import zlib

import numpy as np
import skimage.data
from PIL import Image

PHOTO = skimage.data.chelsea()[60:107, 110:171]  # 47x61
GREY = PHOTO[..., 1]
DEEP = np.random.default_rng(0).integers(0, 65536, (9, 11, 4), np.uint16)
ALPHA = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(GREY.shape)
RGBA = np.dstack([PHOTO, ALPHA])
COLOUR = (200, 30, 77)
GROUND = (7, 7, 7)


def saved(image, form, **options):
    """The bytes of a file that Pillow makes of an array or a Pillow image."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_pillow(contents, channels):
    image = Image.open(io.BytesIO(contents)).convert("L" if channels == 1 else "RGB")
    return np.asarray(image).reshape(image.height, image.width, channels)


def png(samples, bits=8, interlaced=False, colour_key=None):
    """A PNG file with the samples of an array [H, W, C], which Pillow cannot write in full."""
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7: first column, first row, step in x, step in y
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
        passes += [(1, 0, 2, 2), (0, 1, 1, 2)]
    kind = f">u{bits // 8}"
    parts = [samples[y::dy, x::dx].astype(kind) for x, y, dx, dy in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"tEXt", b"Comment\0IDAT tRNS")]
    if colour_key is not None:
        chunks.append((b"tRNS", np.asarray(colour_key, ">u2").tobytes()))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


PALETTE = Image.fromarray(PHOTO).quantize(16)
PLAIN = {  # name: contents, channels
    "png": (saved(PHOTO, "PNG"), 3),
    "png grey": (saved(GREY, "PNG"), 1),
    "png of greys in RGB": (saved(np.dstack([GREY] * 3), "PNG"), 3),
    "png palette": (saved(PALETTE, "PNG"), 3),
    "png palette of greys": (saved(Image.fromarray(GREY).convert("P"), "PNG"), 3),
    "png 1 bit": (saved(Image.fromarray(GREY > 99), "PNG"), 1),
    "png interlaced": (png(PHOTO, interlaced=True), 3),
    "png 1x1": (saved(PHOTO[:1, :1], "PNG"), 3),
    "png 1x37": (saved(GREY[:1, :37], "PNG"), 1),
    "jpeg": (saved(PHOTO, "JPEG", quality=85), 3),
    "jpeg progressive 4:4:4": (saved(PHOTO, "JPEG", progressive=True, subsampling=0), 3),
    "jpeg grey": (saved(GREY, "JPEG"), 1),
    "jpeg CMYK": (saved(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"), 3),
    "jpeg 1x1": (saved(PHOTO[:1, :1], "JPEG"), 3),
    "jpeg 40x1": (saved(PHOTO[:40, :1], "JPEG"), 3),
    "jpeg with more behind": (saved(PHOTO, "JPEG") + saved(GREY, "JPEG") + b"more", 3),
    "gif": (saved(PALETTE, "GIF"), 3),
    "bmp": (saved(PHOTO, "BMP"), 3),
    "bmp grey": (saved(GREY, "BMP"), 1),
    "bmp palette": (saved(PALETTE, "BMP"), 3),
    "bmp 32 bits": (saved(RGBA, "BMP"), 3),
    "bmp 3x1": (saved(PHOTO[:1, :3], "BMP"), 3),
}
EXTRA = {
    "webp": (saved(PHOTO, "WEBP", quality=70), 3),
    "webp lossless": (saved(PHOTO, "WEBP", lossless=True), 3),
    "webp 1x1": (saved(PHOTO[:1, :1], "WEBP", lossless=True), 3),
    "tiff": (saved(PHOTO, "TIFF"), 3),
    "tiff lzw": (saved(PHOTO, "TIFF", compression="tiff_lzw"), 3),
    "tiff strips": (saved(PHOTO, "TIFF", compression="tiff_lzw", strip_size=61 * 3 * 8), 3),
    "tiff jpeg": (saved(PHOTO, "TIFF", compression="jpeg"), 3),
    "tiff CMYK": (saved(Image.fromarray(PHOTO).convert("CMYK"), "TIFF"), 3),
    "tiff palette": (saved(PALETTE, "TIFF"), 3),
    "tiff grey": (saved(GREY, "TIFF"), 1),
    "tiff big-endian": (saved(GREY, "TIFF", big_endian=True), 1),
    "tiff 1 bit": (saved(Image.fromarray(GREY > 99), "TIFF", compression="tiff_lzw"), 1),
    "jpeg 2000": (saved(PHOTO, "JPEG2000"), 3),
    "jpeg 2000 grey": (saved(GREY, "JPEG2000"), 1),
    "jpeg 2000 lossy": (saved(PHOTO, "JPEG2000", irreversible=True, quality_layers=[20]), 3),
    "ppm": (saved(PHOTO, "PPM"), 3),
    "pgm": (saved(GREY, "PPM"), 1),
    "pbm": (saved(Image.fromarray(GREY > 99), "PPM"), 1),
    "ppm in text": (b"P3\n2 1\n255\n1 2 3\n40 50 60", 3),
    "pgm with remarks": (b"P5 # \xe9 1 2\n#3\n2\n# 4\n1 255\n\x23\x0a", 1),
}
AVIF = saved(PHOTO, "AVIF", quality=100, subsampling="4:4:4")
EXTRA["avif"] = AVIF, 3
NOT_IN_GRAPHS = {
    "TIFF": EXTRA["tiff"][0],
    "JPEG 2000": EXTRA["jpeg 2000"][0],
    "PNM": EXTRA["ppm"][0],
    "text": b"hello",
    "nothing": b"",
}


def over(colour, image, alpha):
    alpha = alpha[..., None] / 255.0
    return np.floor(image * alpha + np.array(colour) * (1 - alpha) + 0.5)


def little_endian_exif(orientation):
    """The orientation behind another entry; a thumbnail's directory has 8, which does not count."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    other = struct.pack("<HHII", 0x0128, 3, 1, 2)
    own = other + entry if orientation else other
    count = len(own) // 12
    thumbnail = struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0112, 3, 1, 8, 0) + bytes(4)
    start = 8 + 2 + len(own) + 4
    return (
        b"Exif\0\0II*\0\x08\0\0\0"
        + struct.pack("<H", count)
        + own
        + struct.pack("<I", start)
        + thumbnail
    )


def big_endian_exif(orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    return exif.tobytes()


def bmp_with_alpha():
    header = struct.pack("<IiiHHIIiiII", 108, 61, -47, 1, 32, 3, RGBA.size, 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(108 - 56)
    start = struct.pack("<HIII", 0x4D42, 122 + RGBA.size, 0, 122)
    return start + header + RGBA[..., [2, 1, 0, 3]].tobytes()


def jpegs_without_orientation():
    """PHOTO with Exif that says nothing of how it lies, or nonsense."""
    for exif in (little_endian_exif(0), little_endian_exif(9), b"Exif\0\0", b"Exif\0\0MM\0*"):
        yield saved(PHOTO, "JPEG", exif=exif)


def jpegs_of_damaged_exif():
    """PHOTO with each byte of its Exif changed in turn, to three values."""
    exif = big_endian_exif(1)
    whole = saved(PHOTO, "JPEG", exif=exif)
    for place in range(6, len(exif)):
        for new in (b"\xff", b"\x7f", b"\0"):
            yield whole.replace(exif, exif[:place] + new + exif[place + 1 :])
