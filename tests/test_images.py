"""Every format against Pillow, damage, transparency, orientation, and graph mode."""

import concurrent.futures
import functools
import importlib.util
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image, ImageOps

from cnn_compression import images
from cnn_compression.images import formats

HAS_IO = importlib.util.find_spec("tensorflow_io") is not None
HAS_WEBP = HAS_IO or hasattr(tf.io, "decode_webp")
needs_io = pytest.mark.skipif(not HAS_IO, reason="tensorflow-io is not installed")
needs_webp = pytest.mark.skipif(not HAS_WEBP, reason="neither TensorFlow nor tensorflow-io has it")

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


def decoded(contents, **options):
    return images.decode(contents, **options).numpy()


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def decode_checked(contents):
    return images.decode_checked(contents, 10**6)


def decoded_checked(contents):
    image, status = decode_checked(contents)
    assert status == b""
    return image.numpy()


@pytest.fixture
def reason(tmp_path):
    """Function: the one line that `read` refuses these bytes with."""

    def refuse(contents):
        path = tmp_path / "file.bin"
        path.write_bytes(contents)
        with pytest.raises(images.ImageError) as caught:
            images.read(path)
        assert "\n" not in str(caught.value) and "file.bin" not in str(caught.value)
        return str(caught.value)

    return refuse


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
    "tiff 1 bit": (saved(Image.fromarray(GREY > 99), "TIFF", compression="group4"), 1),
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
ONE_OF_EACH = {
    "WebP": EXTRA["webp"][0],
    "AVIF": AVIF,
    "TIFF": EXTRA["tiff"][0],
    "JPEG 2000": EXTRA["jpeg 2000"][0],
    "PNM": EXTRA["ppm"][0],
}


def extra(names):
    return [
        pytest.param(name, marks=needs_webp if name.lower().startswith("webp") else needs_io)
        for name in names
    ]


@pytest.mark.parametrize("name", [*PLAIN, *extra(EXTRA)])
def test_pixels_are_those_of_pillow(name):
    contents, channels = (PLAIN | EXTRA)[name]
    np.testing.assert_array_equal(decoded(contents), by_pillow(contents, channels))


@needs_io
def test_avif_is_close_to_pillow_whose_decoder_is_another():
    difference = np.abs(decoded(AVIF).astype(int) - by_pillow(AVIF, 3))
    assert difference.mean() < 1.5 and difference.max() <= 4


@needs_webp
def test_lossless_webp_is_lossless():
    np.testing.assert_array_equal(decoded(EXTRA["webp lossless"][0]), PHOTO)


def test_pngs_own_writer_is_right():
    for options in ({}, {"interlaced": True}):
        np.testing.assert_array_equal(by_pillow(png(PHOTO, **options), 3), PHOTO)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_is_rounded_and_said(tmp_path, channels):
    samples = DEEP[..., :channels]
    path = tmp_path / "deep.png"
    path.write_bytes(png(samples, 16))
    image, notes = images.read(path)
    np.testing.assert_array_equal(image, np.round(samples / 257).astype(np.uint8))
    assert notes == ["16-bit samples reduced to 8"]
    path.write_bytes(png(samples % 256))
    assert images.read(path)[1] == []


@needs_io
def test_16_bit_pnm_and_tiff_are_reduced_and_said(tmp_path):
    grey = DEEP[..., :1]
    rounded, cut = np.round(grey / 257), grey >> 8
    files = [
        (b"P5 11 9 65535\n" + grey.astype(">u2").tobytes(), rounded),
        (b"P2 11 9 65535\n" + " ".join(map(str, grey.ravel())).encode(), rounded),
        (saved(grey[..., 0], "TIFF"), cut),
    ]
    for contents, expected in files:
        path = tmp_path / "deep"
        path.write_bytes(contents)
        image, notes = images.read(path)
        np.testing.assert_array_equal(image, expected)
        assert notes == ["16-bit samples reduced to 8"]


# Orientation.


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


@pytest.mark.parametrize("decoded", [decoded, decoded_checked])
@pytest.mark.parametrize("exif", [little_endian_exif, big_endian_exif])
def test_photographs_come_out_upright(exif, decoded):
    assert big_endian_exif(1)[6:8] == b"MM"
    for orientation in range(1, 9):
        contents = saved(PHOTO, "JPEG", exif=exif(orientation), icc_profile=b"x" * 70_000)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))))
        np.testing.assert_array_equal(decoded(contents), expected)


@pytest.mark.parametrize("decoded", [decoded, decoded_checked])
def test_without_an_orientation_nothing_turns(decoded):
    for exif in (little_endian_exif(0), little_endian_exif(9), b"Exif\0\0", b"Exif\0\0MM\0*"):
        contents = saved(PHOTO, "JPEG", exif=exif)
        np.testing.assert_array_equal(decoded(contents), by_pillow(contents, 3))


@pytest.mark.parametrize("decoded", [decoded, decoded_checked])
def test_damaged_exif_does_no_harm(decoded):
    exif = big_endian_exif(1)
    whole = saved(PHOTO, "JPEG", exif=exif)
    expected = sorted([PHOTO.shape, (61, 47, 3)])
    for place in range(6, len(exif)):
        for new in (b"\xff", b"\x7f", b"\0"):
            damaged = whole.replace(exif, exif[:place] + new + exif[place + 1 :])
            assert decoded(damaged).shape in expected


@needs_io
def test_the_reader_without_tensorflow_io_agrees_with_the_one_of_tensorflow_io():
    import tensorflow_io

    for orientation in range(10):
        for exif in (little_endian_exif(orientation), big_endian_exif(orientation)):
            contents = saved(PHOTO, "JPEG", exif=exif)
            theirs = int(tensorflow_io.experimental.image.decode_jpeg_exif(contents))
            ours = int(formats._orientation(exif[6:], None))
            assert ours == (theirs if 1 <= theirs <= 8 else 1)


@needs_io
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_comes_out_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    contents = saved(PHOTO, "TIFF", exif=exif)
    np.testing.assert_array_equal(decoded(contents), by_pillow(contents, 3))


# Transparency.


def over(colour, image, alpha):
    alpha = alpha[..., None] / 255.0
    return np.floor(image * alpha + np.array(colour) * (1 - alpha) + 0.5)


def test_transparency_is_refused_or_flattened(reason):
    contents = saved(RGBA, "PNG")
    assert reason(contents) == "has transparent pixels: pass --flatten=COLOUR"
    with pytest.raises(tf.errors.InvalidArgumentError, match="transparent"):
        decoded(contents)
    np.testing.assert_array_equal(decoded(contents, flatten=COLOUR), over(COLOUR, PHOTO, ALPHA))
    one_pixel = np.dstack([PHOTO, np.full_like(ALPHA, 255)])
    one_pixel[-1, -1, 3] = 254
    assert "transparent" in reason(saved(one_pixel, "PNG"))


def test_alpha_that_hides_nothing_is_dropped():
    full = np.full_like(ALPHA, 255)
    for flatten in (None, COLOUR):
        rgb = decoded(saved(np.dstack([PHOTO, full]), "PNG"), flatten=flatten)
        np.testing.assert_array_equal(rgb, PHOTO)
        grey = decoded(png(np.dstack([GREY, full])), flatten=flatten)
        np.testing.assert_array_equal(grey, GREY[..., None])


def test_grey_stays_grey_on_a_grey_ground():
    contents = png(np.dstack([GREY, ALPHA]))
    grey = decoded(contents, flatten=GROUND)
    np.testing.assert_array_equal(grey, over([7], GREY[..., None], ALPHA))
    coloured = decoded(contents, flatten=COLOUR)
    np.testing.assert_array_equal(coloured, over(COLOUR, GREY[..., None], ALPHA))


def test_16_bit_alpha():
    contents = png(DEEP, 16)
    eight = np.round(DEEP / 257)
    expected = over(COLOUR, eight[..., :3], eight[..., 3])
    np.testing.assert_array_equal(decoded(contents, flatten=COLOUR), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_colour_key_is_transparency(reason, channels, bits):
    samples = DEEP[..., :channels] >> (16 - bits)
    key = samples[4, 5]
    hidden = (samples == key).all(-1)
    contents = png(samples, bits, colour_key=key)
    assert "transparent" in reason(contents)
    image = decoded(contents, flatten=GROUND)
    expected = np.where(hidden[..., None], 7, np.round(samples / (257 if bits == 16 else 1)))
    np.testing.assert_array_equal(image, expected)
    unused = png(np.zeros_like(samples), bits, colour_key=[1] * channels)
    assert not decoded(unused).any()


def test_a_colour_key_of_a_few_bits(reason):
    image = Image.fromarray(GREY > 99)
    contents = saved(image, "PNG", transparency=1)
    assert "transparent" in reason(contents)
    flat = decoded(contents, flatten=GROUND)
    np.testing.assert_array_equal(flat[..., 0], np.where(GREY > 99, 7, 0))


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_palette_colour(reason, form):
    palette = PALETTE.copy()
    colours = palette.getpalette()
    colours[15:18] = colours[21:24] = [0, 0, 0]  # black is what TensorFlow gives for transparent
    palette.putpalette(colours)
    indices = np.asarray(palette)
    assert (indices == 5).any() and (indices == 7).any()
    contents = saved(palette, form, transparency=5, optimize=False)
    assert "transparent" in reason(contents)
    plain = np.asarray(palette.convert("RGB"))
    expected = np.where((indices == 5)[..., None], COLOUR, plain)
    np.testing.assert_array_equal(decoded(contents, flatten=COLOUR), expected)


def test_a_gif_that_uses_no_transparency_in_its_first_frame_is_fine():
    other = Image.fromarray(PHOTO[::-1]).quantize(16)
    contents = saved(PALETTE, "GIF", transparency=200, save_all=True, append_images=[other])
    assert Image.open(io.BytesIO(contents)).n_frames == 2
    np.testing.assert_array_equal(decoded(contents), np.asarray(PALETTE.convert("RGB")))


def test_a_gif_whose_first_frame_is_small_is_refused(reason):
    contents = bytearray(saved(PALETTE, "GIF"))
    contents[6:8] = struct.pack("<H", 80)
    assert reason(bytes(contents)) == "GIF whose first frame is smaller than the picture"


def bmp_with_alpha():
    header = struct.pack("<IiiHHIIiiII", 108, 61, -47, 1, 32, 3, RGBA.size, 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(108 - 56)
    start = struct.pack("<HIII", 0x4D42, 122 + RGBA.size, 0, 122)
    return start + header + RGBA[..., [2, 1, 0, 3]].tobytes()


def test_bmp_with_alpha(reason):
    assert "transparent" in reason(bmp_with_alpha())
    image = decoded(bmp_with_alpha(), flatten=COLOUR)
    np.testing.assert_array_equal(image, over(COLOUR, PHOTO, ALPHA))


@pytest.mark.parametrize("form", extra(["WEBP", "TIFF", "JPEG2000"]))
def test_transparency_of_the_other_formats(reason, form):
    contents = saved(RGBA, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    assert "transparent" in reason(contents)
    difference = decoded(contents, flatten=COLOUR) - over(COLOUR, PHOTO, ALPHA)
    assert np.abs(difference).max() <= (1 if form == "TIFF" else 0)  # libtiff's own rounding


# Pictures of more than one of the tiles that arithmetic is done in.

LARGE = np.random.default_rng(1).integers(0, 65536, (523, 1031, 4), np.uint16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_large_png_of_16_bits(channels):
    samples = LARGE[..., :channels]
    eight = np.round(samples / 257)
    image = decoded(png(samples, 16), flatten=COLOUR)
    if channels in (1, 3):
        np.testing.assert_array_equal(image, eight)
        key = samples[520, 1000]
        hidden = (samples == key).all(-1)
        image = decoded(png(samples, 16, colour_key=key), flatten=COLOUR)
        np.testing.assert_array_equal(image, np.where(hidden[..., None], COLOUR, eight))
    else:
        np.testing.assert_array_equal(image, over(COLOUR, eight[..., :-1], eight[..., -1]))


def test_a_large_bmp_with_a_palette():
    image = Image.fromarray((LARGE[..., 0] >> 8).astype(np.uint8))
    image.putpalette(np.random.default_rng(2).integers(0, 256, 768).tolist())
    np.testing.assert_array_equal(decoded(saved(image, "BMP")), np.asarray(image.convert("RGB")))


@needs_io
def test_a_large_tiff_and_pnm():
    rgba = (LARGE >> 8).astype(np.uint8)
    rgba[..., 3] |= 128  # libtiff rounds to what it multiplies with alpha, and little is left of it
    difference = decoded(saved(rgba, "TIFF"), flatten=COLOUR) - over(
        COLOUR, rgba[..., :3], rgba[..., 3]
    )
    assert np.abs(difference).max() <= 1
    contents = b"P6 1031 523 65535\n" + LARGE[..., :3].astype(">u2").tobytes()
    np.testing.assert_array_equal(decoded(contents), np.round(LARGE[..., :3] / 257))


@pytest.mark.parametrize("flatten", [(1, 2), (1, 2, 256), (-1, 0, 0), (0.5, 0, 0), "red"])
def test_flatten_must_be_a_colour(flatten):
    with pytest.raises(ValueError, match="3 integers from 0 to 255. Received: "):
        images.decode(saved(PHOTO, "PNG"), flatten=flatten)


# What cannot be read.


def test_no_image(reason, tmp_path):
    assert reason(b"") == "empty file"
    assert reason(b"hello, world") == "not an image of a known format: starts with b'hello'"
    assert reason(b"B") == "not an image of a known format: starts with b'B'"
    with pytest.raises(tf.errors.InvalidArgumentError, match="not an image of a known format"):
        images.decode(b"hello")
    for path, error in ((tmp_path / "missing.png", FileNotFoundError), (tmp_path, OSError)):
        with pytest.raises(error) as caught:
            images.read(path)
        assert str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["png", "png 1 bit", "jpeg", "jpeg progressive 4:4:4", "bmp"])
def test_a_file_cut_anywhere_is_refused(reason, name, capfd):
    contents = PLAIN[name][0]
    cuts = {*range(3, 60), *range(60, len(contents), 71), *range(len(contents) - 20, len(contents))}
    for cut in cuts:
        assert "truncated" in reason(contents[:cut]) or cut < 8
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", extra(ONE_OF_EACH))
def test_a_file_of_the_other_formats_cut_anywhere_is_refused(reason, name):
    contents = ONE_OF_EACH[name]
    for cut in {*range(1, 60), *range(60, len(contents), 97), len(contents) - 1}:
        assert reason(contents[:cut]).startswith(("truncated", "not an image", "JPEG 2000 other"))


@needs_io
def test_tiffs_that_libtiff_would_fill_with_garbage_are_refused(reason):
    whole = EXTRA["tiff strips"][0]
    big = saved(np.tile(PHOTO, (4, 4, 1)), "TIFF")
    assert whole != big
    for contents in (big[: len(big) // 2], big[:-1], EXTRA["tiff big-endian"][0][:-9]):
        assert reason(contents) == "truncated or damaged TIFF"


def test_no_changed_byte_of_a_png_goes_unnoticed(reason):
    contents = saved(PHOTO[:9, :9], "PNG")
    for place in range(8, len(contents), 5):
        changed = contents[:place] + bytes([contents[place] ^ 0x55]) + contents[place + 1 :]
        assert reason(changed) == "truncated or damaged PNG"


def test_noise_of_the_libraries_stays_away(tmp_path, capfd):
    path = tmp_path / "torn.jpg"
    whole = saved(PHOTO, "JPEG")
    path.write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    images.read(path)  # replaced rather than cut: a limit of the decoder, which prints a warning
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "contents, expected",
    [
        (saved(Image.fromarray(GREY > 99), "BMP"), "BMP other than 8, 24 or 32 bits"),
        pytest.param(
            saved(Image.fromarray(PHOTO), "WEBP", save_all=True,
                  append_images=[Image.fromarray(PHOTO[::-1])]),
            "animated WebP is not supported", marks=needs_webp),
        pytest.param(saved(RGBA, "AVIF"), "AVIF with an alpha channel", marks=needs_io),
        pytest.param(saved(PHOTO, "AVIF", exif=big_endian_exif(6)),
                     "AVIF with rotation or mirroring", marks=needs_io),
        pytest.param(saved(PHOTO, "AVIF", exif=big_endian_exif(2)),
                     "AVIF with rotation or mirroring", marks=needs_io),
        pytest.param(saved(GREY.astype(np.uint16) * 257, "JPEG2000"),
                     "JPEG 2000 other than RGB or grey with 8 bits", marks=needs_io),
        pytest.param(saved(Image.fromarray(PHOTO).convert("YCbCr"), "JPEG2000"),
                     "JPEG 2000 other than RGB or grey with 8 bits", marks=needs_io),
        pytest.param(saved(GREY.astype(np.float32), "TIFF"),
                     "truncated, damaged or unsupported TIFF", marks=needs_io),
        pytest.param(b"P5 2 2 100\n\0\1\2\3", "PNM with a maximum other than", marks=needs_io),
        pytest.param(b"P6 9999 9999 255\nabc", "truncated or damaged PNM", marks=needs_io),
        pytest.param(b"P2 2 1 255\n1 \xff", "truncated or damaged PNM", marks=needs_io),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_said(reason, contents, expected):
    assert reason(contents).startswith(expected)


@needs_io
def test_jpeg_2000_up_to_the_size_that_tensorflow_io_can_read(reason):
    noise = np.random.default_rng(0).integers(0, 256, (330, 1000, 3), np.uint8)
    fits, too_large = saved(noise[:320], "JPEG2000"), saved(noise, "JPEG2000")
    assert 0.99 * 2**20 < len(fits) < 2**20 < len(too_large)
    np.testing.assert_array_equal(decoded(fits), noise[:320])
    assert reason(too_large) == "JPEG 2000 of more than 1 MiB is not supported"


# With and without tensorflow-io.


def test_where_it_is_missing_the_cure_is_said(monkeypatch, reason):
    monkeypatch.setattr(images, "_tensorflow_io", lambda: None)
    for name in ("_decoder", "_sampler"):
        fresh = functools.cache(getattr(images, name).__wrapped__)
        monkeypatch.setattr(images, name, fresh)
    cure = "use Python 3.11-3.12 or" if sys.version_info >= (3, 13) else "tensorflow-io==0.37.1"
    for name, contents in ONE_OF_EACH.items():
        if name == "WebP" and hasattr(tf.io, "decode_webp"):
            np.testing.assert_array_equal(decoded(contents), by_pillow(contents, 3))
            continue
        line = reason(contents)
        assert line.startswith(f"{name} needs tensorflow-io") and cure in line
        assert line.endswith("convert the file")
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} needs tensorflow-io"):
            images.decode(contents)


def test_it_is_imported_late_and_without_a_word():
    program = f"""
import sys
from cnn_compression import images
assert "tensorflow_io" not in sys.modules
images._tensorflow_io()
assert ("tensorflow_io" in sys.modules) == {HAS_IO}
"""
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "tensorflow_io" not in run.stderr


def ops_of(graph_def):
    nodes = [*graph_def.node, *(node for f in graph_def.library.function for node in f.node_def)]
    return {node.op for node in nodes}


def test_a_served_graph_has_only_ops_of_tensorflow():
    for function, stock in ((images.decode, False), (decode_checked, True)):
        graph = tf.function(function).get_concrete_function(tf.TensorSpec([], tf.string)).graph
        ops = ops_of(graph.as_graph_def())
        assert "DecodePng" in ops and "PyFunc" not in ops and "EagerPyFunc" not in ops
        assert any(op.startswith("IO>") for op in ops) == (HAS_IO and not stock)
        assert ("DecodeWebP" in ops) == (not HAS_IO and not stock and HAS_WEBP)
    image, status = decode_checked(ONE_OF_EACH["WebP"])
    assert tf.size(image) == 0 and status == b"not a PNG, JPEG, GIF or BMP file"


# Graph mode and threads.


def test_a_dataset_of_mixed_files(tmp_path):
    names = [*PLAIN, *(EXTRA if HAS_IO else [n for n in EXTRA if "webp" in n and HAS_WEBP])]
    for i, name in enumerate(names):
        (tmp_path / f"{i:03}").write_bytes((PLAIN | EXTRA)[name][0])
    files = tf.data.Dataset.list_files(str(tmp_path / "*"), shuffle=False)
    dataset = files.map(lambda path: images.decode(tf.io.read_file(path)), tf.data.AUTOTUNE)
    assert dataset.element_spec == tf.TensorSpec([None, None, None], tf.uint8)
    for name, image in zip(names, dataset.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(image, by_pillow(*(PLAIN | EXTRA)[name]), err_msg=name)


def test_a_dataset_stops_at_a_bad_file_or_leaves_it_out():
    files = [PLAIN["png"][0], PLAIN["png"][0][:-1], saved(RGBA, "PNG"), PLAIN["jpeg"][0]]
    dataset = tf.data.Dataset.from_tensor_slices(files).map(images.decode)
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(dataset)
    assert len(list(dataset.ignore_errors())) == 2


def test_files_are_read_from_many_threads(tmp_path):
    names = ["png", "jpeg", "gif", "bmp"] * 8
    for name in set(names):
        (tmp_path / name).write_bytes(PLAIN[name][0])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda name: images.read(tmp_path / name)[0], names))
    for name, image in zip(names, results, strict=True):
        np.testing.assert_array_equal(image, by_pillow(*PLAIN[name]))


@pytest.mark.parametrize("image", [PHOTO, GREY[..., None], PHOTO[:1, :1]])
def test_encode_png_is_lossless(image):
    contents = images.encode_png(image)
    np.testing.assert_array_equal(decoded(contents), image)
    np.testing.assert_array_equal(by_pillow(contents.numpy(), image.shape[-1]), image)


def test_contents_give_what_the_file_gives(tmp_path):
    contents = saved(PHOTO, "PNG")
    (tmp_path / "a.png").write_bytes(contents)
    image, notes = images.read_contents(contents)
    np.testing.assert_array_equal(image, images.read(tmp_path / "a.png")[0])
    assert notes == []
    with pytest.raises(images.ImageError, match="empty file"):
        images.read_contents(b"")
