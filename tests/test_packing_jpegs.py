"""Any JPEG -> packed -> the same JPEG.

`golden/packed/jpegs/*.cnnp` are of the JPEGs beside them; `CNN_COMPRESSION_REGENERATE_GOLDEN=1`
writes those that are not there. What was written once is unpacked for ever.
"""

import dataclasses
import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jpeg_files import by_pillow, edited, picture
from packed_files import assert_damage_is_refused
from PIL import Image, ImageCms

import cnn_compression
from cnn_compression.jpeg import coefficients, huffman, reading
from cnn_compression.jpeg.structure import (
    BASELINE,
    PROGRESSIVE,
    Component,
    Frame,
    Scan,
    segment,
    slot,
)
from cnn_compression.packing import foreseen, jpeg_layout, jpegs, layout, predictors, strips
from cnn_compression.packing.layout import PackedError
from cnn_compression.payload.layout import is_payload

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["restarts", "progressive"]


def _comes_back(jpeg):
    packed = jpegs.pack(jpeg)
    assert jpeg_layout.is_packed(packed) and len(packed) < len(jpeg)
    assert jpegs.unpack(packed) == jpeg
    return packed


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:2", "4:2:0", "4:1:1", "L"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimize": True, "quality": 97},
        {"progressive": True, "quality": 55},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 3, "progressive": True},
        {"qtables": [list(range(2, 66)), [9] * 64]},
    ],
    ids=str,
)
def test_what_pillow_writes(photos, chroma, settings):
    image = picture(photos, mode="L" if chroma == "L" else "RGB")
    _comes_back(by_pillow(image, **({} if chroma == "L" else {"subsampling": chroma}), **settings))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 17), (15, 200)])
def test_sizes(photos, size):
    for mode in ("L", "RGB"):
        _comes_back(by_pillow(picture(photos, "chelsea", *size, mode)))


@pytest.fixture
def plain(photos):
    return by_pillow(picture(photos), quality=80)


def test_metadata_comments_and_trailing_bytes_are_kept(photos):
    exif = Image.Exif()
    exif[0x010E] = "a cup " * 40
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    settings = {"exif": exif.tobytes(), "icc_profile": icc, "comment": b"\xff\xd9\xff\xda" * 9}
    jpeg = by_pillow(picture(photos), **settings)
    packed = _comes_back(jpeg + b"\xff\xd8 and what a camera puts behind" + bytes(range(256)))
    assert len(packed) < len(jpegs.pack(jpeg)) + 330


@pytest.mark.parametrize(
    "old, new",
    [
        (b"\xff\xdb", b"\xff\xff\xff\xdb"),  # fill bytes
        (b"\xff\xda", b"\xff\xff\xda"),
        (b"\xff\xd9", b"\xff\xff\xd9"),
        (b"\xff\xc0", b"\xff\xfe\0\x04ab\xff\xc0"),  # a comment
        (b"\xff\xda", b"\xff\xdd\0\x04\0\0\xff\xda"),  # no restart interval, by a segment
        (b"\xff\xd9", b"\xff\0\xff\0\0\xff\xd9"),  # bytes of coded data that mean nothing
    ],
)
def test_segments_by_hand(plain, old, new):
    _comes_back(edited(plain, (old, new)))


def test_tables_in_one_segment_or_again(plain):
    """A table of quantisation and one of Huffman codes, in front, that others replace."""
    tables = [plain[a:b] for marker, a, b in _segments(plain) if marker in (0xDB, 0xC4)]
    quantisation = b"".join(table[4:] for table in tables if table[1] == 0xDB)
    one = b"\xff\xdb" + (2 + len(quantisation)).to_bytes(2, "big") + quantisation
    dropped = edited(plain, *((table, b"") for table in tables if table[1] == 0xDB))
    jpeg = _comes_back(edited(dropped, (b"\xff\xc0", one + b"\xff\xc0")))
    assert len(jpeg) < len(jpegs.pack(plain)) + 12
    other = edited(tables[0], (tables[0][9:12], b"abc"))
    _comes_back(edited(plain, (tables[0], other + tables[0] + tables[-1])))


def _segments(jpeg):
    from cnn_compression.payload.layout import segments

    return list(segments(jpeg))


def test_steps_of_16_bits(plain):
    [first, *_] = [plain[a:b] for marker, a, b in _segments(plain) if marker == 0xDB]
    steps = b"".join(bytes([1, step]) for step in first[5:])
    _comes_back(edited(plain, (first, b"\xff\xdb\0\x83\x10" + steps)))
    with pytest.raises(PackedError, match="a quantisation step of 0"):
        jpegs.pack(edited(plain, (first, first[:9] + b"\0" + first[10:])))


def test_padding_and_fill_bytes_of_restart_intervals(photos):
    jpeg = by_pillow(picture(photos), restart_marker_blocks=2)
    parsed = reading.read(jpeg, 10**6)
    [scan] = parsed.scans
    generator = np.random.default_rng(0)
    padding = scan.padding & generator.integers(0, 256, len(scan.padding), np.uint8)
    others = [scan._replace(padding=np.zeros_like(padding)), scan._replace(padding=padding)]
    others += [scan._replace(fills=generator.integers(0, 300, len(scan.fills)))]
    others += [others[1]._replace(fills=others[2].fills, tail=b"\0\xff\0\1")]
    for other in others:
        _comes_back(coefficients.write(parsed._replace(scans=(other,))))
    too_many = scan._replace(fills=np.full(len(scan.fills), 1 << 17))
    with pytest.raises(PackedError, match="at most 1048576 fill bytes"):
        jpegs.pack(coefficients.write(parsed._replace(scans=(too_many,))))


SCRIPTS = [
    (BASELINE, [((0,), 0, 63, 0, 0), ((2,), 0, 63, 0, 0), ((1,), 0, 63, 0, 0)]),
    (BASELINE, [((1, 2), 0, 63, 0, 0), ((0,), 0, 63, 0, 0)]),
    (PROGRESSIVE, [((0, 1, 2), 0, 0, 0, 0), ((2,), 1, 63, 0, 0), ((0,), 1, 63, 0, 0)]),
    (
        PROGRESSIVE,
        [((0,), 0, 0, 0, 3), ((1, 2), 0, 0, 0, 0)]
        + [((0,), 0, 0, 3, 2), ((0,), 0, 0, 2, 1), ((0,), 0, 0, 1, 0)]
        + [((0,), 1, 9, 0, 2), ((0,), 10, 63, 0, 1), ((0,), 1, 9, 2, 1), ((0,), 1, 9, 1, 0)]
        + [((0,), 10, 63, 1, 0), ((1,), 1, 63, 0, 0)],
    ),
]


@pytest.mark.parametrize("marker, script", SCRIPTS)
@pytest.mark.parametrize("interval", [0, 7])
def test_scans_of_every_kind(photos, monkeypatch, marker, script, interval):
    parsed = coefficients.parse(by_pillow(picture(photos), quality=80, progressive=False))
    scans = [
        Scan(*scan, dc=(0,) * len(scan[0]), ac=(1,) * len(scan[0]), restart_interval=interval)
        for scan in script
    ]
    monkeypatch.setattr(coefficients, "_script", lambda frame: scans)
    frame = parsed.frame._replace(marker=marker)
    restarts = b"\xff\xdd\0\x04" + interval.to_bytes(2, "big")
    jpeg = coefficients.compose(frame, parsed.quantisation, parsed.coefficients, restarts)
    _comes_back(jpeg)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_short_runs_of_blocks_without_coefficients(photos, most):
    """As encoders make them that know no longer ones."""
    parsed = coefficients.parse(by_pillow(picture(photos), quality=30, progressive=True))
    assert max(scan.longest_run for scan in parsed.scans) > 5
    blocks = coefficients._joined(parsed.frame, parsed.coefficients)
    parts = []
    for between, scan in zip(parsed.between, parsed.scans, strict=False):
        scan = scan._replace(most_run=most)
        _, counts = coefficients._tokens(parsed.frame, scan, blocks)
        tables = {key: huffman.optimal(counts[slot(key)]) for key in scan.tables}
        parts.append((scan._replace(tables=tables), between))
    heads = []
    for scan, between in parts:
        tables = [segment(0xC4, bytes([key]) + table) for key, table in scan.tables.items()]
        at = between.rindex(b"\xff\xda")
        heads.append(between[:at] + b"".join(tables) + between[at:])
    scans = tuple(scan for scan, _ in parts)
    other = parsed._replace(scans=scans, between=(*heads, parsed.between[-1]))
    jpeg = coefficients.write(other)
    with pytest.raises(ValueError, match="coded as libjpeg does not"):
        coefficients.parse(jpeg)
    _comes_back(jpeg)


def test_blocks_that_fill_up_mcus_may_be_any(photos):
    parsed = coefficients.parse(by_pillow(picture(photos, height=70, width=70), quality=80))
    plain = coefficients.write(parsed)
    parsed.coefficients[0][-1, -1, :9] = 5
    packed = _comes_back(coefficients.write(parsed))
    assert jpeg_layout.read(jpegs.pack(plain))[0].padded
    assert not jpeg_layout.read(packed)[0].padded


def test_a_payload_stays_one_and_one_written_anew_is_a_jpeg(codec):
    payload = (GOLDEN / "version2" / "colour.cnn.jpg").read_bytes()
    packed = cnn_compression.pack_jpeg(payload)
    assert packed == codec.pack(payload) and not jpeg_layout.is_packed(packed)
    assert cnn_compression.unpack_jpeg(packed) == payload
    assert is_payload(payload + b"more")
    packed = cnn_compression.pack_jpeg(bytearray(payload + b"more"))
    assert jpeg_layout.is_packed(packed)
    assert cnn_compression.unpack_jpeg(memoryview(packed)) == payload + b"more"
    for call in (codec.unpack, codec.decode):
        with pytest.raises(PackedError, match="a packed JPEG, and no packed payload: `unpack`"):
            call(packed)


@pytest.mark.parametrize(
    "edits, reason",
    [
        ([(b"\xff\xc0", b"\xff\xc9")], "arithmetic coding"),
        ([(b"\xff\xc0", b"\xff\xc3")], "lossless"),
        ([(b"\xff\xc0", b"\xff\xc5")], "hierarchical"),
        ([(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")], "8 bits. Received: 12 bits"),
        ([(b"\xff\xd8", b"\x89P")], "not a JPEG: expected FF D8"),
        ([(b"\xff\xd9", b"")], "damaged JPEG: it has no end"),
        ([(b"\xff\xc0", b"\xff\xc8")], "is not read: unknown, marker FFC8"),
    ],
)
def test_other_kinds_are_refused_with_a_reason(plain, edits, reason):
    with pytest.raises(PackedError, match=reason):
        jpegs.pack(edited(plain, *edits))


def test_further_kinds_that_are_refused(photos, monkeypatch, plain):
    with pytest.raises(PackedError, match="grey or YCbCr. Received: 4 components"):
        jpegs.pack(by_pillow(picture(photos, mode="CMYK")))
    factors = Component(1, 3, 1, 0), Component(2, 1, 1, 0), Component(3, 1, 1, 0)
    frame = Frame(BASELINE, 8, 24, factors)
    blocks = [np.ones((1, n, 64), np.int16) for n in (3, 1, 1)]
    jpeg = coefficients.compose(frame, (np.ones(64, np.uint16),) * 3, blocks)
    with pytest.raises(PackedError, match="one block of chroma for 3 x 1 of luma"):
        jpegs.pack(jpeg)
    grey = Frame(BASELINE, 8, 8, factors[1:2])
    jpeg = coefficients.compose(grey, (np.ones(64, np.uint16),), [2048 * blocks[1]])
    with pytest.raises(PackedError, match="expected coefficients of 2047 and less"):
        jpegs.pack(jpeg)
    with pytest.raises(PackedError, match="damaged"):
        jpegs.pack(plain[:-100] + plain[-2:])
    with pytest.raises(PackedError, match="at most 8382 pixels. Received: 101 x 83"):
        jpegs.pack(plain, max_pixels=8382)
    monkeypatch.setattr(jpeg_layout, "_MOST_INFLATED", 9999)
    with pytest.raises(PackedError, match="beside the picture: at most 9999 are packed"):
        jpegs.pack(plain + bytes(9999))
    monkeypatch.setattr(strips, "write", lambda *_: [bytes(len(plain))])
    with pytest.raises(PackedError, match=f"gets no smaller: {len(plain)} bytes"):
        jpegs.pack(plain)


def test_coefficients_that_no_picture_has_are_refused():
    random = np.random.default_rng(0)
    levels = random.choice([-1, 1], (16, 16, 64)) * random.integers(900, 1024, (16, 16, 64))
    frame = Frame(BASELINE, 128, 128, (Component(1, 1, 1, 0),))
    levels = levels.astype(np.int16)
    jpeg = coefficients.compose(frame, (np.ones(64, np.uint16),), (levels,))
    with pytest.raises(PackedError, match="this JPEG gets no smaller"):
        jpegs.pack(jpeg)


def test_what_does_not_come_back_is_refused(plain):
    reason = "would not come back: it is damaged, or coded in a way that is not foreseen"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coefficients, "write", lambda structure: plain[:-1])
        with pytest.raises(PackedError, match=reason):
            jpegs.pack(plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpegs, "unpack", lambda *_: plain[:-1])
        with pytest.raises(PackedError, match=reason):
            jpegs.pack(plain)


@pytest.mark.parametrize("blocks", [8, 40])
def test_strips_are_independent_and_give_the_same_whatever_works_on_them(
    photos, monkeypatch, blocks
):
    for chroma in ("4:2:2", "4:2:0"):
        jpeg = by_pillow(picture(photos, height=130), subsampling=chroma)
        monkeypatch.setattr(strips, "_BLOCKS", 4096)
        whole = jpegs.pack(jpeg)
        monkeypatch.setattr(strips, "_BLOCKS", blocks)
        packed = jpegs.pack(jpeg)
        assert len(packed) > len(whole)
        with monkeypatch.context() as patch:
            patch.setattr(os, "cpu_count", lambda: 1)
            assert jpegs.pack(jpeg) == packed
            assert jpegs.unpack(packed) == jpeg


# The file.


def test_standard_segments_cost_next_to_nothing(photos):
    """Standard tables of any quality, standard Huffman codes and libjpeg's scans."""
    for quality in (40, 75, 96):
        for settings in ({}, {"subsampling": "4:2:2"}):
            packed = jpegs.pack(by_pillow(picture(photos), quality=quality, **settings))
            header, at = jpeg_layout.read(packed)
            assert header.quality == quality and at <= 48
    packed = jpegs.pack(by_pillow(picture(photos), quality=75, progressive=True, optimize=True))
    header, at = jpeg_layout.read(packed)
    tables = sum(len(body) for marker, body in _bodies(header.segments) if marker == 0xC4)
    assert at <= 120 + tables


def _bodies(jpeg):
    return [(marker, jpeg[start + 4 : end]) for marker, start, end in _segments(jpeg)]


def test_foreseen_segments_never_change():
    crcs = [zlib.crc32(foreseen.segments(quality)) for quality in (0, 1, 75, 100)]
    assert crcs == FORESEEN_CRCS


FORESEEN_CRCS = [1428265961, 593311914, 474826738, 4076548332]


def _golden(name, suffix=".cnnp"):
    """A JPEG, and what it was once packed into."""
    jpeg = (GOLDEN / "packed" / "jpegs" / f"{name}.jpg").read_bytes()
    file = GOLDEN / "packed" / "jpegs" / f"{name}.cnnp"
    if os.environ.get("CNN_COMPRESSION_REGENERATE_GOLDEN") == "1" and not file.exists():
        file.write_bytes(jpegs.pack(jpeg))
    return jpeg, file.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_golden_packed_files_give_their_jpegs(name):
    jpeg, packed = _golden(name)
    assert jpegs.unpack(packed) == jpeg
    header, at = jpeg_layout.read(packed)
    image = Image.open(GOLDEN / "packed" / "jpegs" / f"{name}.jpg")
    assert header.shape == (image.height, image.width, len(image.getbands()))
    assert jpeg_layout.is_of(packed, at, jpeg) and not jpeg_layout.is_of(packed, at, jpeg[1:])
    if header.networks == predictors.find_for_jpegs()[1]:
        again = jpegs.pack(jpeg)
        assert jpeg_layout.read(again)[0] == header
        assert again[jpeg_layout.read(again)[1] :] == packed[at:]


@pytest.mark.parametrize("name", NAMES)
def test_every_changed_byte_and_every_cut_is_refused(name):
    _, packed = _golden(name)
    assert_damage_is_refused(jpegs.unpack, packed)


def test_every_damaged_segment_is_refused():
    """Which no checksum finds before all is decoded."""
    for name in NAMES:
        jpeg, packed = _golden(name)
        checksum = zlib.crc32(jpeg)
        header, at = jpeg_layout.read(packed)
        inside = header.segments
        for place in range(0, len(inside), 3):
            other = inside[:place] + bytes([inside[place] ^ 1 << place % 8]) + inside[place + 1 :]
            for segments in (other, inside[:place]):
                data = jpeg_layout.write(
                    replace(header, segments=segments), checksum, [packed[at:]]
                )
                with pytest.raises(PackedError):
                    jpegs.unpack(data)
        for ways in (b"\1", b"\7\1", b"\x08", b"\2" + b"\xff\xff\xff\xff\x7f" * 40):
            if ways != header.ways:
                data = jpeg_layout.write(replace(header, ways=ways), checksum, [packed[at:]])
                with pytest.raises(PackedError):
                    jpegs.unpack(data)


def test_a_header_alone_has_nothing_allocated(monkeypatch):
    _, packed = _golden("restarts")
    header, at = jpeg_layout.read(packed)
    height, width, _ = header.shape
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    large = edited(header.segments, (size, b"\x3a\x98\x3e\x80"))
    data = jpeg_layout.write(replace(header, segments=large), 0, [packed[at : at + 50]])
    monkeypatch.setattr(np, "zeros", lambda *_: pytest.fail("allocated"))
    with pytest.raises(PackedError, match=f"{len(data)} bytes cannot hold 5626000 blocks"):
        jpegs.unpack(data)
    with pytest.raises(PackedError, match="16000 x 15000 pixels: at most 1000 are taken"):
        jpegs.unpack(data, max_pixels=1000)


def test_networks_that_are_not_installed_are_named(monkeypatch, plain):
    _, packed = _golden("restarts")
    header, at = jpeg_layout.read(packed)
    other = jpeg_layout.write(replace(header, networks="01234567"), 0, [packed[at:]])
    with pytest.raises(PackedError, match="networks 01234567 in saved_models/packing: not there"):
        jpegs.unpack(other)
    monkeypatch.setattr(predictors, "folders", list)
    with pytest.raises(PackedError, match="networks for JPEGs in saved_models/packing: not there"):
        jpegs.pack(plain)


def test_each_kind_has_the_newest_networks_of_its_own(tmp_path, monkeypatch):
    networks, name = predictors.find()
    of_jpegs, its_name = predictors.find_for_jpegs()
    assert networks.model and not of_jpegs.model and name != its_name
    for number, one in enumerate((networks, of_jpegs, networks, of_jpegs)):
        changed = one.luma._replace(last2_bias=one.luma.last2_bias + number)
        one = dataclasses.replace(one, luma=changed)
        (tmp_path / f"{number}.npz").write_bytes(predictors.saved(one))
    monkeypatch.setattr(predictors, "folders", lambda: [tmp_path])
    for found, number in ((predictors.find(), 2), (predictors.find_for_jpegs(), 3)):
        assert found[1] == predictors.load(tmp_path / f"{number}.npz").fingerprint


# The command line.


def test_commands_pack_and_unpack_photographs(photos, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    jpeg = by_pillow(picture(photos), quality=88)
    Path("photo.JPG").write_bytes(jpeg)
    status, out, err = command("pack", "photo.JPG")
    assert (status, err) == (0, []) and Path("photo.JPG").read_bytes() == jpeg
    assert len(Path("photo.JPG.cnnp").read_bytes()) < len(jpeg)
    line = command("info", "photo.JPG.cnnp")[1]
    assert line.startswith("photo.JPG.cnnp: 101x83, colour, JPEG quality 88, ")
    assert line.strip().endswith("bytes, no payload, packed")
    status, _, err = command("decode", "photo.JPG.cnnp")
    assert status == 1 and "no packed payload: `unpack` gives it back" in err[0]
    status, _, err = command("unpack", "photo.JPG.cnnp")
    assert status == 1 and "the output exists: photo.JPG; pass --overwrite" in err[0]
    assert command("unpack", "photo.JPG.cnnp", "-o", "out/")[0] == 0
    assert Path("out/photo.JPG").read_bytes() == jpeg
    assert command("unpack", "photo.JPG.cnnp", "-o", "-", "--max_pixels=99")[0] == 1
    Path("photo.JPG.cnnp").rename("other.cnnp")
    assert command("unpack", "other.cnnp")[0] == 0 and Path("other.jpg").read_bytes() == jpeg
    status, _, err = command("pack", ".")
    assert status == 1 and "the folder has no *.cnn.jpg files" in err[0]


def test_commands_say_why_a_file_is_refused(photos, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("four.jpg").write_bytes(by_pillow(picture(photos, mode="CMYK")))
    Path("note.jpg").write_bytes(b"no JPEG")
    for name, reason in (
        ("four", "Received: 4 components"),
        ("note", "not a JPEG: expected FF D8"),
    ):
        status, _, err = command("pack", f"{name}.jpg")
        assert status == 1 and len(err) == 1 and f"{name}.jpg: " in err[0] and reason in err[0]
        assert not list(Path().glob("*.cnnp"))


def test_layouts_know_each_other(plain):
    packed = jpegs.pack(plain)
    with pytest.raises(PackedError, match="no packed payload"):
        layout.read(packed)
    with pytest.raises(PackedError, match="not a packed JPEG: expected CNNP and 2"):
        jpeg_layout.read(b"CNNP\1")
    with pytest.raises(PackedError, match="not a packed payload: expected CNNP"):
        jpegs.unpack(b"something else")
    with pytest.raises(PackedError, match="version must be 0 to 3. Received: 4"):
        jpegs.unpack(b"CNNP\4" + packed[5:])
