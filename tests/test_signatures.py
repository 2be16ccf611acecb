"""Signatures do with each item what the codec does, and say what is wrong with a bad one."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from payload_files import sealed, with_missing_tables
from PIL import Image

from cnn_compression.export import signatures as signatures_module
from cnn_compression.export.signatures import signatures
from cnn_compression.images import encode_png
from cnn_compression.payload import layout, layout_ops
from cnn_compression.payload.layout_ops import NUMBERS

MAX_PIXELS = 100_000


@pytest.fixture(scope="module")
def served(codec):
    """Signature name -> function of lists and arrays to a dict of arrays."""

    def call(function, **inputs):
        outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    functions = signatures(codec, MAX_PIXELS)
    return {name: lambda f=f, **inputs: call(f, **inputs) for name, f in functions.items()}


@pytest.fixture(scope="module")
def images(photos):
    """Two colour images of different sizes and a grey one."""
    return [photos["coffee"], photos["rocket"][:77, :101], photos["camera"][:50, :70]]


@pytest.fixture(scope="module")
def payloads(codec, images):
    return [codec.encode(*pair) for pair in zip(images, [20, 50, 80], strict=True)]


def saved_as(image, form, **options):
    file = io.BytesIO()
    Image.fromarray(np.squeeze(image)).save(file, form, **options)
    return file.getvalue()


def raw(images):
    """Inputs of `encode_pixels` but for the quality."""
    sizes = np.array([image.shape for image in images], np.int32)
    names = ("height", "width", "channels")
    return {"pixels_bytes": [image.tobytes() for image in images]} | dict(
        zip(names, sizes.T, strict=True)
    )


def png(image):
    return encode_png(image).numpy()


def chunk(kind, data):
    """Of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bad_files(image):
    """What is wrong -> bytes and a part of the status."""
    good, jpeg = png(image), saved_as(image, "jpeg")
    header = struct.pack(">IIBBBBB", 50000, 50000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    # A chunk before the header that has a small size where the header should have it.
    disguised = bomb[:8] + chunk(b"zzZz", struct.pack(">II", 10, 10)) + bomb[8:]
    huge_jpeg = jpeg.replace(struct.pack(">HH", *image.shape[:2]), struct.pack(">HH", 65500, 65500))
    payload = layout_ops.pack(jpeg, "0" * 16, 2, 2, 3, 2, 50).numpy()
    glass = np.dstack([image, np.full(image.shape[:2], 128, np.uint8)])
    return {
        "nothing": (b"", "not a PNG, JPEG, GIF or BMP"),
        "text": (b"hello", "not a PNG, JPEG, GIF or BMP"),
        "a WebP": (saved_as(image, "webp"), "not a PNG, JPEG, GIF or BMP"),
        "a start": (good[:30], "damaged or unsupported PNG"),
        "a cut PNG": (good[:-100], "damaged or unsupported PNG"),
        "a changed PNG": (good[:999] + b"////" + good[1003:], "damaged or unsupported PNG"),
        "a cut JPEG": (jpeg[: len(jpeg) // 2], "damaged or unsupported JPEG"),
        "a JPEG without a frame": (jpeg[:30], "damaged or unsupported JPEG"),
        "a bomb": (bomb, "50000 x 50000 pixels: at most 100000"),
        "a disguised bomb": (disguised, "damaged or unsupported PNG"),
        "a JPEG bomb": (huge_jpeg, "65500 x 65500 pixels: at most 100000"),
        "endless parts": (jpeg[:2] + bytes(10**6) + jpeg[2:], "JPEG"),
        "a payload": (payload, "is a payload already: expected the image that it was of"),
        "glass": (saved_as(glass, "png"), "transparent"),
    }


@pytest.mark.slow
def test_bad_files_say_what_is_wrong_and_fail_alone(codec, served, images):
    bad = bad_files(images[0])
    files = [png(images[0]), *(data for data, _ in bad.values()), png(images[1])]
    expected = [codec.encode(images[0], 30), *[b""] * len(bad), codec.encode(images[1], 30)]
    result = served["encode"](image_bytes=files, quality=[30] * len(files))
    assert result["payload_bytes"].tolist() == expected
    assert result["status"][0] == result["status"][-1] == b""
    for status, (name, (_, words)) in zip(result["status"][1:], bad.items(), strict=False):
        assert words in status.decode(), name

    result = served["encode_to_size"](image_bytes=files, max_bytes=[3000] * len(files))
    for status, (name, (_, words)) in zip(result["status"][1:], bad.items(), strict=False):
        assert words in status.decode(), name
    for number in (0, -1):
        quality = int(result["quality"][number])
        image = images[0] if number == 0 else images[1]
        assert result["payload_bytes"][number] == codec.encode(image, quality)


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "bmp"])
def test_each_format_is_read(codec, served, images, form):
    data = saved_as(images[1], form)
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    result = served["encode"](image_bytes=[data], quality=[40])
    assert result["status"][0] == b""
    assert result["payload_bytes"][0] == codec.encode(pixels, 40)


def test_later_frames_of_a_gif_are_not_decoded(codec, served, images):
    """TensorFlow makes room for the largest of all frames."""
    data = saved_as(images[1], "gif")
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 46340, 46340, 0) + b"\x02\x01\x00\x00"
    plain, bomb = served["encode"](image_bytes=[data, data[:-1] + frame + b";"], quality=[40, 40])[
        "payload_bytes"
    ]
    assert plain == bomb != b""


def test_qualities_out_of_range_fail_alone(codec, served, images):
    qualities = [0, 40, 101, -(2**31)]
    result = served["encode"](image_bytes=[png(images[1])] * 4, quality=qualities)
    pixels = served["encode_pixels"](**raw([images[1]] * 4), quality=qualities)
    for outputs in (result, pixels):
        assert outputs["payload_bytes"].tolist() == [b"", codec.encode(images[1], 40), b"", b""]
        for quality, status in zip(qualities, outputs["status"], strict=True):
            words = f"quality must be in 1..100. Received: {quality}"
            assert status.decode() == ("" if quality == 40 else words)


@pytest.mark.slow
def test_a_size_that_cannot_be_met_says_so(codec, served, images):
    limit = len(codec.encode(images[1], 30))
    result = served["encode_to_size"](image_bytes=[png(images[1])] * 3, max_bytes=[limit, 100, -5])
    assert len(result["payload_bytes"][0]) <= limit
    assert result["status"].tolist()[0] == b""
    assert result["payload_bytes"].tolist()[1:] == [b"", b""]
    assert result["quality"].tolist()[1:] == [0, 0]
    assert "more bytes than 100" in result["status"][1].decode()


def bad_payloads(payload, image):
    """What is wrong -> bytes and a part of the status."""
    at = layout.SEGMENT_START + layout.FINGERPRINT_START
    end = layout.own_segments(payload)[0].end
    return {
        "nothing": (b"", "not a payload"),
        "a JPEG": (saved_as(image, "jpeg"), "not a payload"),
        "a start": (payload[:40], "cut short"),
        "cut short": (payload[:-10], "checksum"),
        "another model's": (
            sealed(payload[:at] + bytes(8) + payload[at + 8 :]),
            "made by model 0000000000000000",
        ),
        "no JPEG": (sealed(payload[:end] + b"\xff\xd9"), "or is none"),
        "no end": (sealed(payload[:-20]), "cut short"),
        "no tables": (sealed(with_missing_tables(payload)), "cannot be decoded"),
        "too large": (
            layout_ops.pack(
                saved_as(np.zeros((400, 300, 3), np.uint8), "jpeg"),
                payload[at : at + 8].hex(),
                400,
                300,
                3,
                1,
                50,
            ).numpy(),
            "at most 100000",
        ),
    }


def test_bad_payloads_say_what_is_wrong_and_fail_alone(codec, served, images, payloads):
    bad = bad_payloads(payloads[0], images[0])
    batch = [payloads[0], *(data for data, _ in bad.values()), *payloads[1:]]
    good = [0, len(batch) - 2, len(batch) - 1]
    result, numbers = served["decode"](payload_bytes=batch), served["info"](payload_bytes=batch)
    for outputs in (result, numbers):
        assert [number for number, status in enumerate(outputs["status"]) if not status] == (
            good if outputs is result else [*good[:1], list(bad).index("no tables") + 1, *good[1:]]
        )
    for status, (name, (_, words)) in zip(result["status"][1:], bad.items(), strict=False):
        assert words in status.decode(), name
    for number, payload in zip(good, payloads, strict=True):
        assert result["image_bytes"][number] == png(codec.decode(payload))
        header = layout.read_header(payload)
        for name in NUMBERS:
            assert numbers[name][number] == getattr(header, name)
    assert result["image_bytes"][1:-2].tolist() == [b""] * len(bad)


def test_pixels_are_those_of_the_codec_whatever_lies_beside_them(codec, served, images, payloads):
    """Items of many sizes and a bad one between them: more than once were one batch's at a time."""
    batch = [payloads[1], b"", payloads[0], payloads[2], payloads[1], b"x"]
    result = served["decode_pixels"](payload_bytes=batch)
    for number, payload in enumerate(batch):
        numbers = [result[name][number] for name in ("height", "width", "channels")]
        if payload in payloads:
            restored = codec.decode(payload)
            assert result["status"][number] == b""
            assert numbers == list(restored.shape)
            assert result["pixels_bytes"][number] == restored.tobytes()
        else:
            assert b"not a payload" in result["status"][number]
            assert numbers == [0, 0, 0] and result["pixels_bytes"][number] == b""

    encoded = served["encode_pixels"](**raw(images), quality=[20, 50, 80])
    assert encoded["payload_bytes"].tolist() == payloads
    assert encoded["status"].tolist() == [b""] * 3


@pytest.mark.parametrize("size", [(8, 8, 4), (0, 8, 3), (-8, -8, 3), (400, 300, 3), (2**30, 4, 1)])
def test_pixels_that_are_no_images_of_ours(served, size):
    good = np.zeros((8, 8, 3), np.uint8)
    inputs = raw([good, good])
    for name, value in zip(("height", "width", "channels"), size, strict=True):
        inputs[name] = np.array([value, inputs[name][1]], np.int32)
    result = served["encode_pixels"](**inputs, quality=[50, 50])
    assert result["payload_bytes"][0] == b"" and result["payload_bytes"][1]
    assert "Received: " + " x ".join(map(str, size)) in result["status"][0].decode()
    assert result["status"][1] == b""


@pytest.mark.parametrize("count", [0, 191, 193])
def test_pixels_that_are_too_few_or_too_many(served, count):
    inputs = raw([np.zeros((8, 8, 3), np.uint8)] * 2)
    inputs["pixels_bytes"][1] = bytes(count)
    result = served["encode_pixels"](**inputs, quality=[50, 50])
    assert [bool(payload) for payload in result["payload_bytes"]] == [True, False]
    assert f"192. Received: {count}" in result["status"][1].decode()


def test_an_answer_has_a_limit_and_each_item_says_so(codec, payloads, monkeypatch):
    """What has been done is answered; the rest is not begun."""
    monkeypatch.setattr(signatures_module, "MAX_ANSWER", 2 * codec.decode(payloads[1]).nbytes)
    decode = signatures(codec, MAX_PIXELS)["decode_pixels"]
    result = decode(tf.constant([payloads[1]] * 4))
    assert [not status for status in result["status"].numpy()] == [True, True, False, False]
    assert b"ask again" in result["status"].numpy()[2]
    assert result["pixels_bytes"].numpy()[3] == b""


def test_empty_batches_give_empty_batches(served):
    strings, integers = np.zeros(0, object), np.zeros(0, np.int32)
    assert served["decode"](payload_bytes=strings)["image_bytes"].shape == (0,)
    assert served["info"](payload_bytes=strings)["height"].shape == (0,)
    outputs = served["encode"](image_bytes=strings, quality=integers)
    assert outputs["payload_bytes"].shape == outputs["status"].shape == (0,)


def test_a_request_whose_inputs_do_not_go_together_fails(served, images):
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many of each input"):
        served["encode"](image_bytes=[png(images[0])], quality=[10, 20])
