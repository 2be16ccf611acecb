"""Any bytes -> packed -> the same bytes: the coders, in Python and on the command line."""

import collections
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from cnn_compression import files
from cnn_compression.cli import progress
from cnn_compression.packing import (
    any_bytes,
    bytes_layout,
    counts,
    formats,
    kernels,
    layout,
    range_coder,
)
from cnn_compression.packing.layout import PackedError

TEXT = (b"Peter Piper picked a peck of pickled peppers. Did Peter Piper pick them? " * 5)[:300]
NOISE = np.random.default_rng(0).bytes(200)
TINY = [b"", b"a", b"\0" * 31]


def xor_stream(size, back=20):
    """0s and 1s, each the last XOR the one so many back, as in DeepZip's paper."""
    stream = np.random.default_rng(0).integers(0, 2, back).tolist()
    while len(stream) < size:
        stream.append(stream[-1] ^ stream[-back])
    return bytes(48 + symbol for symbol in stream)


@pytest.mark.parametrize("method", bytes_layout.METHODS)
@pytest.mark.parametrize("data", TINY)
def test_next_to_nothing_is_kept_as_it_is(method, data):
    packed = any_bytes.pack(data, method)
    assert packed == b"CNNP\x03\0" + zlib.crc32(data).to_bytes(4, "big") + data
    assert any_bytes.unpack(packed) == data


@pytest.mark.parametrize("method", bytes_layout.METHODS)
def test_noise_is_kept_as_it_is(method):
    packed = any_bytes.pack(NOISE, method)
    assert len(packed) == len(NOISE) + 10 and any_bytes.unpack(packed) == NOISE
    with pytest.raises(PackedError, match="the checksum does not match"):
        any_bytes.unpack(packed[:50] + bytes([packed[50] ^ 1]) + packed[51:])


@pytest.mark.slow
def test_a_fresh_process_gives_the_bytes_back(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_bytes(TEXT)
    Path("bits").write_bytes(xor_stream(6000))
    Path("empty.bin").write_bytes(b"")
    assert command("pack", "notes.txt", "empty.bin")[::2] == (0, [])
    assert command("pack", "bits", "--method=deepzip")[::2] == (0, [])
    assert Path("notes.txt.cnnp").stat().st_size < 0.6 * len(TEXT)
    assert Path("bits.cnnp").stat().st_size < 300
    lines = command("info", "notes.txt.cnnp", "bits.cnnp", "empty.bin.cnnp")[1].splitlines()
    assert lines[0].startswith("notes.txt.cnnp: 300 bytes of any kind, ")
    assert [line.split(", ")[2] for line in lines] == ["online", "deepzip", "as it was"]
    program = [sys.executable, "-m", "cnn_compression", "unpack", ".", "-o", "out/"]
    run = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stderr) == (0, "")
    for name in ("notes.txt", "bits", "empty.bin"):
        assert Path("out", name).read_bytes() == Path(name).read_bytes()


@pytest.mark.slow
def test_a_single_value_takes_next_to_nothing_by_both_methods():
    for method, size, most in (("online", 300, 60), ("deepzip", 1000, 250)):
        packed = any_bytes.pack(b"\xff" * size, method)
        assert len(packed) < most and packed[5] == bytes_layout.METHODS[method]
        assert any_bytes.unpack(packed) == b"\xff" * size


def test_other_floats_and_changed_bits_are_refused(monkeypatch):
    packed = any_bytes.pack(TEXT)
    assert any_bytes.unpack(packed) == TEXT
    with pytest.raises(PackedError, match="the same machine with the same build of TensorFlow"):
        any_bytes.unpack(packed[:30] + bytes([packed[30] ^ 8]) + packed[31:])
    from cnn_compression.packing import byte_networks

    def restart(network, as_it_is=byte_networks.Online.restart):
        as_it_is(network)
        network.mix.kernel.assign(network.mix.kernel * 1.001)

    monkeypatch.setattr(byte_networks.Online, "restart", restart)
    with pytest.raises(PackedError, match="packed where floats come out otherwise: the checksum"):
        any_bytes.unpack(packed)


def test_bytes_that_would_not_come_back_are_not_packed(monkeypatch):
    monkeypatch.setitem(any_bytes._PACK, bytes_layout.ONLINE, lambda *_: b"12")
    other = np.zeros(len(TEXT), np.uint8), range_coder.reader(b"12")
    monkeypatch.setitem(any_bytes._UNPACK, bytes_layout.ONLINE, lambda *_: other)
    with pytest.raises(PackedError, match="these bytes would not come back"):
        any_bytes.pack(TEXT)


def test_damaged_headers_are_refused_at_once():
    whole = bytes_layout.write(bytes_layout.ONLINE, TEXT, b"1234")
    assert bytes_layout.read(whole) == ((1, zlib.crc32(TEXT), 300), len(whole) - 4)
    for data, words in [
        (b"GNNP" + whole[4:], "not packed bytes"),
        (whole[:9], "cut short"),
        (whole[:11], "cut short"),
        (whole[:5] + b"\x03" + whole[6:], "method must be 0, 1 or 2. Received: 3"),
        (whole[:10] + b"\0", "bytes cannot hold 0"),
        (whole[:10] + b"\xff\xff\xff\xff\x7f" + whole[12:], "bytes cannot hold 34359738367"),
    ]:
        with pytest.raises(PackedError, match=words):
            any_bytes.unpack(data)
    with pytest.raises(ValueError, match="method must be one of online, deepzip. Received: 'zip'"):
        any_bytes.pack(TEXT, "zip")


@pytest.mark.parametrize(
    "network, words",
    [
        (b"no network", "its network cannot be read"),
        (zlib.compress(b"short"), "its network cannot be read"),
        (zlib.compress(b"\1" + bytes(40)), "fewer than two symbols"),
        (zlib.compress(b"\3" + bytes(40)), "its network is none that is written"),
    ],
)
def test_damaged_networks_are_refused(network, words):
    coded = layout.leb128(len(network)) + network + b"12"
    with pytest.raises(PackedError, match=words):
        any_bytes.unpack(bytes_layout.write(bytes_layout.DEEPZIP, TEXT, coded))


def test_coded_bits_bound_how_many_bytes_they_hold():
    """As far as headers are believed: no byte is cheaper than the surest symbols are."""
    for method, symbols, of_a_byte in [(bytes_layout.ONLINE, [counts.HALF], 2)] + [
        (bytes_layout.DEEPZIP, range(2, 257), 1)
    ]:
        many = 40_000
        sizes = []
        for alphabet in symbols if method == bytes_layout.ONLINE else [2, 3, 17, 256]:
            chances = np.eye(alphabet, dtype=np.float32)[np.zeros(many, int)]
            coder = range_coder.writer(many)
            least = any_bytes.least(alphabet)
            kernels.code_symbols(*coder, chances, least, np.zeros(many, np.int32))
            sizes.append(len(range_coder.finish(*coder)))
        bound = bytes_layout._BYTES_A_BYTE[method]
        assert min(sizes) >= 1 and many / of_a_byte <= bound * (min(sizes) + 4)


@pytest.mark.parametrize("alphabet", [2, 3, 16, 200, 256])
def test_symbols_come_back_and_take_what_they_tell(alphabet):
    random = np.random.default_rng(alphabet)
    chances = random.dirichlet(np.full(alphabet, 0.5), 500).astype(np.float32)
    symbols = np.array([random.choice(alphabet, p=row / row.sum()) for row in chances], np.int32)
    chances[7], chances[8, 0], chances[9] = 0, np.nan, np.inf
    coder = range_coder.writer(2000)
    kernels.code_symbols(*coder, chances, 1, symbols)
    data = range_coder.finish(*coder)
    again, coder = np.zeros(500, np.int32), range_coder.reader(data)
    kernels.code_symbols(*coder, chances, 1, again)
    np.testing.assert_array_equal(again, symbols)
    assert range_coder.is_finished(*coder)
    told = -np.log2(chances[np.arange(10, 500), symbols[10:]]).sum() / 8
    assert told - 10 <= len(data) <= 1.05 * told + 20


def test_counts_are_of_what_followed_each_context():
    """Against lists of what followed, of one stream, by the first four contexts."""
    text = (b"abracadabra, " * 9)[:100]
    history = np.frombuffer(bytes(counts.LONGEST) + text, np.uint8)[None].copy()
    contexts, followed = counts.Contexts(1, 10_000), collections.defaultdict(list)
    for place in range(counts.LONGEST, history.shape[1]):
        contexts.move_to(history, place)
        byte, upper = int(history[0, place]), np.zeros(1, np.int32)
        for symbol in (byte >> 4, byte & 15):
            features = contexts.look_up(upper)[0]
            for k, length in enumerate(counts.LENGTHS[:4]):
                seen = followed[bytes(history[0, place - length : place]), int(upper[0])]
                fades = (1 - 2**-7) ** np.arange(len(seen))[::-1]
                tally = np.bincount(seen, fades, minlength=16)
                total = tally.sum()
                expected = [np.log((tally + 0.05) / (total / 16 + 0.05)), np.log1p(tally)]
                expected.append(np.full(16, np.log1p(total)))
                found = features[:, k :: counts.CONTEXTS].T
                np.testing.assert_allclose(found, expected, atol=0.1)
                seen.append(symbol)
            contexts.count(np.array([symbol], np.int32), 1)
            upper = np.array([1 + symbol], np.int32)


def test_streams_are_pieces_with_zeros_around_them():
    data = np.arange(1, 8, dtype=np.uint8)
    expected = [[0, 0, 1, 2, 3], [0, 0, 4, 5, 6], [0, 0, 7, 0, 0]]
    np.testing.assert_array_equal(any_bytes._streams(data, 7, 3, 2), expected)
    np.testing.assert_array_equal(any_bytes._streams(None, 7, 3, 2), np.zeros((3, 5)))
    coder = range_coder.writer(9)
    steps = list(any_bytes._steps(np.array(expected), 2, 7, coder, "", any_bytes._silent))
    assert steps == [(2, 3), (3, 2), (4, 2)]


def test_the_bar_says_how_far_a_file_is(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    bar = progress.ProgressBar()
    bar.files(0, 1, "notes.txt")
    bar.bytes("coding", 0, 200)
    bar.bytes("coding", 50, 200)
    lines = capsys.readouterr().err.split("\r\033[K")
    assert lines[1:3] == [f"[{'.' * 20}] 0/1 notes.txt{more}" for more in ("", ", coding, 0 %")]
    assert lines[3].endswith(", coding, 25 %, 0 s left")


def test_names_and_kinds():
    assert files.packed_file_name("a/notes.txt") == "a/notes.txt.cnnp"
    assert files.unpacked_name("a/notes.txt.cnnp", "") == "a/notes.txt"
    for name in ("notes.txt", ".cnnp", "a/.cnnp"):
        with pytest.raises(ValueError, match="expected a name that ends in .cnnp"):
            files.unpacked_name(name, "")
    for name, before in [
        ("a/photo.cnnp", "a/photo.cnn.jpg"),
        ("a/photo.JPEG.cnnp", "a/photo.JPEG"),
        ("my.cat.cnnp", "my.cat.cnn.jpg"),
        ("photo.bin", "photo.cnn.jpg"),
    ]:
        assert files.unpacked_name(name, ".cnn.jpg") == before
    assert formats.kind(any_bytes.pack(b"")) == formats.BYTES
    assert formats.kind(b"CNNP\x02") == formats.JPEG
    for data in (b"", b"CNNP", b"CNNP\x01", b"CNNP\x00", b"CNNP\xff", b"\xff\xd8"):
        assert formats.kind(data) == formats.PAYLOAD


def test_commands_say_what_they_do_not_take(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    for name in ("one.txt", "two.jpg", "three.cnnp"):
        Path("a", name).write_bytes(b"x")
    status, _, err = command("pack", "a")
    assert status == 1 and "the folder has no *.cnn.jpg files" in err[0]
    assert command("pack", "a", "--method=online", "-o", "b/")[::2] == (0, [])
    assert sorted(file.name for file in Path("b").iterdir()) == ["one.txt.cnnp", "two.jpg.cnnp"]
    assert command("unpack", "b", "-o", "c/")[::2] == (0, [])
    assert Path("c/two.jpg").read_bytes() == b"x"
    status, _, err = command("decode", "b/two.jpg.cnnp", "-o", "x.png")
    assert status == 1 and "no packed payload: `unpack` gives it back" in err[0]
    Path("b/one.txt.cnnp").rename("b/other.bin")
    status, _, err = command("unpack", "b/other.bin")
    assert status == 1 and "expected a name that ends in .cnnp, or -o with another" in err[0]
    assert command("unpack", "b/other.bin", "-o", "other.txt")[0] == 0
    Path("d.jpg").write_bytes(b"\xff\xd8 and no more")
    assert command("pack", "d.jpg")[0] == 1
    assert command("pack", "d.jpg", "--method=online")[0] == 0 and Path("d.jpg.cnnp").exists()
