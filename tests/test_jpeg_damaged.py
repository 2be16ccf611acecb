"""Damaged JPEGs, and structures that are none, are refused before anything goes wrong."""

import numpy as np
import pytest
from jpeg_files import by_pillow, comes_back, edited, picture
from PIL import Image

from cnn_compression.jpeg import coefficients, huffman, scan_decoding, scan_encoding
from cnn_compression.jpeg.segments import MOST_SCANS


def all_refused_or_back(files):
    """How many of damaged files were taken; each of those comes back."""
    taken = 0
    for data in files:
        try:
            parsed = coefficients.parse(data, max_pixels=10**6)
        except ValueError as error:
            assert "\n" not in str(error) and str(error)
        else:
            assert coefficients.write(parsed) == data
            taken += 1
    return taken


@pytest.fixture(params=["baseline", "progressive", "restarts"])
def good(request, photos):
    settings = {
        "baseline": {"optimize": True},
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_blocks": 3, "progressive": True, "quality": 30},
    }
    return by_pillow(picture(photos, height=49, width=63), **settings[request.param])


def test_truncated_files_are_refused(good):
    assert all_refused_or_back(good[:size] for size in range(len(good))) == 0


def test_damaged_files_are_refused_or_come_back(good):
    random = np.random.default_rng(4)
    header = good.index(b"\xff\xda") + 10

    def damaged():
        for at in range(header):
            for value in (0, 1, 0x7F, 0xFF, good[at] ^ 0x10):
                yield good[:at] + bytes([value]) + good[at + 1 :]
        for _ in range(1500):
            data = bytearray(good)
            for at in random.integers(0, len(data), random.integers(1, 5)):
                data[at] = random.choice([0, 0xFF, random.integers(0, 256)])
            yield bytes(data)
        for _ in range(500):
            start, end = sorted(random.integers(0, len(good), 2))
            yield good[:start] + good[end:]
            yield good[:end] + good[start:]

    assert all_refused_or_back(damaged()) > 100


def test_kernels_stay_inside_on_random_bits_and_random_coefficients(monkeypatch):
    """The same loops in Python, where every index out of range raises."""
    random = np.random.default_rng(5)
    for module in (scan_decoding, scan_encoding):
        for name, value in vars(module).copy().items():
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)
    units = np.array([[0, 4, 2, 0, 0, 4], [1, 4, 2, 0, 0, 4], [8, 2, 1, 1, 1, 5]])
    grid, ends = np.array([2, 2]), np.array([40, 90])
    broad = huffman.optimal(random.integers(0, 9, 256))
    dense = huffman.optimal(np.bincount([0x00, 0x01, 0xF0, 0xE0, 0x11, 0xF1, 0xFF] * 9, None, 256))
    for kind in range(5):
        bounds = (1, 63, 0) if kind == 0 else (0, 0, 2) if kind in (1, 3) else (1, 63, 1)
        for table in (broad, dense):
            lookups = np.tile(huffman.lookup(table), (8, 1))
            for _ in range(30):
                data = np.zeros(90 + scan_decoding.MARGIN, np.uint8)
                data[:90] = random.integers(0, 256, 90)
                blocks = random.integers(-2, 3, (12, 64)).astype(np.int16)
                stops = np.zeros(2, np.int64)
                scan_decoding.decode_scan(
                    data, ends, blocks, units, grid, 2, kind, bounds, lookups, stops
                )
            for most in (1, 3, 300, 32767):
                blocks = random.integers(-most - 1, most + 1, (12, 64)).astype(np.int16)
                tokens, counts, done = scan_encoding.tokenise(
                    blocks, units, grid, 2, kind, bounds, 32767
                )
                codes = np.full([scan_encoding.SLOTS, 256], 16 << 16 | 0xFFFF, np.uint32)
                codes[8:] = 0
                padding, stops = np.zeros(2, np.uint8), np.zeros(2, np.int64)
                if done:
                    scan_encoding.emit(tokens, codes, padding, stops)
                    assert counts.sum() == len(tokens)


def head_of(width, height, precision=8, factors=0x11):
    frame = bytes([precision, *height.to_bytes(2, "big"), *width.to_bytes(2, "big"), 1, 1, factors])
    return b"\xff\xc0\0\x0b" + frame + b"\0"


@pytest.mark.parametrize(
    "edit, match",
    [
        (lambda data: b"", "no end"),
        (lambda data: b"\xff\xd8\xff\xd9", "no scan"),
        (lambda data: b"\x89PNG" + data, "no end"),
        (lambda data: edited(data, (b"\xff\xc0", b"\xff\xc9")), "FFC9"),
        (lambda data: edited(data, (b"\xff\xc0\0\x0b\x08", b"\xff\xc0\0\x0b\x0c")), "12 bits"),
        (lambda data: edited(data, (head_of(24, 16), head_of(2400, 1600))), "at most 1000000"),
        (lambda data: edited(data, (head_of(24, 16), head_of(999, 999))), "truncated"),
        (lambda data: edited(data, (head_of(24, 16), head_of(24, 0))), "24 x 0"),
        (lambda data: edited(data, (head_of(24, 16), head_of(24, 16, 8, 0x05))), "factors"),
        (lambda data: edited(data, (head_of(24, 16), head_of(24, 16) * 2)), "two frames"),
        (lambda data: edited(data, (head_of(24, 16), b"")), "without a frame"),
        (lambda data: edited(data, (b"\xff\xda\0\x08\1\1", b"\xff\xda\0\x08\1\2")), "components"),
        (lambda data: edited(data, (b"\xff\xda\0\x08\1\1\0", b"\xff\xda\0\x08\1\1\3")), "Huffman"),
        (lambda data: edited(data, (b"\xff\xda", b"\xff\xd0\xff\xda")), None),
        (lambda data: edited(data, (b"\xff\xd9", b"\xff\xd0\xff\xd9")), "restart markers"),
        (lambda data: edited(data, (b"\xff\xdb", b"\xff\xe3")), "quantisation"),
        (lambda data: data[:-2] + b"\xff" * 10**6 + b"\0\xff\xd9", "coded as"),
        (lambda data: data[:-2] + data[data.index(b"\xff\xda") : -2] * MOST_SCANS + b"\xff\xd9",
         "order of its scans"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(photos, edit, match):
    data = edit(by_pillow(picture(photos, "camera", 16, 24, "L")))
    if match is None:
        assert comes_back(data)
        return
    with pytest.raises(ValueError, match=match):
        coefficients.parse(data, max_pixels=10**6)


def test_runs_that_libjpeg_would_join_are_refused():
    """Such a file cannot be written again: nothing in it says where runs end."""
    jpeg = by_pillow(Image.new("L", (64, 64)), progressive=True)
    parsed = coefficients.parse(jpeg)
    scan = parsed.scans[1]
    table = bytes([2, *[0] * 15, 0x00, 0x10])  # EOB0: 0, EOB1: 10
    start = parsed.between[1].rindex(b"\xff\xda")
    head = b"\xff\xc4\0\x15\x10" + table + parsed.between[1][start:]
    parts = coefficients.write(parsed).split(parsed.between[1])
    rest = parts[1][parts[1].index(b"\xff") :]
    assert scan.first == 1
    with pytest.raises(ValueError, match="coded as libjpeg does not"):
        coefficients.parse(parts[0] + head + bytes(8) + rest)


def test_shapes_and_values_are_checked(photos):
    parsed = coefficients.parse(by_pillow(picture(photos), optimize=True))
    frame, steps, blocks = parsed.frame, parsed.quantisation, parsed.coefficients
    for wrong in (blocks[:2], (blocks[0][:-1], *blocks[1:]), [one.astype(int) for one in blocks]):
        with pytest.raises(ValueError, match="expected int16 coefficients"):
            coefficients.compose(frame, steps, wrong)
        with pytest.raises(ValueError, match="expected int16 coefficients"):
            coefficients.write(parsed._replace(coefficients=wrong))
    with pytest.raises(ValueError, match="quantisation steps of 1 to 255"):
        coefficients.compose(frame, [one * 256 for one in steps], blocks)
    large = [np.full_like(one, -32768) for one in blocks]
    with pytest.raises(ValueError, match="more bits"):
        coefficients.compose(frame, steps, large)
    with pytest.raises(ValueError, match="no code"):
        coefficients.write(parsed._replace(coefficients=[one * 100 for one in blocks]))
    [scan] = parsed.scans
    for changed in ({"dc": (9, 9, 9)}, {"components": (0, 1, 7)}, {"restart_interval": 2}):
        with pytest.raises(ValueError):
            coefficients.write(parsed._replace(scans=(scan._replace(**changed),)))
    with pytest.raises(ValueError, match="1 or 3 components"):
        coefficients.compose(frame._replace(components=frame.components[:2]), steps, blocks)
