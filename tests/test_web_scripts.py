"""The page's scripts that need no browser, run by node: they say what Python says."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from payload_files import joined, parts_of, sealed

from cnn_compression.payload import layout

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="no node on this machine")


def ask(program, value):
    """What a program makes of `value`, both JSON; it sets `answer`, and may `import` scripts."""
    run = subprocess.run(
        ["node", "--input-type=module", "-e",
         "import { readFileSync } from 'node:fs';"
         "const value = JSON.parse(readFileSync(0, 'utf8')); let answer;"
         "const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));"
         f"{program}; console.log(JSON.stringify(answer));"],
        input=json.dumps(value), cwd=ROOT / "web", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def text_of(data):
    return base64.b64encode(data).decode()


def digest(data):
    return tf.fingerprint(np.frombuffer(data, np.uint8)[None]).numpy().tobytes()


def test_the_checksum_is_tensorflow_s():
    random = np.random.default_rng(0)
    files = [random.bytes(length) for length in [*range(1, 200), 255, 256, 257, 4095, 70_001]]
    program = """
        const { farmhash64 } = await import("./farmhash.js");
        answer = value.map((text) => farmhash64(bytes(text)).toString())"""
    found = ask(program, [text_of(file) for file in files])
    assert found == [str(int.from_bytes(digest(file), "little")) for file in files]


READ = """
    const { readPayload } = await import("./payload.js");
    answer = value.map((text) => {
      try { return readPayload(bytes(text)).header; } catch (error) {
        if (!error.reason) throw error;
        return error.reason; } })"""


def expected_of(data):
    """What the page is to read: a header as a dict, or why not."""
    own = layout.own_segments(data)
    if len(own) != 1:
        return "damaged" if own else "foreign"
    try:
        header = layout.read_header(data)
    except layout.PayloadError as error:
        return "model" if "version must be" in str(error) else "damaged"
    whole = [*layout.segments(data)][-1].marker == 0xD9
    if not whole or digest(layout.covered(data)) != header.checksum:
        return "damaged"
    if not 1 <= header.quality <= 100:
        return "damaged"
    names = ("fingerprint", "height", "width", "channels", "scale", "quality")
    return {name: getattr(header, name) for name in names}


def damaged(files):
    """Files with bytes changed, put in, or left out."""
    random = np.random.default_rng(2)
    for number in range(300):
        data = bytearray(files[number % len(files)])
        at = int(random.integers(min(len(data), 700 if number % 2 else len(data))))
        match random.integers(4):
            case 0:
                data[at] = random.choice([0, 1, 0xD0, 0xD8, 0xD9, 0xDA, 0xE9, 0xFF])
            case 1:
                data[at:at] = b"\xff\xfe\x00\x07hello"
            case 2:
                del data[at : at + random.integers(1, 8)]
            case 3:
                del data[at:]
        yield bytes(data)


def test_headers_are_read_and_verified_as_in_python():
    files = [file.read_bytes() for file in sorted(GOLDEN.rglob("*.cnn.jpg"))]
    jfif, ours, *others = parts_of(files[-1])
    exif, comment = b"\xff\xe1\x00\x10Exif\x00\x00MM\x00*abcd", b"\xff\xfe\x00\x07hello"
    edited = [
        joined([exif, jfif, comment, ours, *others]) + b"a trailer \xff\xd8\xff\xd9",
        joined([b"\xff\xff", jfif, others[0], b"\xff", ours, comment, *others[1:]]),
        sealed(joined([jfif, ours[:2] + b"\x00\x27" + ours[4:] + b"more", *others])),
        joined([jfif, *[comment] * (1022 - len(others)), ours, *others]),
    ]
    refused = [
        joined([jfif, *others]), joined([jfif, ours, ours, *others]),
        joined([jfif, *others[:-1], ours, others[-1]]), joined([jfif, ours, *others[:-1]]),
        joined([jfif, *[comment] * (1023 - len(others)), ours, *others]),
        joined([jfif, ours[:8] + b"\x07" + ours[9:], *others]),
        b"", b"\xff\xd8", b"hello", files[0][:30], files[0][:50], b"\xff\xd8\xff\xd9",
    ]  # fmt: skip
    everything = [*files, *edited, *refused, *damaged(files)]
    found = ask(READ, [text_of(data) for data in everything])
    assert found == [expected_of(data) for data in everything]
    sound = len(files) + len(edited)
    assert all(isinstance(header, dict) for header in found[:sound])
    assert all(isinstance(reason, str) for reason in found[sound : sound + len(refused)])
    assert {"foreign", "damaged", "model"} <= {text for text in found if isinstance(text, str)}


def test_tiles_cover_a_side_once_and_overlap_by_the_reach():
    cases = [[n, tile, reach] for n in (1, 15, 16, 17, 300, 513, 4000) for tile in (128, 512)
             for reach in (0, 14, 28, 56)]  # fmt: skip
    program = """
        const { along } = await import("./tiles.js");
        answer = value.map((numbers) => along(...numbers))"""
    for (length, tile, reach), tiles in zip(cases, ask(program, cases), strict=True):
        assert [one["start"] for one in tiles] == [0, *(one["end"] for one in tiles[:-1])]
        assert tiles[-1]["end"] == length
        for one in tiles:
            assert 0 < one["end"] - one["start"] <= tile and one["first"] % 16 == 0
            assert one["first"] <= max(one["start"] - reach, 0)
            assert one["last"] >= min(one["end"] + reach, length)
