"""payload -> packed -> payload, in Python and on the command line.

`golden/packed/*` are the payloads of `golden/`, packed; `CNN_COMPRESSION_REGENERATE_GOLDEN=1`
writes those that are not there. What was written once is unpacked for ever.
"""

import dataclasses
import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packed_files import assert_damage_is_refused
from payload_files import sealed
from PIL import Image
from small_pairs import pair

from cnn_compression import metadata
from cnn_compression.codec import Codec
from cnn_compression.jpeg import coefficients
from cnn_compression.packing import exact, layout, payloads, predictors, strips
from cnn_compression.packing.layout import PackedError
from cnn_compression.payload import layout as payload_layout
from cnn_compression.payload.layout import PayloadError

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["colour", "grey", "progressive", "version2/colour", "version2/grey"]
NAMES += ["default/scale1", "default/scale2", "default/scale4"]
DAMAGED = ["version2/colour", "version2/grey", "default/scale4"]


def _golden(name):
    """A payload, and what it was once packed into."""
    payload = (GOLDEN / f"{name}.cnn.jpg").read_bytes()
    file = GOLDEN / "packed" / f"{name}.cnnp"
    if os.environ.get("CNN_COMPRESSION_REGENERATE_GOLDEN") == "1" and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(payloads.pack(payload))
    return payload, file.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_golden_packed_files_give_their_payloads(name):
    payload, packed = _golden(name)
    assert payloads.unpack(packed) == payload
    header, _ = layout.read(packed)
    expected = payload_layout.read_header(payload)
    for field in ("height", "width", "channels", "scale", "quality", "asked"):
        assert getattr(header, field) == getattr(expected, field)
    assert header.payload_version == expected.version
    if header.networks == predictors.find()[1]:
        assert payloads.pack(payload) == packed


@pytest.mark.parametrize("name", ["default/scale1", "default/scale2", "default/scale4"])
def test_payloads_of_the_default_model_get_smaller_with_24_bytes_beside_the_bits(name):
    payload, packed = _golden(name)
    assert len(packed) < 0.95 * len(payload)
    header, at = layout.read(packed)
    assert at <= 24 and not header.model


SIZES = [(1, 1), (7, 9), (8, 8), (16, 17), (33, 40), (64, 100)]


@pytest.mark.parametrize("quality", [1, 20, 40, 60, 85, 100])
def test_payloads_come_back_whatever_their_size(codec, photos, quality):
    for number, (height, width) in enumerate(SIZES):
        image = photos["camera" if number % 3 == 0 else "coffee"][:height, :width]
        payload = codec.encode(image, quality)
        assert codec.unpack(codec.pack(payload)) == payload


@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
def test_payloads_of_other_models_come_back(photos, chroma):
    codec = Codec(pair(2, chroma=chroma))
    payload = codec.encode(photos["rocket"][:50, :70], 70)
    packed = payloads.pack(payload)
    assert layout.read(packed)[0].model == codec.fingerprint
    assert payloads.unpack(packed) == payload


@pytest.mark.parametrize("blocks", [8, 40])
def test_strips_are_independent_and_give_the_same_whatever_works_on_them(
    codec, photos, monkeypatch, blocks
):
    payload = codec.encode(photos["coffee"], 75)
    whole = payloads.pack(payload)
    monkeypatch.setattr(strips, "_BLOCKS", blocks)
    packed = payloads.pack(payload)
    assert len(packed) > len(whole)
    assert payloads.unpack(packed) == payload
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert payloads.pack(payload) == packed
    assert payloads.unpack(packed) == payload


def test_metadata_are_packed_with_their_payload(codec, photos):
    exif = Image.Exif()
    exif[0x010E] = "a cat " * 50
    kept = metadata.Metadata(exif=exif.tobytes())
    plain = codec.encode(photos["chelsea"], 50)
    payload = metadata.into_payload(plain, kept)
    packed = codec.pack(payload)
    assert codec.unpack(packed) == payload
    assert len(packed) < len(codec.pack(plain)) + 100


def test_what_another_program_wrote_anew_is_refused(codec, photos):
    payload = codec.encode(photos["coffee"][:40, :40], 50)
    edited = [payload + b"more", payload[:-2] + b"\xff\xff\xd9"]
    at = payload.index(b"\xff\xdb") + 6
    edited.append(sealed(payload[:at] + bytes([payload[at] + 1]) + payload[at + 1 :]))
    for other in edited:
        with pytest.raises(PackedError, match="would not come back: it is damaged, or another"):
            payloads.pack(other)
    with pytest.raises(PayloadError, match="not a payload"):
        payloads.pack(b"something else")
    with pytest.raises(PayloadError, match="JPEG"):
        payloads.pack(payload[:-30])


@pytest.mark.parametrize(
    "at, values",
    [
        (17, [bytes([0x7F]) * 8, b"\0\0\x0f\xa0" * 2, bytes(8)]),  # height and width
        (25, [b"\x01", b"\x04"]),  # channels
        (26, [b"\0", b"\x03", b"\x08", b"\x01"]),  # scale
        (27, [b"\0", b"\x65", b"\x32"]),  # quality
    ],
)
def test_a_payload_whose_header_is_not_its_jpegs_is_refused_at_once(at, values):
    payload = (GOLDEN / "version2" / "colour.cnn.jpg").read_bytes()
    at += payload_layout.own_segments(payload)[0].start
    for value in values:
        assert payload[at : at + len(value)] != value
        other = sealed(payload[:at] + value + payload[at + len(value) :])
        with pytest.raises(PayloadError, match="would not come back|pixels: at most"):
            payloads.pack(other)


def test_coefficients_that_no_picture_has_are_kept_as_they_are():
    frame = coefficients.foreseen_frame(128, 128, 1)
    random = np.random.default_rng(0)
    levels = random.choice([-1, 1], (16, 16, 64)) * random.integers(900, 1024, (16, 16, 64))
    levels[..., 0] = 0
    header = payload_layout.FIELDS.pack(
        payload_layout.MARKER, 35, payload_layout.MAGIC, 2, bytes(8), 128, 128, 1, 1, 50
    )
    tables = coefficients.quantisation_tables(50, 1)
    payload = coefficients.compose(frame, tables, (levels.astype(np.int16),), header + bytes(9))
    payload = sealed(payload)
    assert payloads.unpack(payloads.pack(payload)) == payload


def test_larger_images_are_refused_or_allowed(codec, photos):
    payload = codec.encode(photos["coffee"][:40, :40], 30)
    packed = payloads.pack(payload, max_pixels=1600)
    for call in (payloads.pack, lambda data, most: payloads.unpack(packed, most)):
        with pytest.raises(PackedError, match="40 x 40 pixels: at most 1599 are taken"):
            call(payload, 1599)
    assert codec.unpack(packed, max_pixels=1600) == payload
    with pytest.raises(PackedError, match="at most 1599"):
        codec.unpack(packed, max_pixels=1599)
    for other in ([payload], 5):
        with pytest.raises(ValueError, match="expected bytes, or the path of a file. Received: "):
            codec.pack(other)


@pytest.mark.parametrize("name", DAMAGED)
def test_every_changed_byte_and_every_cut_is_refused(name):
    _, packed = _golden(name)
    assert_damage_is_refused(payloads.unpack, packed)


def test_a_header_alone_has_nothing_allocated(monkeypatch):
    """Whatever size it says: the bytes that follow bound how many blocks there are."""
    _, packed = _golden("default/scale1")
    header, at = layout.read(packed)
    large = replace(header, height=15000, width=16000)
    data = layout.write(large, [packed[at : at + 50]])
    monkeypatch.setattr(np, "zeros", lambda *_: pytest.fail("allocated"))
    with pytest.raises(PackedError, match=f"{len(data)} bytes cannot hold 5626000 blocks"):
        payloads.unpack(data)
    with pytest.raises(PackedError, match="16000 x 15000 pixels: at most 1000 are taken"):
        payloads.unpack(data, max_pixels=1000)


def test_no_picture_takes_fewer_bytes_than_its_blocks_need():
    """Seven decisions a block, each as cheap as any can be."""
    least = -np.log2(exact.probability_table().max() / 65536)
    assert 8 / (7 * least) - 1 < layout._BLOCKS_A_BYTE <= 8 / (7 * least) + 1


def test_what_gets_no_smaller_is_kept_as_it_is(codec, photos, monkeypatch):
    payload = codec.encode(photos["coffee"][:40, :40], 70)
    monkeypatch.setattr(strips, "write", lambda *_: [bytes(len(payload))])
    packed = payloads.pack(payload)
    assert packed == layout.store(payload) and len(packed) == len(payload) + 9
    assert payloads.unpack(packed) == payload
    header, _ = layout.read(packed)
    assert (header.height, header.width, header.model) == (40, 40, codec.fingerprint)
    with pytest.raises(PackedError, match="not a payload"):
        layout.read(layout.store(b"junk"))
    for at in range(5, len(packed), 7):
        with pytest.raises(PackedError, match="the checksum does not match"):
            payloads.unpack(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :])


def test_networks_that_are_not_installed_are_named():
    _, packed = _golden("default/scale1")
    header, at = layout.read(packed)
    other = layout.write(replace(header, networks="01234567"), [packed[at:]])
    with pytest.raises(PackedError, match="networks 01234567 in saved_models/packing: not there"):
        payloads.unpack(other)


def test_predictors_come_back_from_their_file(tmp_path):
    networks, name = predictors.find()
    (tmp_path / "1.npz").write_bytes(predictors.saved(networks))
    again = predictors.load(tmp_path / "1.npz")
    assert again.fingerprint == networks.fingerprint == name and again.model == networks.model
    changed = again.luma._replace(last2_bias=again.luma.last2_bias + 1)
    assert dataclasses.replace(again, luma=changed).fingerprint != name
    whole = (tmp_path / "1.npz").read_bytes()
    for broken in (b"", b"something else", whole[:-40], whole[:9000] + bytes(99) + whole[9099:]):
        (tmp_path / "2.npz").write_bytes(broken)
        with pytest.raises(ValueError, match="2.npz' cannot be read as predictors"):
            predictors.load(tmp_path / "2.npz")


def test_only_numbered_files_are_predictors(tmp_path, monkeypatch):
    networks, name = predictors.find()
    for file in ("packing.npz", "1 (copy).npz"):
        (tmp_path / file).write_bytes(b"something else")
    (tmp_path / "3.npz").write_bytes(
        predictors.saved(dataclasses.replace(networks, model="0" * 16))
    )
    (tmp_path / "2.npz").write_bytes(predictors.saved(networks))
    monkeypatch.setattr(predictors, "folders", lambda: [tmp_path])
    newest, its_name = predictors.find()
    assert newest.model == "0" * 16 and its_name != name
    assert predictors.find(name)[1] == name


def test_a_codec_packs_unpacks_and_decodes_what_is_packed(codec, photos, tmp_path):
    image = photos["astronaut"][:64, :80]
    payload = codec.encode(image, 60)
    packed = codec.pack(payload)
    file = tmp_path / "a.cnnp"
    file.write_bytes(packed)
    assert codec.unpack(bytearray(packed)) == codec.unpack(file) == payload
    restored = codec.decode(payload)
    np.testing.assert_array_equal(codec.decode(packed), restored)
    np.testing.assert_array_equal(codec.decode(str(file)), restored)
    np.testing.assert_array_equal(codec.decode([packed, payload]), [restored, restored])
    with pytest.raises(PayloadError, match="at most 100 are taken"):
        codec.decode(packed, max_pixels=100)
    assert issubclass(PackedError, PayloadError)


@pytest.mark.parametrize("share", [1.0, 0.999])
def test_the_highest_quality_within_so_many_packed_bytes(codec, photos, share):
    image = photos["rocket"][:64, :64]
    limit = share * len(codec.pack(codec.encode(image, 50)))
    packed, quality = payloads.pack_to(lambda quality: codec.encode(image, quality), limit)
    assert len(packed) <= limit and packed == codec.pack(codec.encode(image, quality))
    assert (quality >= 50) == (share == 1)
    assert len(codec.pack(codec.encode(image, quality + 1))) > limit
    with pytest.raises(PackedError, match="expected at most 9 bytes: even quality 1 takes"):
        payloads.pack_to(lambda quality: codec.encode(image, quality), 9)


# The command line.


@pytest.fixture
def packed_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        scale = {"a": 1, "b": 4}[name]
        data = (GOLDEN / "default" / f"scale{scale}.cnn.jpg").read_bytes()
        Path(f"{name}.cnn.jpg").write_bytes(data)
    return tmp_path


def test_commands_pack_and_unpack_a_folder(packed_folder, command):
    status, out, err = command("pack", ".")
    assert (status, err) == (0, []) and out.startswith("2 files, 0 failed, ")
    status, out, err = command("unpack", ".", "-o", "out/", "--manifest=m.csv")
    assert (status, err) == (0, [])
    for name in ("a", "b"):
        assert Path(f"out/{name}.cnn.jpg").read_bytes() == Path(f"{name}.cnn.jpg").read_bytes()
    assert Path("m.csv").read_text().count("done") == 2
    assert command("decode", ".", "-o", "pictures/")[0] == 0  # of each name one
    assert sorted(os.listdir("pictures")) == ["a.png", "b.png"]
    status, out, err = command("pack", "a.cnn.jpg")
    assert status == 1 and err[0].endswith(
        "the output exists: a.cnnp; pass --overwrite to replace it"
    )
    assert command("pack", "a.cnn.jpg", "--skip_existing")[0] == 0


def test_info_and_decode_take_packed_files(packed_folder, command):
    command("pack", "a.cnn.jpg")
    plain, packed = (command("info", name)[1].strip() for name in ("a.cnn.jpg", "a.cnnp"))
    keep = [part for part in plain.split(", ") if "b" not in part or "preview" in part]
    assert packed.endswith(", packed") and all(part in packed for part in keep[1:])
    assert "model 252a9bbcf936bfda" in packed
    assert command("decode", "a.cnnp", "a.cnn.jpg", "-o", "x/")[0] == 1  # both write a.png
    assert command("decode", "a.cnnp", "-o", "x.png")[0] == 0
    assert command("decode", "a.cnn.jpg", "-o", "y.png")[0] == 0
    assert Path("x.png").read_bytes() == Path("y.png").read_bytes()


def test_encode_writes_packed_files(packed_folder, command, photos):
    Image.fromarray(photos["chelsea"][:96, :128]).save("cat.png")
    assert command("encode", "cat.png", "-q", 40)[0] == 0
    assert command("encode", "cat.png", "-q", 40, "--pack")[0] == 0
    assert command("unpack", "cat.cnnp", "-o", "again.cnn.jpg")[0] == 0
    assert Path("again.cnn.jpg").read_bytes() == Path("cat.cnn.jpg").read_bytes()
    limit = Path("cat.cnnp").stat().st_size
    assert command("encode", "cat.png", "--pack", f"--target_bytes={limit}", "-o", "t.cnnp")[0] == 0
    assert Path("t.cnnp").stat().st_size <= limit
    assert layout.read(Path("t.cnnp").read_bytes())[0].asked >= 40
    status, _, err = command("encode", "cat.png", "-o", "p.cnnp")
    assert status == 1 and "pass --pack, or -o NAME.jpg, for p.cnnp" in err[0]
    status, _, err = command("encode", "cat.png", "--pack", "-o", "p.jpg")
    assert status == 1 and "a packed payload is no JPEG: expected -o NAME.cnnp" in err[0]


def test_info_says_what_a_stored_payload_says(packed_folder, command, monkeypatch):
    payload = Path("a.cnn.jpg").read_bytes()
    Path("s.cnnp").write_bytes(layout.store(payload))
    plain, stored = (command("info", name)[1].strip() for name in ("a.cnn.jpg", "s.cnnp"))
    assert stored.split("model")[1] == plain.split("model")[1] + ", packed"
    command("pack", "a.cnn.jpg")
    monkeypatch.setattr(predictors, "folders", list)
    assert "that networks" in command("info", "a.cnnp")[1]


def test_commands_refuse_what_they_cannot_take(packed_folder, command):
    Path("no.cnnp").write_bytes(b"CNNP\x01")
    Path("x.cnn.jpg").write_bytes(b"no payload")
    assert command("unpack", "no.cnnp")[::2] == (
        1,
        ["cnn-compression: no.cnnp: cut short: the header has 12 bytes and more"],
    )
    status, _, err = command("pack", "x.cnn.jpg")
    assert status == 1 and "x.cnn.jpg: not a JPEG: expected FF D8" in err[0]
    status, _, err = command("unpack", "a.cnn.jpg", "-o", "z.cnn.jpg")
    assert status == 1 and "not a packed payload: expected CNNP" in err[0]
    assert not Path("z.cnn.jpg").exists()


def test_checksums_are_of_the_payload():
    payload, packed = _golden("default/scale1")
    assert layout.read(packed)[0].checksum == zlib.crc32(payload)
