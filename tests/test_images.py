"""Reading by Pillow: every format, damage, transparency, orientation, depth and colour profiles."""

import concurrent.futures
import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import (
    ALPHA,
    AVIF,
    COLOUR,
    DEEP,
    EXTRA,
    GREY,
    GROUND,
    PALETTE,
    PHOTO,
    PLAIN,
    RGBA,
    bmp_with_alpha,
    by_pillow,
    jpegs_of_damaged_exif,
    jpegs_without_orientation,
    over,
    png,
    saved,
)
from PIL import Image, ImageCms, ImageOps

from cnn_compression import images

ALL = PLAIN | EXTRA


def decoded(contents, **options):
    return images.read_contents(contents, **options)[0]


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


def test_a_preview_is_no_photograph(reason):
    payload = (Path(__file__).parent / "golden" / "colour.cnn.jpg").read_bytes()
    exif = b"\xff\xe1\x00\x0aExif\0\0MM"
    for contents in (payload, payload[:2] + exif + payload[2:]):
        assert reason(contents) == "is a payload already: encode the image it was made from"


@pytest.mark.parametrize("name", ALL)
def test_pixels_are_those_of_pillow(name):
    contents, channels = ALL[name]
    image, notes = images.read_contents(contents)
    np.testing.assert_array_equal(image, by_pillow(contents, channels))
    assert image.dtype == np.uint8 and notes == []


def test_lossless_webp_is_lossless():
    np.testing.assert_array_equal(decoded(EXTRA["webp lossless"][0]), PHOTO)


def test_pngs_own_writer_is_right():
    for options in ({}, {"interlaced": True}):
        np.testing.assert_array_equal(by_pillow(png(PHOTO, **options), 3), PHOTO)


# Samples of more than 8 bits.


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_is_rounded_and_said(channels, interlaced):
    samples = DEEP[..., :channels]
    image, notes = images.read_contents(png(samples, 16, interlaced))
    np.testing.assert_array_equal(image, np.round(samples / 257))
    assert notes == ["16-bit samples reduced to 8"]
    assert images.read_contents(png(samples % 256))[1] == []


def tiff_of(samples, order="<", orientation=1):
    """An uncompressed TIFF of 16-bit samples [H, W, 3], which Pillow cannot write."""
    height, width, channels = samples.shape
    data = samples.astype(order + "u2").tobytes()
    entries = [(256, width), (257, height), (258, 16), (259, 1), (262, 2 if channels > 1 else 1)]
    start = 8 + 2 + 12 * 10 + 4
    entries += [(273, start + 6), (274, orientation), (277, channels), (278, height)]
    entries += [(279, len(data))]
    directory = b""
    for tag, value in entries:
        if tag == 258 and channels == 3:
            directory += struct.pack(order + "HHII", tag, 3, 3, start)
        else:
            directory += struct.pack(order + "HHII", tag, 4, 1, value)
    head = struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", len(entries))
    mark = b"II" if order == "<" else b"MM"
    return mark + head + directory + bytes(4) + struct.pack(order + "3H", 16, 16, 16) + data


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_tiff_is_rounded_and_said(order, channels):
    samples = DEEP[..., :channels]
    image, notes = images.read_contents(tiff_of(samples, order))
    np.testing.assert_array_equal(image, np.round(samples / 257))
    assert notes == ["16-bit samples reduced to 8"]
    turned, _ = images.read_contents(tiff_of(samples, order, orientation=6))
    np.testing.assert_array_equal(turned, np.rot90(image, -1))


def test_pnm_of_any_maximum():
    grey = DEEP[..., :1]
    rounded, said = np.round(grey / 257), ["16-bit samples reduced to 8"]
    colour = np.round(DEEP[..., :3] / 257)
    files = [
        (b"P5 11 9 65535\n" + grey.astype(">u2").tobytes(), rounded, said),
        (b"P2 11 9 65535\n" + " ".join(map(str, grey.ravel())).encode(), rounded, said),
        (
            b"P5 2 1 1023\n" + struct.pack(">2H", 512, 1023),
            np.array([[[128], [255]]]),
            ["10-bit samples reduced to 8"],
        ),
        (b"P6 11 # wide\n9 65535\n" + DEEP[..., :3].astype(">u2").tobytes(), colour, said),
        (b"P5 2 2 15\n\0\5\12\17", np.array([[[0], [85]], [[170], [255]]]), []),
        (b"P1\n4 2\n0 1 0 1 1 0 1 0", np.array([[1, 0, 1, 0], [0, 1, 0, 1]])[..., None] * 255, []),
    ]
    for contents, expected, notes in files:
        image, remarks = images.read_contents(contents)
        np.testing.assert_array_equal(image, expected)
        assert remarks == notes


# Orientation.


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_come_out_upright(form, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    contents = saved(PHOTO, form, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))))
    assert expected.shape == (PHOTO.shape if orientation < 5 else (61, 47, 3))
    np.testing.assert_array_equal(decoded(contents), expected)


@pytest.mark.parametrize("kind, value", [(3, 6), (4, 6)])
def test_orientation_is_short_or_long_and_the_first_counts(kind, value):
    def exif(value):
        entry = struct.pack("<HHII", 0x0112, kind, 1, value)
        return b"Exif\0\0II*\0\x08\0\0\0\1\0" + entry + bytes(4)

    contents = saved(PHOTO, "JPEG", exif=exif(value))
    upright = np.rot90(by_pillow(contents, 3), -1)
    np.testing.assert_array_equal(decoded(contents), upright)
    second = b"\xff\xe1" + struct.pack(">H", 2 + len(exif(1))) + exif(1)
    at = contents.index(b"\xff\xdb")
    np.testing.assert_array_equal(decoded(contents[:at] + second + contents[at:]), upright)


def test_without_an_orientation_nothing_turns():
    for contents in jpegs_without_orientation():
        np.testing.assert_array_equal(decoded(contents), by_pillow(contents, 3))


def test_damaged_exif_does_no_harm():
    expected = sorted([PHOTO.shape, (61, 47, 3)])
    for damaged in jpegs_of_damaged_exif():
        assert decoded(damaged).shape in expected


# Colour profiles.


def wide_profile(gamma=2.2):
    """An ICC profile with the primaries of Display P3."""

    def fixed(*numbers):
        return b"".join(struct.pack(">i", round(n * 65536)) for n in numbers)

    def xyz(*numbers):
        return b"XYZ \0\0\0\0" + fixed(*numbers)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    name = b"wide\0"
    text = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(8 + 67 + 3 + 4)
    tags = {
        b"desc": text,
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.51512, 0.2412, -0.00105),
        b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": xyz(0.1571, 0.06657, 0.78407),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += struct.pack(">4sII", tag, start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI4s4s4s12x4s", 128 + len(body), bytes(4), 0x2400000, b"mntr", b"RGB ",
                       b"XYZ ", b"acsp") + bytes(28) + fixed(0.9642, 1, 0.8249)  # fmt: skip
    return head.ljust(128, b"\0") + body


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_colours_become_srgb_and_that_is_said(form):
    contents = saved(PHOTO, form, icc_profile=wide_profile())
    source = ImageCms.ImageCmsProfile(io.BytesIO(wide_profile()))
    opened = Image.open(io.BytesIO(contents)).convert("RGB")
    expected = ImageCms.profileToProfile(opened, source, ImageCms.createProfile("sRGB"))
    image, notes = images.read_contents(contents)
    np.testing.assert_array_equal(image, expected)
    assert notes == ["colours converted from 'wide' to sRGB"]
    as_is, notes = images.read_contents(contents, colour="as_is")
    np.testing.assert_array_equal(as_is, opened)
    assert notes == [] and np.abs(image.astype(int) - as_is).max() > 20


def test_transparency_stays_where_colours_change():
    contents = saved(RGBA, "PNG", icc_profile=wide_profile())
    colours = decoded(saved(PHOTO, "PNG", icc_profile=wide_profile()))
    image, _ = images.read_contents(contents, flatten=COLOUR)
    np.testing.assert_array_equal(image, over(COLOUR, colours, ALPHA))


def test_a_profile_of_srgb_changes_nothing_and_one_that_cannot_be_used_is_said():
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image, notes = images.read_contents(saved(PHOTO, "PNG", icc_profile=own))
    np.testing.assert_array_equal(image, PHOTO)
    assert notes == []
    for profile, picture in ((b"none", PHOTO), (wide_profile(), GREY)):
        image, notes = images.read_contents(saved(picture, "PNG", icc_profile=profile))
        np.testing.assert_array_equal(image.squeeze(), picture)
        assert notes == ["its colour profile cannot be used: colours are taken for sRGB"]


def test_colour_must_be_known():
    with pytest.raises(ValueError, match="colour must be one of srgb, as_is. Received: 'p3'"):
        decoded(PLAIN["png"][0], colour="p3")


# Transparency.


def test_transparency_is_refused_or_flattened(reason):
    contents = saved(RGBA, "PNG")
    assert reason(contents) == "has transparent pixels: pass --flatten=COLOUR"
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


def test_a_gif_whose_first_frame_is_small_is_as_pillow_shows_it():
    contents = bytearray(saved(PALETTE, "GIF"))
    contents[6:8] = struct.pack("<H", 80)
    np.testing.assert_array_equal(decoded(bytes(contents)), by_pillow(bytes(contents), 3))


def test_bmp_with_alpha(reason):
    assert "transparent" in reason(bmp_with_alpha())
    image = decoded(bmp_with_alpha(), flatten=COLOUR)
    np.testing.assert_array_equal(image, over(COLOUR, PHOTO, ALPHA))


@pytest.mark.parametrize("form", ["WEBP", "TIFF", "JPEG2000", "AVIF"])
def test_transparency_of_the_other_formats(reason, form):
    contents = saved(RGBA, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    assert "transparent" in reason(contents)
    shown = np.asarray(Image.open(io.BytesIO(contents)))
    expected = over(COLOUR, shown[..., :3], shown[..., 3])
    np.testing.assert_array_equal(decoded(contents, flatten=COLOUR), expected)


def test_a_grey_tiff_with_alpha(reason):
    contents = saved(Image.merge("LA", [Image.new("L", (4, 4), 100), Image.new("L", (4, 4), 128)]),
                     "TIFF")  # fmt: skip
    assert "transparent" in reason(contents)
    for colour, level in (((255,) * 3, 177), ((0,) * 3, 50)):
        image = decoded(contents, flatten=colour)
        assert image.shape == (4, 4, 1) and (image == level).all()


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


@pytest.mark.parametrize("flatten", [(1, 2), (1, 2, 256), (-1, 0, 0), (0.5, 0, 0), "red"])
def test_flatten_must_be_a_colour(flatten):
    with pytest.raises(ValueError, match="3 integers from 0 to 255. Received: "):
        decoded(saved(PHOTO, "PNG"), flatten=flatten)


# Legal files of unusual kinds.


def test_fill_bytes_of_a_jpeg_mean_nothing():
    contents = PLAIN["jpeg"][0]
    for marker in (b"\xff\xdb", b"\xff\xc4", b"\xff\xda"):
        filled = contents.replace(marker, b"\xff\xff\xff" + marker, 1)
        np.testing.assert_array_equal(decoded(filled), by_pillow(contents, 3))


def bmp(bits, rows, colours=b"", head=40, extra=b"", compression=0):
    """A BMP of 7 x 2 pixels with these rows' bytes."""
    start = 14 + head + len(colours)
    file = struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start)
    if head == 12:  # OS/2
        file += struct.pack("<IHHHH", 12, 7, 2, 1, bits)
    else:
        file += struct.pack("<IiiHHIIiiII", 40, 7, 2, 1, bits, compression, 0, 0, 0, 0, 0)
    return file + colours + rows + extra


def test_bmp_of_few_bits_of_16_of_os2_and_with_bytes_behind():
    colours = b"\x10\x20\x30\0\xa0\xb0\xc0\0"
    bits = decoded(bmp(1, b"\xaa\0\0\0" * 2, colours + bytes(0)))
    assert bits.shape == (2, 7, 3) and bits[0, :2].tolist() == [[160 + 32, 176, 160], [48, 32, 16]]
    four = decoded(bmp(4, b"\x01\x01\x01\x00" * 2, colours + bytes(56)))
    np.testing.assert_array_equal(four[0, :2], [[48, 32, 16], [192, 176, 160]])
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    sixteen = decoded(bmp(16, b"\xff\xff" * 7 + bytes(2) + bytes(16), masks, compression=3))
    assert (sixteen[1] == 255).all() and (sixteen[0] == 0).all()
    row = bytes(range(21)) + bytes(3)
    plain = decoded(bmp(24, row * 2))
    np.testing.assert_array_equal(decoded(bmp(24, row * 2, head=12)), plain)
    np.testing.assert_array_equal(decoded(bmp(24, row * 2, extra=b"\0\0")), plain)


def test_jpeg_2000_in_tiles():
    contents = saved(PHOTO, "JPEG2000", tile_size=(16, 16))
    np.testing.assert_array_equal(decoded(contents), PHOTO)


def _tiff_of_12_bits(values):
    """A grey TIFF of one row: two samples in three bytes."""
    rows = b"".join(
        (a << 12 | b).to_bytes(3, "big") for a, b in zip(*[iter(values)] * 2, strict=True)
    )
    tags = [(256, len(values)), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, 1), (279, len(rows))]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(rows)) + rows
    return head + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_of_12_bits_is_scaled():
    values = [0, 4095, 2048, 1024, 100, 3000]
    image, notes = images.read_contents(_tiff_of_12_bits(values))
    assert np.abs(image[0, :, 0] - np.array(values) * 255 / 4095).max() <= 1
    assert notes == ["12-bit samples reduced to 8"]


def test_deep_samples_of_heic_and_jpeg_2000_are_said():
    deep = np.uint16(PHOTO[..., 0]) << 8 | 77
    for contents in (saved(Image.fromarray(deep), "JPEG2000"), _deep_heic()):
        _, notes = images.read_contents(contents)
        assert len(notes) == 1 and re.fullmatch("1[06]-bit samples reduced to 8", notes[0])


def _deep_heic():
    """Of 10 bits."""
    pillow_heif = pytest.importorskip("pillow_heif")
    deep = np.ascontiguousarray(np.uint16(PHOTO) << 8).tobytes()
    file = pillow_heif.from_bytes("RGB;16", PHOTO.shape[1::-1], deep)
    target = io.BytesIO()
    file.save(target, quality=90)
    return target.getvalue()


def test_bigtiff_and_samples_of_no_meaning_and_cmyk_open():
    image = Image.fromarray(PHOTO)
    np.testing.assert_array_equal(decoded(saved(image, "TIFF", big_tiff=True)), PHOTO)
    rgbx = saved(RGBA, "TIFF").replace(
        struct.pack("<HHII", 338, 3, 1, 2), struct.pack("<HHII", 338, 3, 1, 0)
    )
    np.testing.assert_array_equal(decoded(rgbx), PHOTO)
    cmyk = saved(image.convert("CMYK"), "JPEG")
    at = cmyk.index(b"\xff\xee")
    without_adobe = cmyk[:at] + cmyk[at + 2 + int.from_bytes(cmyk[at + 2 : at + 4], "big") :]
    np.testing.assert_array_equal(decoded(without_adobe), by_pillow(without_adobe, 3))
    assert np.abs(decoded(without_adobe).astype(int) - PHOTO).mean() < 8


def test_what_has_many_parts_opens_and_of_several_pictures_the_first_is_taken():
    png_file, gif = PLAIN["png"][0], PLAIN["gif"][0]
    text = b"tEXta\0b"
    chunk = struct.pack(">I", 3) + text + struct.pack(">I", zlib.crc32(text))
    np.testing.assert_array_equal(decoded(png_file[:33] + 5000 * chunk + png_file[33:]), PHOTO)
    at = 13 + 3 * 2 ** (gif[10] % 8 + 1)  # behind the table of colours
    commented = gif[:at] + b"!\xfe\0" + gif[at:]
    np.testing.assert_array_equal(decoded(commented), by_pillow(gif, 3))
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        more = [Image.fromarray(PHOTO[::-1].copy())]
        contents = saved(PHOTO, form, save_all=True, append_images=more)
        image, notes = images.read_contents(contents)
        assert notes == ["the first of several pictures is taken"]
        np.testing.assert_array_equal(image, by_pillow(contents, 3))


def test_formats_by_their_brands(reason):
    shown = by_pillow(AVIF, 3)
    np.testing.assert_array_equal(decoded(AVIF.replace(b"ftypavif", b"ftypmif1", 1)), shown)
    heif = pytest.importorskip("pillow_heif")
    contents = saved_heic(heif)
    assert np.abs(decoded(contents).astype(int) - PHOTO).mean() < 4


def saved_heic(pillow_heif):
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(PHOTO)).save(file, quality=90)
    return file.getvalue()


def test_without_its_extra_heic_is_named(monkeypatch, reason):
    from cnn_compression.images import reading

    contents = saved_heic(pytest.importorskip("pillow_heif"))
    magic, _ = reading._FORMS["HEIC"]
    monkeypatch.setitem(reading._FORMS, "HEIC", (magic, "no_such_module:HeifImageFile"))
    said = "HEIC needs pillow-heif: pip install 'cnn-compression[heif]', or convert the file"
    assert reason(contents) == said


# What cannot be read.


def test_no_image(reason, tmp_path):
    assert reason(b"") == "empty file"
    assert reason(b"hello, world") == "not an image of a known format: starts with b'hello'"
    assert reason(b"B") == "not an image of a known format: starts with b'B'"
    for path, error in ((tmp_path / "missing.png", FileNotFoundError), (tmp_path, OSError)):
        with pytest.raises(error) as caught:
            images.read(path)
        assert str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_a_file_cut_anywhere_is_refused(reason, name, capfd):
    if name in ("gif", "pgm with remarks"):
        pytest.skip("what ends a GIF says nothing; the other is two pixels and their header")
    contents = ALL[name][0].removesuffix(b"more")
    if name.startswith(("bmp", "tiff 1")):  # their last bytes fill up a row, or say: no other page
        contents = contents[:-4]
    cuts = {*range(3, 60), *range(60, len(contents), 171), *range(len(contents) - 9, len(contents))}
    if name in ("jpeg with more behind", "ppm in text"):
        cuts = {*range(3, 24, 7)}
    for cut in (cut for cut in cuts if cut < len(contents)):
        assert reason(contents[:cut]).startswith(("truncated", "not an image")), cut
    if not name.startswith("tiff"):
        assert capfd.readouterr().err == ""


def test_coded_data_that_ends_early_is_damage(reason, capfd):
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 2}):
        whole = saved(PHOTO, "JPEG", **options)
        for part in (0.5, 0.8, 0.95):
            torn = whole[: int(len(whole) * part)] + b"\xff\xd9"
            assert reason(torn) == "truncated or damaged JPEG"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_a_fax_is_refused(reason, compression):
    """libtiff fills what it cannot read of one, and nothing in the file shows it."""
    contents = saved(Image.fromarray(PHOTO).convert("1"), "TIFF", compression=compression)
    assert reason(contents) == "TIFF coded as fax is not supported: convert the file"


def test_a_broken_jpeg_in_a_tiff_is_damage(reason):
    whole = EXTRA["tiff jpeg"][0]
    at = Image.open(io.BytesIO(whole)).tag_v2[273][0]
    torn = whole[: at + 300] + b"\xff\xd9" + bytes(200) + whole[at + 502 :]
    assert reason(torn) == "truncated or damaged TIFF's JPEG"


def test_a_jpeg_of_12_bits_is_named(reason):
    contents = PLAIN["jpeg"][0].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c")
    assert reason(contents) == "JPEG of 12 bits a sample is not supported"


def test_tiffs_that_libtiff_would_fill_with_garbage_are_refused(reason):
    whole = EXTRA["tiff strips"][0]
    big = saved(np.tile(PHOTO, (4, 4, 1)), "TIFF")
    assert whole != big
    for contents in (big[: len(big) // 2], big[:-1], EXTRA["tiff big-endian"][0][:-9]):
        assert reason(contents).startswith("truncated")


def test_no_changed_byte_of_a_png_goes_unnoticed(reason):
    contents = saved(PHOTO[:9, :9], "PNG")
    for place in range(8, len(contents), 5):
        changed = contents[:place] + bytes([contents[place] ^ 0x55]) + contents[place + 1 :]
        assert reason(changed) == "truncated, damaged or unsupported PNG"


@pytest.mark.parametrize(
    "contents, expected",
    [
        (saved(GREY.astype(np.float32), "TIFF"), "TIFF of 32 bits a sample is not supported"),
        (saved(GREY.astype(np.int32), "TIFF"), "TIFF of 32 bits a sample is not supported"),
        (b"\xff\x0a" + bytes(40), "JPEG XL is not supported: convert the file"),
        (b"P6 9999 9999 255\nabc", "truncated, damaged or unsupported PNM"),
        (b"P2 2 1 255\n1 \xff", "truncated, damaged or unsupported PNM"),
    ],
)
def test_what_is_not_supported_is_said(reason, contents, expected):
    assert reason(contents) == expected


def test_reading_needs_no_tensorflow_and_leaves_the_process_as_it_is():
    program = """
import sys, io, warnings
from PIL import Image
before = Image.MAX_IMAGE_PIXELS, set(Image.OPEN)
from cnn_compression import images
file = io.BytesIO()
Image.new("RGB", (8, 6)).save(file, "PNG")
Image.MAX_IMAGE_PIXELS = 4
assert images.read_contents(file.getvalue())[0].shape == (6, 8, 3)
assert "tensorflow" not in sys.modules and "HEIF" not in Image.OPEN
assert Image.MAX_IMAGE_PIXELS == 4
"""
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_files_are_read_from_many_threads(tmp_path):
    names = ["png", "jpeg", "gif", "bmp", "tiff lzw"] * 8
    for name in set(names):
        (tmp_path / name).write_bytes(ALL[name][0])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda name: images.read(tmp_path / name)[0], names))
    for name, image in zip(names, results, strict=True):
        np.testing.assert_array_equal(image, by_pillow(*ALL[name]))


def test_contents_give_what_the_file_gives(tmp_path):
    contents = saved(PHOTO, "PNG")
    (tmp_path / "a.png").write_bytes(contents)
    image, notes = images.read_contents(contents)
    np.testing.assert_array_equal(image, images.read(tmp_path / "a.png")[0])
    assert notes == []
    with pytest.raises(images.ImageError, match="empty file"):
        images.read_contents(b"")
