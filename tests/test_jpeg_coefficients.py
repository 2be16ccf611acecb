"""JPEGs come back from their coefficients byte for byte."""

import io
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from jpeg_files import by_pillow, comes_back, edited, picture
from PIL import Image
from small_pairs import pair

from cnn_compression.codec.codec import Codec
from cnn_compression.compiled import compiled
from cnn_compression.jpeg import coding, coefficients, huffman
from cnn_compression.jpeg.tables import ZIGZAG
from cnn_compression.payload import layout

ROOT = Path(__file__).parents[1]


def composed(jpeg, quality, chroma="4:2:0", extra=b""):
    """`compose` of what cannot be foreseen of a JPEG: the coefficients of blocks with pixels."""
    parsed = coefficients.parse(jpeg)
    height, width = layout.preview_size(jpeg)
    channels, progressive = len(parsed.coefficients), parsed.frame.marker == 0xC2
    frame = coefficients.foreseen_frame(height, width, channels, chroma, progressive)
    blocks = coefficients.cropped(frame, parsed.coefficients)
    tables = coefficients.quantisation_tables(quality, channels)
    return coefficients.compose(frame, tables, coefficients.padded(frame, blocks), extra)


@pytest.fixture(scope="module", params=[1, 2, 4])
def scaled(request):
    return Codec(pair(request.param))


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 8, 1), (37, 53, 3), (64, 96, 1), (71, 16, 3)])
def test_payloads(scaled, photos, shape):
    height, width, channels = shape
    image = photos["astronaut"][:height, :width, :channels]
    for quality in (1, 17, 34, 50, 61, 76, 90, 100):
        payload = scaled.encode(image, quality)
        assert comes_back(payload)
        [own] = layout.own_segments(payload)
        extra = payload[own.start : own.end]
        assert composed(payload, layout.read_header(payload).quality, extra=extra) == payload


@pytest.mark.parametrize("name", ["rocket", "camera"])
@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("progressive", [False, True])
def test_what_libjpeg_writes_is_foreseen_at_every_quality(photos, name, chroma, progressive):
    image = photos[name][:91, :77]
    for quality in range(1, 101, 3):
        jpeg = coding._encoder(chroma, (progressive,))(image, quality).numpy()
        assert composed(jpeg, quality, chroma) == jpeg


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimize": True},
        {"progressive": True},
        {"quality": 100},
        {"quality": 3, "progressive": True},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 1, "optimize": True},
        {"restart_marker_blocks": 5, "progressive": True},
        {"qtables": [list(range(1, 65)), [99] * 64]},
        {"comment": b"\xff\xd9\xff\xda" * 9, "exif": b"Exif\0\0" + b"\xff" * 99},
    ],
    ids=str,
)
def test_what_pillow_writes(photos, mode, settings):
    assert comes_back(by_pillow(picture(photos, mode=mode), **settings))


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (64, 64), (65, 33)])
def test_samplings_and_sizes(photos, chroma, size):
    for progressive in (False, True):
        image = picture(photos, "chelsea", *size)
        assert comes_back(by_pillow(image, subsampling=chroma, progressive=progressive))


def test_long_runs_of_blocks_without_coefficients():
    """More blocks than an EOB run may have."""
    for side in (8 * 181, 8 * 182, 8 * 256):
        jpeg = by_pillow(Image.new("L", (side, side)), progressive=True, dpi=(300, 300))
        assert composed(jpeg, 75) == jpeg


@pytest.mark.parametrize("coded", [0.1, 0.5, 1.0])
def test_more_correction_bits_than_libjpeg_holds(coded):
    """Blocks whose last scan has only bits for coefficients that are 2 or 3 already."""
    random = np.random.default_rng(6)
    values = random.integers(2, 4, (100, 100, 64)) * random.choice([-1, 1], (100, 100, 64))
    values *= random.random((100, 100, 64)) < coded * (random.random((100, 100, 1)) < 0.97)
    values[..., 0] = 0
    pixels = np.rint(128 + inverse_dct(8 * values)).astype(np.uint8)
    image, settings = Image.fromarray(pixels), {"quality": 50, "qtables": [[8] * 64]}
    jpeg = by_pillow(image, progressive=True, dpi=(300, 300), **settings)
    parsed = coefficients.parse(jpeg)
    assert (parsed.coefficients[0] == values).mean() > 0.99
    again = coefficients.compose(parsed.frame, parsed.quantisation, parsed.coefficients)
    assert again == jpeg


def inverse_dct(values):
    """Zigzag `[rows, columns, 64]` to pixels (T.81, A.3.3)."""
    rows, columns, _ = values.shape
    natural = np.zeros(values.shape)
    natural[..., ZIGZAG] = values
    u, x = np.arange(8)[:, None], np.arange(8)
    basis = np.cos((2 * x + 1) * u * np.pi / 16) * np.where(u == 0, np.sqrt(1 / 8), 1 / 2)
    blocks = natural.reshape(rows, columns, 8, 8)
    pixels = np.einsum("rcvu,vy,ux->rycx", blocks, basis, basis)
    return pixels.reshape(8 * rows, 8 * columns)


def test_coefficients_are_the_pixels(photos):
    """Of a grey image: the inverse DCT of coefficients times steps is what libjpeg decodes."""
    jpeg = by_pillow(picture(photos, "camera", 64, 80, "L"), quality=60, progressive=True)
    parsed = coefficients.parse(jpeg)
    [blocks], [steps] = parsed.coefficients, parsed.quantisation
    assert blocks.shape == (8, 10, 64) and blocks.dtype == np.int16
    pixels = inverse_dct(blocks * steps.astype(int))
    decoded = np.asarray(Image.open(io.BytesIO(jpeg))).astype(float)
    np.testing.assert_allclose(np.clip(pixels + 128, 0, 255), decoded, atol=1.0)


def test_what_is_foreseen_are_the_tables_of_every_quality():
    image = Image.new("RGB", (8, 8))
    for quality in range(1, 101):
        tables = Image.open(io.BytesIO(by_pillow(image, quality=quality))).quantization
        luma, *chroma = coefficients.quantisation_tables(quality, 3)
        natural = [np.empty(64, int) for _ in range(2)]
        natural[0][ZIGZAG], natural[1][ZIGZAG] = luma, chroma[1]
        assert [table.tolist() for table in natural] == list(tables.values())


def optimal_by_hand(counts):
    """`jpeg_gen_optimal_table` as libjpeg 6b wrote it."""
    frequency, size, other = [*counts, 1], [0] * 257, [-1] * 257
    while True:
        there = [i for i in range(257) if frequency[i]]
        there.sort(key=lambda i: (frequency[i], -i))
        if len(there) < 2:
            break
        one, two = there[:2]
        frequency[one] += frequency[two]
        frequency[two] = 0
        size[one] += 1
        while other[one] >= 0:
            one = other[one]
            size[one] += 1
        other[one] = two
        size[two] += 1
        while other[two] >= 0:
            two = other[two]
            size[two] += 1
    bits = [size.count(length) for length in range(33)]
    bits[0] = 0
    for i in range(32, 16, -1):
        while bits[i] > 0:
            j = i - 2
            while bits[j] == 0:
                j -= 1
            bits[i] -= 2
            bits[i - 1] += 1
            bits[j + 1] += 2
            bits[j] -= 1
    i = 16
    while bits[i] == 0:
        i -= 1
    bits[i] -= 1
    symbols = [j for length in range(1, 33) for j in range(256) if size[j] == length]
    return bytes(bits[1:17]) + bytes(symbols)


def test_optimal_tables_are_libjpegs():
    random = np.random.default_rng(2)
    several = [random.integers(0, most, 256) for most in (2, 3, 9, 1000)]
    several += [np.int64(2.0 ** random.uniform(-3, 20, 256)) for _ in range(20)]
    several += [np.eye(1, 256, 7, dtype=int)[0], np.pad(2 ** np.arange(28), (0, 228))]
    for counts in several:
        assert huffman.optimal(counts) == optimal_by_hand(counts.tolist())
    deep = huffman.optimal(several[-1])
    assert sum(deep[:16]) == 28 and deep[15] > 0
    with pytest.raises(ValueError, match="32 bits"):
        huffman.optimal(np.pad(2 ** np.arange(40), (0, 216)))


def test_a_tables_codes_are_the_lookups():
    random = np.random.default_rng(3)
    table = huffman.optimal(np.int64(2.0 ** random.uniform(-3, 20, 256)))
    entries, found = huffman.codes(table), huffman.lookup(table)
    for symbol in table[16:]:
        length, code = entries[symbol] >> 16, entries[symbol] & 0xFFFF
        start = code << (16 - length)
        expected = length << 8 | symbol
        assert (found[start : (code + 1) << (16 - length)] == expected).all()
    assert np.count_nonzero(found) == sum(
        1 << 16 - int(length) for length in entries[entries > 0] >> 16
    )
    assert found[-1] == 0  # ones alone are no code


def test_oddities_are_kept(photos):
    jpeg = by_pillow(picture(photos, height=40, width=40), restart_marker_blocks=2)
    first = jpeg.index(b"\xff\xd0")
    odd = {
        "fill bytes before RST": edited(jpeg, (b"\xff\xd1", b"\xff\xff\xff\xff\xd1")),
        "fill bytes before segments": edited(jpeg, (b"\xff\xdb", b"\xff\xff\xff\xdb")),
        "bytes after the scan": jpeg[:-2] + b"\0\x12\xff\0\x34\xff\xff\xd9",
        "bytes after the end": jpeg + b"\xff\xda\xff\xd8more",
        "a table that no scan uses": edited(
            jpeg, (b"\xff\xc0", b"\xff\xc4\0\x14\x13" + bytes(15) + b"\1\7\xff\xc0")
        ),
    }
    spare = [bit for bit in range(7) if jpeg[first - 1] >> bit & 1 == 1 and bit == 0]
    if spare:  # the last bit before the marker fills its byte
        odd["padding of zeros"] = jpeg[: first - 1] + bytes([jpeg[first - 1] & 0xFE]) + jpeg[first:]
    for what, data in odd.items():
        assert data != jpeg and comes_back(data), what


def sequential(jpeg, scans):
    """A sequential file with a scan for each tuple of components, with the tables it has."""
    parsed = coefficients.parse(jpeg)
    [scan] = parsed.scans
    names = [component.identifier for component in parsed.frame.components]
    before = parsed.between[0][: parsed.between[0].rindex(b"\xff\xda")]
    between, made = [], []
    for components in scans:
        ids = tuple(scan.dc[index] for index in components)
        made.append(scan._replace(components=components, dc=ids, ac=ids, padding=None, fills=None))
        body = bytes([len(components)])
        for index in components:
            body += bytes([names[index], scan.dc[index] << 4 | scan.ac[index]])
        head = b"\xff\xda" + (len(body) + 5).to_bytes(2, "big") + body + b"\0\x3f\0"
        between.append((b"" if between else before) + head)
    tables = {key: table for one in parsed.scans for key, table in one.tables.items()}
    made = [one._replace(tables=tables) for one in made]
    return parsed._replace(scans=tuple(made), between=(*between, b"\xff\xd9"))


@pytest.mark.parametrize("scans", [[(0,), (1,), (2,)], [(1, 2), (0,)], [(2, 0, 1)]])
def test_sequential_files_of_several_scans(photos, scans):
    jpeg = by_pillow(picture(photos, height=40, width=44), subsampling="4:2:0")
    split = coefficients.write(sequential(jpeg, scans))
    assert comes_back(split)
    if scans != [(2, 0, 1)]:  # of one scan, libjpeg puts up with no other order
        pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in (jpeg, split)]
        np.testing.assert_array_equal(*pixels)


def test_numba_starts_only_where_coefficients_are_wanted():
    program = (
        "import sys, cnn_compression, cnn_compression.codec, cnn_compression.cli\n"
        "from cnn_compression.jpeg import segments\n"
        "print('numba' in sys.modules)\n"
        "from cnn_compression.jpeg import coefficients\n"
        "print('numba' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "True"], run.stderr


def test_without_a_place_for_compiled_code():
    """A function whose file is none, like one in a folder that nobody may write to."""
    names = {}
    exec("def successor(x):\n    return x + 1", names)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(names["successor"], cache=True)
    assert compiled(names["successor"])(2) == 3
