"""The payload's layout: golden bytes, an independent parser, and every way to damage one.

`golden/*.jpg` are payloads of `golden_images()` in version 1 of the layout, which nothing writes
any more, `golden/version2/*.jpg` in version 2. These change only with the format or with libjpeg;
`CNN_COMPRESSION_REGENERATE_GOLDEN=1 pytest tests/test_payload.py` writes them anew.
`test_payload_edited` has what other programs may do to a payload.
"""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from payload_files import sealed
from PIL import Image

from cnn_compression.jpeg import coding
from cnn_compression.payload import layout, layout_ops
from cnn_compression.payload.layout import PayloadError

GOLDEN = Path(__file__).parent / "golden"
FINGERPRINT = "0123456789abcdef"
OTHER_FINGERPRINT = "0123456789abcdee"
NUMBERS = {
    "grey": {"height": 13, "width": 21, "channels": 1, "scale": 2, "quality": 1},
    "colour": {"height": 5, "width": 259, "channels": 3, "scale": 2, "quality": 75},
    "progressive": {"height": 159, "width": 160, "channels": 1, "scale": 2, "quality": 75},
}


ASKED = 60
END = {1: 56, 2: 57}  # of our segment in the file


def golden_images():
    """Compact images in closed form, uint8: grey `[7, 11, 1]` and `[80, 80, 1]`, which is such that
    a progressive file is the smaller one, and colour `[3, 130, 3]`."""
    row, column = np.mgrid[0:7, 0:11]
    grey = (20 * row + 10 * column)[..., None]
    row, column = np.mgrid[0:3, 0:130]
    colour = np.stack([80 + 20 * row, column, 255 - 20 * row - column], axis=-1)
    row, column = np.mgrid[0:80, 0:80]
    rough = (row**2 * 7919 + column**2 * 104729 + row * column * 31) % 251 // 2 + row * 60 // 80
    images = {"grey": grey, "colour": colour, "progressive": rough[..., None]}
    return {name: image.astype(np.uint8) for name, image in images.items()}


def plain_jpeg(name):
    return coding.encode(golden_images()[name], NUMBERS[name]["quality"]).numpy()


@pytest.fixture(scope="module", params=sorted(NUMBERS))
def name(request):
    return request.param


@pytest.fixture(scope="module", params=layout.VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def payload(name, version):
    """A golden payload's bytes."""
    path = (GOLDEN if version == 1 else GOLDEN / f"version{version}") / f"{name}.cnn.jpg"
    if os.environ.get("CNN_COMPRESSION_REGENERATE_GOLDEN") == "1" and version == layout.VERSION:
        path.parent.mkdir(exist_ok=True)
        data = layout_ops.pack(plain_jpeg(name), FINGERPRINT, **NUMBERS[name], asked=ASKED)
        path.write_bytes(data.numpy())
    return path.read_bytes()


@tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
def statuses(payloads):
    """`verify` of each."""
    return tf.map_fn(
        lambda payload: layout_ops.verify(payload, FINGERPRINT, [2]),
        payloads,
        parallel_iterations=64,
    )


def with_byte(data, index, value):
    return data[:index] + bytes([value]) + data[index + 1 :]


def resealed(data, index, value):
    """A payload with one byte changed and a checksum that fits."""
    return sealed(with_byte(data, index, value))


def version_1_of(data):
    """The payload of version 2 as version 1 would have it: one byte less."""
    return sealed(data[:23] + b"\x22" + data[24:28] + b"\x01" + data[29:56] + data[57:])


def test_the_golden_payloads_are_of_both_kinds(name, payload):
    assert (b"\xff\xc2" in payload) == (name == "progressive")
    assert (b"\xff\xc0" in payload) == (name != "progressive")


def test_packing_gives_the_golden_bytes(name, version, payload):
    packed = layout_ops.pack(plain_jpeg(name), FINGERPRINT, **NUMBERS[name], asked=ASKED).numpy()
    assert (packed if version == 2 else version_1_of(packed)) == payload


def test_bytes_lie_where_the_table_says(name, version, payload):
    """Parsed by hand from the offsets in `layout`'s docstring."""
    assert payload[:2] == b"\xff\xd8" and payload[2:4] == b"\xff\xe0" and payload[6:10] == b"JFIF"
    assert payload[20:22] == b"\xff\xe9"
    end = END[version]
    assert payload[22:24] == bytes([0, end - 22])
    assert payload[24:28] == b"CNNC"
    assert payload[28] == version
    assert payload[29:37].hex() == FINGERPRINT
    assert struct.unpack(">II", payload[37:45]) == (
        NUMBERS[name]["height"],
        NUMBERS[name]["width"],
    )
    assert tuple(payload[45:48]) == (NUMBERS[name]["channels"], 2, NUMBERS[name]["quality"])
    # Version 2: the segment, then a JPEG without its APP0.
    covered = payload[:48] if version == 1 else payload[20:48] + payload[56:57] + b"\xff\xd8"
    covered = np.frombuffer(covered + payload[end:], np.uint8)
    assert covered.tobytes() == layout.covered(payload)
    assert payload[48:56] == tf.fingerprint(covered[None]).numpy().tobytes()
    # The segment ends where the next one starts.
    assert payload[56:end] == bytes([ASKED] * (version - 1)) and payload[end] == 0xFF


def test_the_rest_is_the_plain_jpeg_and_the_overhead_37_bytes(name, version, payload):
    assert payload[:20] + payload[END[version] :] == plain_jpeg(name)
    assert len(payload) - len(plain_jpeg(name)) == {1: 36, 2: 37}[version]


def test_marker_is_not_one_that_others_read(payload):
    assert payload[21] not in {0xE0, 0xE1, 0xE2, 0xED, 0xEE}


def test_checksum_is_farmhash64():
    """Published results of FARM_FINGERPRINT in BigQuery's documentation, little-endian here."""
    for text, expected in [
        (b"1footrue", -1541654101129638711),
        (b"2applefalse", 2794438866806483259),
        (b"3true", -4880158226897771312),
    ]:
        digest = tf.fingerprint(np.frombuffer(text, np.uint8)[None]).numpy().tobytes()
        assert struct.unpack("<q", digest) == (expected,)


def test_pillow_shows_the_compact_image(name, payload):
    picture = Image.open(io.BytesIO(payload))
    picture.load()
    compact = golden_images()[name]
    assert picture.format == "JPEG" and picture.mode == {1: "L", 3: "RGB"}[compact.shape[-1]]
    shown = np.asarray(picture).reshape(compact.shape)
    np.testing.assert_array_equal(shown, coding.decode(plain_jpeg(name)))
    if name == "colour":
        assert np.abs(shown.astype(float) - compact).mean() < 8
    assert layout.preview_size(payload) == picture.size[::-1]


def test_tensorflow_and_pillow_read_the_payload_alike(payload):
    pixels = np.asarray(Image.open(io.BytesIO(payload)))
    np.testing.assert_array_equal(np.squeeze(coding.decode(payload)), pixels)


def test_readers_agree(name, version, payload):
    header = layout.read_header(payload)
    numbers = {key: int(value) for key, value in layout_ops.unpack(payload).items()}
    assert numbers == NUMBERS[name]
    assert numbers == {key: getattr(header, key) for key in numbers}
    assert (header.version, header.fingerprint) == (version, FINGERPRINT)
    assert header.checksum == payload[48:56]
    assert header.asked == {1: 0, 2: ASKED}[version]
    assert layout.read_header(payload[: END[version]]) == header
    assert layout.is_payload(payload)
    assert layout_ops.verify(payload, FINGERPRINT, [2]).numpy() == b""


@pytest.mark.parametrize(
    "numbers",
    [
        {"height": 1, "width": 1, "channels": 1, "scale": 1, "quality": 1},
        {"height": 255, "width": 256, "channels": 3, "scale": 2, "quality": 100},
        {"height": 131_000, "width": 1, "channels": 1, "scale": 2, "quality": 99},
        {"height": 2, "width": 130_999, "channels": 3, "scale": 2, "quality": 50},
        {"height": 1, "width": 2**31 - 1, "channels": 1, "scale": 255, "quality": 50},
    ],
)
def test_pack_and_unpack_are_inverse(numbers):
    """Up to the largest image: a JPEG's sides end at 65,500."""
    scale = numbers["scale"]
    sides = [min(-(-numbers[side] // scale), 65_500) for side in ("height", "width")]
    plain = coding.encode(np.zeros((*sides, numbers["channels"]), np.uint8), 50)
    pack = tf.function(lambda numbers: layout_ops.pack(plain, OTHER_FINGERPRINT, **numbers))
    payload = pack({key: tf.constant(value) for key, value in numbers.items()}).numpy()
    assert {key: int(value) for key, value in layout_ops.unpack(payload).items()} == numbers
    header = layout.read_header(payload)
    assert {key: getattr(header, key) for key in numbers} == numbers
    assert header.fingerprint == OTHER_FINGERPRINT
    fits = numbers["width"] <= 65_500 * scale
    assert (layout_ops.verify(payload, OTHER_FINGERPRINT, [1, 2, 255]).numpy() == b"") == fits


def test_every_flipped_bit_and_every_lost_byte_is_found(version, payload):
    """In version 2 but for what is in APP0, and which APPn that is: E0, E1, E2, E4 or E8.

    Of larger files a bit of each byte.
    """
    bits = [
        (index, bit)
        for index in range(len(payload))
        for bit in (range(8) if len(payload) < 1000 else [index % 8])
    ]
    flipped = [with_byte(payload, index, payload[index] ^ 1 << bit) for index, bit in bits]
    lost = [payload[:index] + payload[index + 1 :] for index in range(len(payload))]
    # The unharmed one in their midst shows that the check itself works.
    results = statuses(tf.constant([*flipped, payload, *lost])).numpy()
    fine = np.flatnonzero(results == b"")
    nobodys = [
        number
        for number, (index, bit) in enumerate(bits)
        if version == 2 and (6 <= index < 20 or (index == 3 and bit < 4))
    ]
    equal = [*nobodys, len(flipped)] + [
        len(flipped) + 1 + i for i, data in enumerate(lost) if data == payload
    ]
    np.testing.assert_array_equal(fine, equal)


def test_every_truncation_is_found_and_additions_as_the_version_says(version, payload):
    cut = [payload[:length] for length in range(0, len(payload), 1 + len(payload) // 1000)]
    longer = [payload + b"\x00", payload + payload, payload]
    results = statuses(tf.constant([*cut, b"\x00" + payload, *longer])).numpy()
    assert (results[: len(cut) + 1] != b"").all()
    assert (results[-3:] == b"").tolist() == [version == 2, version == 2, True]


def test_what_verify_says(version, payload):
    end = END[version]
    plain = payload[:20] + payload[end:]
    damaged = with_byte(payload, 65, payload[65] ^ 0xFF)
    cases = {
        b"": "not a payload",
        b"hello": "not a payload",
        plain: "not a payload: expected a JPEG with a CNNC segment",
        damaged: "damaged, or another program changed it: the checksum does not match",
        payload[:-1]: "damaged or cut short",
        payload[:30]: "damaged or cut short",
        payload[:20] + 2 * payload[20:end] + payload[end:]: "one CNNC segment. Received: 2",
        with_byte(payload, 28, 3): "version must be 1 or 2. Received: 0x03",
        with_byte(payload, 28, 0): "version must be 1 or 2. Received: 0x00",
        resealed(payload, 36, 0xEE): f"by model {OTHER_FINGERPRINT}; this one is {FINGERPRINT}",
        resealed(payload, 40, 99): "damaged: its JPEG has another size",
        resealed(payload, 41, 0xFF): " pixels: at most 250000000 are taken",
        resealed(payload, 45, 2): "damaged: its JPEG has another size",
        resealed(payload, 46, 0): "damaged: its scale is none of 2",
    }
    results = statuses(tf.constant(list(cases))).numpy()
    for said, expected in zip(results, cases.values(), strict=True):
        assert expected in said.decode()


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda data: b"", "not a payload: .* Received: 0 bytes"),
        (lambda data: b"hello world", "not a payload: .* Received: 11 bytes of something else"),
        (
            lambda data: data[:20] + data[22 + data[23] :],
            "not a payload: .* Received: a plain JPEG",
        ),
        (lambda data: data[:30], "cut short: .*3[67].* Received: 10"),
        (lambda data: data[:55], "cut short: .*3[67].* Received: 35"),
        (lambda data: data[: 22 + data[23]] + data[20:], "expected one CNNC segment. Received: 2"),
        (lambda data: with_byte(data, 28, 3), "payload version must be 1 or 2. Received: 3"),
    ],
)
def test_read_header_says_what_is_wrong(payload, spoil, reason):
    with pytest.raises(PayloadError, match=reason):
        layout.read_header(spoil(payload))


def test_readers_never_fail_in_another_way(version, payload):
    """Anything cut anywhere gives a result or a `PayloadError`, in finite time."""
    size = layout.preview_size(payload)
    shown = 0
    for length in range(len(payload)):
        try:
            shown += layout.preview_size(payload[:length]) == size
        except PayloadError as error:
            assert "no start of frame" in str(error)
        if length >= END[version]:
            assert layout.read_header(payload[:length]) == layout.read_header(payload)
        else:
            with pytest.raises(PayloadError):
                layout.read_header(payload[:length])
    assert 0 < shown < len(payload) - 56


@pytest.mark.parametrize("progressive", [False, True])
def test_preview_size_of_anybodys_jpeg(photos, progressive):
    file = io.BytesIO()
    Image.fromarray(photos["coffee"]).save(file, "JPEG", progressive=progressive)
    assert layout.preview_size(file.getvalue()) == photos["coffee"].shape[:2]
