"""Reading in a graph: what it takes is as Pillow has it, what it does not take says so."""

import importlib.util
import io

import numpy as np
import pytest
import tensorflow as tf
from image_files import (
    AVIF,
    DEEP,
    EXTRA,
    GREY,
    NOT_IN_GRAPHS,
    PALETTE,
    PHOTO,
    PLAIN,
    RGBA,
    big_endian_exif,
    by_pillow,
    jpegs_of_damaged_exif,
    jpegs_without_orientation,
    little_endian_exif,
    png,
    saved,
)
from PIL import Image, ImageOps

from cnn_compression import images
from cnn_compression.images import in_graph

HAS_IO = importlib.util.find_spec("tensorflow_io") is not None
HAS_WEBP = HAS_IO or hasattr(tf.io, "decode_webp")
needs_io = pytest.mark.skipif(not HAS_IO, reason="tensorflow-io is not installed")
WEBP = {name: file for name, file in EXTRA.items() if "webp" in name}
REFUSED = ("bmp palette", "bmp grey")  # of those that a graph takes in part
BAD = "truncated, damaged or unsupported"


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
            assert f"{BAD} BMP: `images.read` takes more" in refusal(contents)
            assert decode_checked(contents)[1] == f"{BAD} BMP".encode()
            continue
        for decode in (decoded, decoded_checked):
            np.testing.assert_array_equal(decode(contents), by_pillow(contents, channels), name)


@pytest.mark.skipif(not HAS_WEBP, reason="nothing here decodes WebP in a graph")
def test_pixels_of_webp_are_those_of_pillow():
    for name, (contents, channels) in WEBP.items():
        np.testing.assert_array_equal(decoded(contents), by_pillow(contents, channels), name)
    moving = saved(PHOTO, "WEBP", save_all=True, append_images=[Image.fromarray(PHOTO[::-1])])
    assert f"{BAD} WebP: `images.read` takes more" in refusal(moving)


@needs_io
def test_pixels_of_avif_are_those_of_pillow():
    difference = np.abs(decoded(AVIF).astype(int) - by_pillow(AVIF, 3))  # another decoder
    assert difference.mean() < 1.5 and difference.max() <= 4
    turned = saved(PHOTO, "AVIF", exif=big_endian_exif(6))
    mirrored = saved(PHOTO, "AVIF", exif=big_endian_exif(2))
    for contents in (saved(RGBA, "AVIF"), turned, mirrored):
        assert f"{BAD} AVIF: `images.read` takes more" in refusal(contents)


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
        assert "has transparent pixels" in refusal(png(samples, bits, colour_key=samples[4, 5]))
        unused = next(c for c in range(2**bits) if not (samples == c).all(-1).any())
        unseen = png(samples, bits, colour_key=[unused] * channels)
        np.testing.assert_array_equal(decoded(unseen), eight)
    else:
        assert "has transparent pixels" in refusal(contents)
    opaque = np.dstack([GREY, np.full_like(GREY, 255)])
    np.testing.assert_array_equal(decoded(png(opaque)), GREY[..., None])


def test_fill_bytes_and_bytes_behind():
    jpeg, bmp = PLAIN["jpeg"][0], PLAIN["bmp"][0]
    filled = jpeg.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb", 1)
    np.testing.assert_array_equal(decoded(filled), by_pillow(jpeg, 3))
    np.testing.assert_array_equal(decoded(bmp + b"\0\0"), by_pillow(bmp, 3))


def test_what_a_graph_does_not_take_is_refused_with_a_line():
    gif = bytearray(saved(PALETTE, "GIF"))
    gif[6:8] = (80).to_bytes(2, "little")  # wider than its frame
    os2 = PLAIN["bmp"][0][:14] + (12).to_bytes(4, "little") + PLAIN["bmp"][0][18:]
    known = {
        "GIF": [bytes(gif), saved(PALETTE, "GIF", transparency=5, optimize=False)],
        "BMP": [os2, saved(Image.fromarray(GREY > 99), "BMP")],
    }
    for form, files in known.items():
        for contents in files:
            assert f"[{BAD} {form}: `images.read` takes more]" in refusal(contents)
            assert decode_checked(contents)[1] == f"{BAD} {form}".encode()
    for contents in NOT_IN_GRAPHS.values():
        said = refusal(contents)
        assert "[not a PNG, JPEG, GIF" in said and "file: `images.read` takes more]" in said
        assert decode_checked(contents)[1] == b"not a PNG, JPEG, GIF or BMP file"


def test_a_gif_of_extensions_and_frames_gives_its_first():
    other = Image.fromarray(PHOTO[::-1]).quantize(16)
    contents = saved(PALETTE, "GIF", save_all=True, append_images=[other], loop=0, comment=b"a, b")
    for decode in (decoded, decoded_checked):
        np.testing.assert_array_equal(decode(contents), np.asarray(PALETTE.convert("RGB")))


# With and without tensorflow-io.


def test_without_tensorflow_io_its_formats_are_refused(monkeypatch):
    monkeypatch.setattr(in_graph, "_tensorflow_io", lambda: None)
    monkeypatch.setattr(in_graph, "_decode", tf.function(in_graph._decode.python_function))
    if hasattr(tf.io, "decode_webp"):
        contents, channels = EXTRA["webp"]
        np.testing.assert_array_equal(decoded(contents), by_pillow(contents, channels))
    else:
        assert "not a PNG, JPEG, GIF or BMP file: `images" in refusal(EXTRA["webp"][0])
    assert " file: `images.read` takes more" in refusal(AVIF)


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
    image, status = decode_checked(EXTRA["webp"][0])
    assert tf.size(image) == 0 and status == b"not a PNG, JPEG, GIF or BMP file"


# Graph mode and threads.


def test_a_dataset_of_mixed_files(tmp_path):
    names = [name for name in (*PLAIN, *(WEBP if HAS_WEBP else ())) if name not in REFUSED]
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
