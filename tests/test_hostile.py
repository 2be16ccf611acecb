"""What a stranger may send: bombs, lies and damage. `fuzz.py` is the long form of the last test."""

import importlib.util
import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payload_files import sealed, with_missing_tables
from PIL import Image

from cnn_compression import images
from cnn_compression.codec import Codec
from cnn_compression.images import in_graph
from cnn_compression.jpeg import coding, segments
from cnn_compression.models.com_rec import ComRec
from cnn_compression.payload import layout, layout_ops
from cnn_compression.payload.layout import PayloadError

HAS_IO = importlib.util.find_spec("tensorflow_io") is not None
FUZZ = Path(__file__).with_name("fuzz.py")
SMALL = Image.new("RGB", (16, 16), "red")


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100))
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def saved(image, form, **settings):
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def with_av1_header(avif, bits):
    """An AVIF file of Pillow's with other bits in its AV1 sequence header, and padding behind."""
    header = int(bits.ljust(96, "0"), 2).to_bytes(12, "big")
    at = avif.index(b"\x12\0\x0a")
    units = b"\x0a\x0c" + header + b"\x78"
    return avif[:at] + units + avif[at + len(units) :]


def with_tiff_sides(tiff, kind, side):
    """A little-endian TIFF file with entries of another kind for its width and height."""
    entry = struct.pack("<HII", kind, 1, side)
    sides = re.compile(rb"([\x00\x01]\x01)[\x03\x04]\x00\x01\x00\x00\x00....", re.DOTALL)
    assert len(sides.findall(tiff)) == 2
    return sides.sub(lambda match: match[1] + entry, tiff)


def box(kind, *contents):
    contents = b"".join(contents)
    return struct.pack(">I", 8 + len(contents)) + kind + contents


def refusal(contents, **options):
    """What `read_contents` says of a file that it refuses."""
    with pytest.raises(images.ImageError) as caught:
        images.read_contents(contents, **options)
    return str(caught.value)


def bombs():
    """Format -> a small file that claims 60,000 x 60,000 pixels, or as many as it can."""
    jpg, bmp, gif = (saved(SMALL, form) for form in ("JPEG", "BMP", "GIF"))
    frame = jpg.index(b"\xff\xc0") + 5
    webp = saved(SMALL, "WEBP", lossless=True)
    j2k = saved(SMALL, "JPEG2000")
    siz = j2k.index(b"\xff\x4f\xff\x51") + 8
    sides = struct.pack(">II", 60_000, 60_000)
    j2k = j2k.replace(b"ihdr" + struct.pack(">II", 16, 16), b"ihdr" + sides)
    return {
        "PNG": png_bomb(60_000, 60_000),
        "JPEG": jpg[:frame] + struct.pack(">HH", 60_000, 60_000) + jpg[frame + 4 :],
        "GIF": gif[:6] + struct.pack("<HH", 60_000, 60_000) + gif[10:],
        "BMP": bmp[:18] + struct.pack("<II", 60_000, 60_000) + bmp[26:],
        "WebP": webp[:21] + struct.pack("<I", 16_382 | 16_382 << 14) + webp[25:],
        "AVIF": with_av1_header(
            saved(SMALL, "AVIF"), "0001100000" + "1111" * 2 + f"{59_999:016b}" * 2
        ),
        "TIFF": with_tiff_sides(saved(SMALL, "TIFF"), 4, 60_000),
        "JPEG 2000": j2k[:siz] + sides + j2k[siz + 8 :],
        "PNM": b"P6 60000 60000 255 " + bytes(40),
    }


@pytest.mark.parametrize("form", bombs())
def test_a_size_is_checked_before_anything_is_decoded(form):
    contents = bombs()[form]
    assert len(contents) < 2000
    said = refusal(contents)
    if form == "AVIF":  # libavif's own limit
        assert said == "truncated, damaged or unsupported AVIF"
    else:
        assert re.match(r"(60000|16383) x \1 pixels: at most 250000000", said)


@pytest.mark.parametrize(
    "form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "JPEG2000", "PPM"]
)
def test_the_limit_is_the_last_size_that_is_taken(form):
    contents = saved(Image.new("RGB", (40, 30), "red"), form)
    assert images.read_contents(contents, max_pixels=1200)[0].shape[:2] == (30, 40)
    with pytest.raises(images.ImageError, match="^40 x 30 pixels: at most 1199 are taken$"):
        images.read_contents(contents, max_pixels=1199)
    known = form in ("PNG", "JPEG", "GIF", "BMP") or (HAS_IO and form in ("WEBP", "AVIF"))
    known |= form == "WEBP" and hasattr(tf.io, "decode_webp")
    reason = "40 x 30 pixels: at most 1199 are t" if known else "file: `images.read` takes more"
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        images.decode(contents, max_pixels=1199)


def test_the_number_of_scans_has_a_limit():
    """An empty scan of a large picture takes ten bytes and as long as any other."""
    jpeg = saved(Image.new("RGB", (64, 48)), "JPEG", progressive=True, subsampling=0)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    own = jpeg.count(b"\xff\xda")
    # The last scan is of a component's last bit: more of them change nothing, but are warned of.
    hundred, more = (jpeg[:-2] + (n - own) * scan + b"\xff\xd9" for n in (100, 101))
    assert "scans" not in segments.strict_reason(hundred)
    assert refusal(more) == "JPEG of 101 scans: at most 100 are taken"
    assert images.decode(hundred).shape == (48, 64, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="damaged or unsupported JPEG"):
        images.decode(more)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-(2**63), -(2**63)), (-1, -1)])
def test_a_picture_has_sides(size):
    assert in_graph._size_status(tf.constant(size, tf.int64), 1000, "damaged") == b"damaged"


def tiled_tiff(tile_height, tile_width, samples=3, data=b""):
    """The TIFF file of a picture of 40 x 30 pixels with one tile."""
    entries = [(256, 40), (257, 30), (258, 8), (259, 1), (262, 2), (277, samples)]
    entries += [(322, tile_width), (323, tile_height), (324, 8 + 2 + 120 + 4), (325, len(data))]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, 10) + directory + bytes(4) + data


def test_libtiff_makes_no_room_for_what_is_not_in_the_picture():
    image, _ = images.read_contents(tiled_tiff(64, 48, data=bytes(range(48)) * 3 * 64))
    assert image.shape == (30, 40, 3) and image[7, :, 0].tolist() == [
        3 * column % 48 for column in range(40)
    ]
    assert refusal(tiled_tiff(60_000, 60_000)).startswith("60000 x 60000 pixels: at most 250000000")
    assert refusal(tiled_tiff(64, 48), max_pixels=1200).startswith("48 x 64 pixels: at most 1200")
    many = tiled_tiff(64, 48, 6, bytes(48 * 64 * 6))
    assert refusal(many).startswith("truncated, damaged or unsupported")
    for contents in (tiled_tiff(60_000, 60_000), many):
        with pytest.raises(tf.errors.InvalidArgumentError):
            images.decode(contents)


def test_a_webp_without_its_names_is_refused():
    """libwebp decodes a frame that follows without a header of its own, of whatever size."""
    webp = saved(Image.new("RGB", (90, 70)), "WEBP", lossless=True)
    headless = webp[:12] + webp[20:]
    for contents in (headless, webp[:12] + b"VP8Y" + webp[16:]):
        assert refusal(contents, max_pixels=500).startswith("truncated")
        with pytest.raises(tf.errors.InvalidArgumentError):
            images.decode(contents, max_pixels=500)


def test_of_an_animated_webp_the_first_picture_is_taken():
    """Which stops TensorFlow 2.21."""
    more = [Image.new("RGB", (90, 70), "teal")]
    contents = saved(Image.new("RGB", (90, 70), "red"), "WEBP", save_all=True, append_images=more)
    image, notes = images.read_contents(contents)
    assert image.shape == (70, 90, 3) and image[0, 0, 0] > 240
    assert notes == ["the first of several pictures is taken"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="`images.read` takes more"):
        images.decode(contents)


@pytest.mark.parametrize("kind", [1, 6, 8, 9, 16])
def test_the_size_of_a_tiff_is_what_libtiff_takes_for_it(kind):
    """Read as 16 bits, these sides are 16 pixels."""
    contents = with_tiff_sides(saved(SMALL, "TIFF"), kind, 2**16 + 16)
    try:
        image, _ = images.read_contents(contents, max_pixels=1000)
    except images.ImageError as error:
        assert str(error).startswith(
            ("truncated, damaged or unsupported TIFF", "65552 x 65552 pix")
        )
    else:
        assert image.shape == (16, 16, 3)


def test_a_webp_canvas_is_its_frames_size():
    webp = saved(Image.new("RGBA", (90, 70), (9, 9, 9, 99)), "WEBP")
    assert webp[12:16] == b"VP8X"
    small = webp[:24] + bytes([15, 0, 0, 15, 0, 0]) + webp[30:]
    assert refusal(small, flatten=(0, 0, 0)) == "truncated, damaged or unsupported WebP"


def jp2_with(codestream_box):
    """The JP2 file of a picture of 90 x 70 pixels, with another box around its codestream."""
    jp2 = saved(Image.new("RGB", (90, 70), "teal"), "JPEG2000")
    at = jp2.index(b"jp2c") - 4
    return jp2[:at] + codestream_box(jp2[at + 8 :])


def test_jpeg_2000_in_boxes_of_all_kinds():
    decoy = b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 47, 0, 4, 4, 0, 0)
    for before in (box(b"uuid", bytes(16), decoy), box(b"xml ", decoy, decoy), b""):
        boxes = {
            "usual": lambda data, before=before: before + box(b"jp2c", data),
            "open": lambda data, before=before: before + struct.pack(">I4s", 0, b"jp2c") + data,
        }
        for kind, codestream_box in boxes.items():
            contents = jp2_with(codestream_box)
            assert refusal(contents, max_pixels=99).startswith("90 x 70 pixels"), kind
            image, _ = images.read_contents(contents)
            assert image.shape == (70, 90, 3) and image[0, 0].tolist() == [0, 128, 128]


@pytest.mark.parametrize(
    "codestream_box",
    [
        lambda data: b"",
        lambda data: box(b"jp2d", data),
        lambda data: box(b"jp2c", b"\xff\x4f\xff\x52", data),
        lambda data: struct.pack(">I4s", 2**31, b"free") + box(b"jp2c", data),
    ],
)
def test_jpeg_2000_without_a_codestream_in_its_place_is_refused(codestream_box):
    assert refusal(jp2_with(codestream_box)).startswith("truncated")


def test_a_jp2_whose_codestream_is_larger_than_it_says_is_refused():
    jp2 = saved(Image.new("RGB", (900, 700), "teal"), "JPEG2000")
    at = jp2.index(b"ihdr") + 4
    lying = jp2[:at] + struct.pack(">II", 7, 9) + jp2[at + 8 :]
    assert refusal(lying, max_pixels=99) == "truncated, damaged or unsupported JPEG 2000"


def avif_with(*patches):
    """An AVIF file of a picture of 90 x 70 pixels, with the bytes `old` replaced by `new`."""
    avif = saved(Image.new("RGB", (90, 70), "teal"), "AVIF")
    for old, new in patches:
        assert avif.count(old) == 1
        avif = avif.replace(old, new)
    return avif


def test_an_avif_is_as_large_as_it_says():
    """Its frame may be larger: up to 16,384 x 16,384 pixels, libavif's own limit."""
    told = b"ispe" + struct.pack(">III", 0, 90, 70)
    contents = avif_with((told, b"ispe" + struct.pack(">III", 0, 4, 4)))
    assert images.read_contents(contents, max_pixels=99)[0].shape == (4, 4, 3)
    with pytest.raises(images.ImageError, match="^90 x 70 pixels: at most 99 are taken$"):
        images.read_contents(avif_with(), max_pixels=99)


def test_of_more_parts_than_a_graph_walks_through_an_error_comes():
    jpg, gif = (saved(SMALL, form) for form in ("JPEG", "GIF"))
    frame = 13 + 3 * 2 ** (gif[10] % 8 + 1)
    chains = {
        "JPEG": lambda count: jpg[:2] + count * b"\xff\xfe\0\2" + jpg[2:],
        "GIF, in one": lambda count: gif[:frame] + b"!\xfe" + 16 * count * b"\1a" + b"\0"
        + gif[frame:],
    }  # fmt: skip
    for form, chain in chains.items():
        assert images.decode(chain(4000)).shape == (16, 16, 3), form
        with pytest.raises(tf.errors.InvalidArgumentError, match="damaged or unsupported"):
            images.decode(chain(4200))
        assert images.read_contents(chain(4200))[0].shape == (16, 16, 3), form


def test_a_jpeg_of_more_samples_than_can_be_decoded_is_refused_in_a_graph():
    jpg = saved(SMALL, "JPEG")
    at = jpg.index(b"\xff\xc0") + 5
    contents = jpg[:at] + struct.pack(">HH", 12_000, 20_000) + jpg[at + 4 :]
    with pytest.raises(tf.errors.InvalidArgumentError, match="damaged or unsupported JPEG"):
        images.decode(contents)


def test_of_ten_thousand_frames_the_first_is_decoded():
    pictures = [Image.new("P", (64, 64), number % 250) for number in range(10_000)]
    contents = saved(pictures[0], "GIF", save_all=True, append_images=pictures[1:], optimize=False)
    image, notes = images.read_contents(contents, max_pixels=64 * 64)
    assert image.shape[:2] == (64, 64) and notes == ["the first of several pictures is taken"]
    assert images.decode(contents, max_pixels=64 * 64).shape == (64, 64, 3)


def payload_of(height, width, jpeg_image, scale=2, fingerprint="0" * 16):
    """A payload in order but for what its header claims."""
    file = coding.encode(jpeg_image, 50)
    return layout_ops.pack(file, fingerprint, height, width, 3, scale, 50).numpy()


@pytest.mark.parametrize("size", [(60_000, 60_000), (33, 32), (30, 32), (2**31, 2**31), (0, 32)])
def test_a_payload_whose_jpeg_is_of_another_size_is_refused(size):
    codec = Codec(ComRec.from_preset("fast", 3, 2))
    small = np.zeros((16, 16, 3), np.uint8)
    codec.decode(payload_of(32, 32, small, fingerprint=codec.fingerprint))
    with pytest.raises(PayloadError):
        codec.decode(payload_of(*size, small, fingerprint=codec.fingerprint))


def test_a_jpeg_that_cannot_be_decoded_is_the_payloads_error():
    """Though its checksum fits: whoever can write a payload can write that too."""
    codec = Codec(ComRec.from_preset("fast", 3, 2))
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    file = coding.encode(pixels, 50).numpy()
    whole = layout_ops.pack(file, codec.fingerprint, 32, 32, 3, 2, 50).numpy()
    with pytest.raises(PayloadError, match="^damaged: its JPEG cannot be decoded$"):
        codec.decode(sealed(with_missing_tables(whole)))
    cut = layout_ops.pack(file[:-30], codec.fingerprint, 32, 32, 3, 2, 50).numpy()
    with pytest.raises(PayloadError, match="^damaged or cut short"):
        codec.decode(cut)
    none = layout_ops.pack(file[:20] + b"\xff\xd9", codec.fingerprint, 0, 0, 0, 2, 50).numpy()
    with pytest.raises(PayloadError, match="^damaged: its JPEG has another size .* or is none$"):
        codec.decode(none)


def test_a_payload_of_too_many_pixels_is_refused_before_it_is_restored():
    codec = Codec(ComRec.from_preset("fast", 3, 4))
    payload = payload_of(400, 400, np.zeros((100, 100, 3), np.uint8), 4, codec.fingerprint)
    assert codec.decode(payload, max_pixels=160_000).shape == (400, 400, 3)
    with pytest.raises(PayloadError, match="400 x 400 pixels: at most 159999 are taken"):
        codec.decode(payload, max_pixels=159_999)
    graph = tf.function(lambda payload: codec.decode(payload, 159_999))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 159999 are taken"):
        graph(tf.constant(payload))


@settings(max_examples=60, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    height=st.integers(1, 70), width=st.integers(1, 70), channels=st.sampled_from([1, 3]),
    quality=st.integers(1, 100), kind=st.sampled_from(["flat", "noise", "ramp"]),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_any_image_comes_back_in_its_shape(codec, height, width, channels, quality, kind, seed):
    random = np.random.default_rng(seed)
    shape = (height, width, channels)
    image = {
        "flat": np.full(shape, random.integers(256)),
        "noise": random.integers(0, 256, shape),
        "ramp": (np.add.outer(np.arange(height), np.arange(width))[..., None] + np.zeros(channels)),
    }[kind].astype(np.uint8)
    payload = codec.encode(image, quality)
    header = layout.read_header(payload)
    assert (header.height, header.width, header.channels) == shape
    Image.open(io.BytesIO(payload)).load()  # any viewer opens it
    restored = codec.decode(payload)
    assert restored.shape == shape and restored.dtype == np.uint8
    if kind == "flat" and quality >= 50:
        assert np.abs(restored.astype(int) - image).mean() < 6


@pytest.mark.slow
def test_damaged_files_neither_stop_nor_fool_the_reader():
    run = subprocess.run(
        [sys.executable, FUZZ, "--count=4000", "--seed=2"], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout.splitlines()[-1]) == (0, "4000 inputs, 0 wrong"), run.stdout


@pytest.mark.slow
def test_the_fuzzer_notices(tmp_path):
    """That a reader ends its process, runs out of memory, or takes what it should not."""
    program = FUZZ.read_text()
    for old, new in [
        (
            "image, _ = images.read_contents(data, (255, 255, 255), MAX_PIXELS)\n"
            "                fine",
            "if number == 0:\n"
            "                    os._exit(3)\n"
            "                raise images.ImageError('too large for the memory of this machine')\n"
            "                fine",
        ),
        ("not verify(data).numpy():\n                outcome", "True:\n                outcome"),
    ]:
        assert program.count(old) == 1
        program = program.replace(old, new)
    path = tmp_path / "fuzz.py"
    path.write_text(program)
    (tmp_path / "golden").symlink_to(FUZZ.with_name("golden"))
    settings = ["--seed=5", "--only=bmp,payload", "--megabytes=6000", "--seconds=20"]
    run = subprocess.run(
        [sys.executable, path, *settings, "--count=4"], capture_output=True, text=True
    )
    report = run.stdout.splitlines()
    assert run.returncode == 1 and "4 inputs, 4 wrong" in report
    assert report[-12::3] == ["bmp", "bmp-bits", "bmp-palette", "payload-colour"]
    assert report[-11::3] == [
        "ended, status 3",
        *["WRONG: too large for the memory of this machine"] * 2,
        "WRONG: accepted",
    ]
    command = f"  python {path} {' '.join(settings)}"
    assert report[-10::3] == [f"{command} --first={number} --count=1" for number in range(4)]
