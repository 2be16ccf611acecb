"""Reading in a graph: what it takes is as Pillow has it, what it does not take says so."""

import functools
import importlib.util
import io
import sys

import numpy as np
import pytest
import tensorflow as tf
from image_files import (
    AVIF,
    COLOUR,
    DEEP,
    EXTRA,
    GREY,
    GROUND,
    ONE_OF_EACH,
    PHOTO,
    PLAIN,
    RGBA,
    big_endian_exif,
    by_pillow,
    jpegs_of_damaged_exif,
    jpegs_without_orientation,
    little_endian_exif,
    over,
    png,
    saved,
)
from PIL import Image, ImageOps

from cnn_compression import images
from cnn_compression.images import in_graph
from cnn_compression.jpeg.segments import MOST_SCANS

HAS_IO = importlib.util.find_spec("tensorflow_io") is not None
HAS_WEBP = HAS_IO or hasattr(tf.io, "decode_webp")
needs_io = pytest.mark.skipif(not HAS_IO, reason="tensorflow-io is not installed")
REFUSED = {
    "bmp palette": "BMP with a palette of colours is not supported",
    "tiff CMYK": "TIFF other than grey or RGB without alpha",
    "pbm": "not an image of a known format",
    "ppm in text": "not an image of a known format",
    "pgm with remarks": "PNM other than binary with a maximum of 255",
}


def decoded(contents, **options):
    return images.decode(contents, **options).numpy()


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def decode_checked(contents):
    return images.decode_checked(contents, 10**6)


def decoded_checked(contents):
    image, status = decode_checked(contents)
    assert status == b""
    return image.numpy()


def refusal(contents, **options):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        images.decode(contents, **options)
    return str(caught.value)


def test_pixels_are_those_of_pillow():
    for name, (contents, channels) in PLAIN.items():
        if name in REFUSED:
            assert REFUSED[name] in refusal(contents)
            continue
        for decode in (decoded, decoded_checked):
            np.testing.assert_array_equal(decode(contents), by_pillow(contents, channels), name)


@needs_io
def test_pixels_of_the_other_formats_are_those_of_pillow():
    for name, (contents, channels) in EXTRA.items():
        if name in REFUSED:
            assert REFUSED[name] in refusal(contents)
        elif name != "avif":
            np.testing.assert_array_equal(decoded(contents), by_pillow(contents, channels), name)
    difference = np.abs(decoded(AVIF).astype(int) - by_pillow(AVIF, 3))  # another decoder
    assert difference.mean() < 1.5 and difference.max() <= 4


def test_photographs_come_out_upright():
    for exif in (little_endian_exif, big_endian_exif):
        for orientation in range(1, 9):
            contents = saved(PHOTO, "JPEG", exif=exif(orientation), icc_profile=b"x" * 70_000)
            expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))))
            for decode in (decoded, decoded_checked):
                np.testing.assert_array_equal(decode(contents), expected)


def test_without_an_orientation_nothing_turns():
    for contents in jpegs_without_orientation():
        np.testing.assert_array_equal(decoded(contents), by_pillow(contents, 3))


def test_damaged_exif_does_no_harm():
    expected = sorted([PHOTO.shape, (61, 47, 3)])
    for damaged in jpegs_of_damaged_exif():
        assert decoded(damaged).shape in expected


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_8_and_16_bits_with_and_without_transparency(channels, bits):
    samples = DEEP[..., :channels] >> (16 - bits)
    eight = np.round(samples / (257 if bits == 16 else 1))
    contents = png(samples, bits)
    if channels in (1, 3):
        np.testing.assert_array_equal(decoded(contents), eight)
        key = samples[4, 5]
        hidden = (samples == key).all(-1)
        keyed = png(samples, bits, colour_key=key)
        assert "has transparent pixels" in refusal(keyed)
        expected = np.where(hidden[..., None], 7, eight)
        np.testing.assert_array_equal(decoded(keyed, flatten=GROUND), expected)
    else:
        assert "has transparent pixels" in refusal(contents)
        expected = over(COLOUR, eight[..., :-1], eight[..., -1])
        np.testing.assert_array_equal(decoded(contents, flatten=COLOUR), expected)
    opaque = np.dstack([GREY, np.full_like(GREY, 255)])
    np.testing.assert_array_equal(decoded(png(opaque)), GREY[..., None])
    assert decoded(png(np.dstack([GREY, GREY])), flatten=GROUND).shape[2] == 1


def test_fill_bytes_bytes_behind_and_what_a_graph_does_not_take():
    jpeg, bmp = PLAIN["jpeg"][0], PLAIN["bmp"][0]
    filled = jpeg.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb", 1)
    np.testing.assert_array_equal(decoded(filled), by_pillow(jpeg, 3))
    np.testing.assert_array_equal(decoded(bmp + b"\0\0"), by_pillow(bmp, 3))
    said = {
        "BMP other than 8, 24 or 32 bits": saved(Image.fromarray(GREY > 99), "BMP"),
        "GIF with a transparent colour": saved(PHOTO_OF_16, "GIF", transparency=5, optimize=False),
        "not an image of a known format": b"hello",
    }
    if HAS_IO:
        said |= {
            "AVIF that is turned, mirrored or transparent": saved(RGBA, "AVIF"),
            "JPEG 2000 other than 8 bits": saved(GREY.astype(np.uint16) * 257, "JPEG2000"),
            "TIFF other than grey or RGB without alpha": saved(RGBA, "TIFF"),
            "TIFF that is turned": saved(PHOTO, "TIFF", exif=big_endian_exif(6)),
        }
    for reason, contents in said.items():
        assert reason in refusal(contents), reason
    assert MOST_SCANS == 100


PHOTO_OF_16 = Image.fromarray(PHOTO).quantize(16)


@needs_io
def test_jpeg_2000_up_to_the_size_that_tensorflow_io_can_read():
    noise = np.random.default_rng(0).integers(0, 256, (330, 1000, 3), np.uint8)
    fits, too_large = saved(noise[:320], "JPEG2000"), saved(noise, "JPEG2000")
    assert 0.99 * 2**20 < len(fits) < 2**20 < len(too_large)
    np.testing.assert_array_equal(decoded(fits), noise[:320])
    assert "JPEG 2000 other than 8 bits in 1 MiB is not supported" in refusal(too_large)


# With and without tensorflow-io.


def test_where_it_is_missing_the_cure_is_said(monkeypatch):
    monkeypatch.setattr(in_graph, "_tensorflow_io", lambda: None)
    for name in ("_decoder", "_sampler"):
        fresh = functools.cache(getattr(in_graph, name).__wrapped__)
        monkeypatch.setattr(in_graph, name, fresh)
    cure = "no wheels for" if sys.version_info >= (3, 13) else "tensorflow-io==0.37.1"
    for name, contents in ONE_OF_EACH.items():
        if name == "WebP" and hasattr(tf.io, "decode_webp"):
            np.testing.assert_array_equal(decoded(contents), by_pillow(contents, 3))
            continue
        said = refusal(contents)
        assert f"{name} in a graph needs tensorflow-io" in said and cure in said


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
    names = [name for name in names if name not in REFUSED and name != "avif"]
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


@pytest.mark.parametrize("image", [PHOTO, GREY[..., None], PHOTO[:1, :1]])
def test_encode_png_is_lossless(image):
    contents = images.encode_png(image)
    np.testing.assert_array_equal(decoded(contents), image)
    np.testing.assert_array_equal(by_pillow(contents.numpy(), image.shape[-1]), image)
