"""What other programs do to a payload: what they may, what is found out, and two readers agree."""

import io
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from payload_files import joined, parts_of, sealed
from PIL import Image
from small_pairs import pair

from cnn_compression.codec import Codec
from cnn_compression.jpeg import coding
from cnn_compression.payload import layout, layout_ops, walk_ops
from cnn_compression.payload.layout import PayloadError

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).parent.parent / "serving" / "web"
FINGERPRINT = "0123456789abcdef"
NAMES = ("grey", "colour", "progressive")
VERSION_1 = {name: (GOLDEN / f"{name}.cnn.jpg").read_bytes() for name in NAMES}
VERSION_2 = {name: (GOLDEN / "version2" / f"{name}.cnn.jpg").read_bytes() for name in NAMES}

EXIF = b"\xff\xe1\x00\x10Exif\x00\x00MM\x00*abcd"
COMMENT = b"\xff\xfe\x00\x07hello"
# Looks like ours, a scan and an end, inside of another's segment.
TRICK = b"\xff\xed\x00\x12\xff\xe9\x00\x22CNNC\xff\xda\xff\xd9abcd"
ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # says: no YCbCr
OURS_EMPTY = b"\xff\xe9\x00\x06CNNX"
FILL = b"\xff\xff\xff"
ADDED = (EXIF, COMMENT, TRICK, ADOBE_RGB, OURS_EMPTY, FILL)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def verify(payload):
    return layout_ops.verify(payload, FINGERPRINT, [2])


def said_of(payload):
    return verify(payload).numpy().decode()


@pytest.fixture(params=NAMES)
def parts(request):
    """Of a golden payload: APP0, ours, and what makes the picture to the end of image."""
    return parts_of(VERSION_2[request.param])


def edits(jfif, ours, *others):
    """How editors leave a file -> the file."""
    return {
        "as it was": joined([jfif, ours, *others]),
        "EXIF in front, as exiftool does": joined([jfif, EXIF, ours, *others]),
        "EXIF first": joined([EXIF, jfif, ours, *others]),
        "EXIF in place of JFIF": joined([EXIF, ours, *others]),
        "JFIF gone": joined([ours, *others]),
        "ours first": joined([ours, jfif, *others]),
        "ours among the tables": joined([jfif, others[0], EXIF, ours, *others[1:]]),
        "all that may be, fill bytes too": joined([*ADDED, jfif, *ADDED, ours, *ADDED, *others]),
        "Adobe's, without JFIF": joined([ADOBE_RGB, ours, *others]),
        "comments between all": joined(
            itertools.chain(*([COMMENT, part] for part in (jfif, ours, *others)))
        ),
        "bytes behind the end": joined([jfif, ours, *others]) + b"a trailer \xff\xd8\xff\xd9",
        "as many segments as may be": joined(
            [jfif, *[COMMENT] * (1022 - len(others)), ours, *others]
        ),
    }


def test_edits_leave_the_header_and_the_picture(parts):
    before = edits(*parts)["as it was"]
    pixels = coding.decode(before).numpy()
    for name, after in edits(*parts).items():
        assert said_of(after) == "", name
        assert layout.is_payload(after) and layout_ops.is_payload(after), name
        assert layout.read_header(after) == layout.read_header(before), name
        assert layout.preview_size(after) == layout.preview_size(before), name
        assert {key: int(value) for key, value in layout_ops.unpack(after).items()} == {
            key: int(value) for key, value in layout_ops.unpack(before).items()
        }, name
        picture = layout_ops.picture(after).numpy()
        assert picture == layout.picture(after) == layout.picture(before), name
        np.testing.assert_array_equal(coding.decode(picture), pixels)


def test_a_codec_restores_what_was_edited(photos):
    codec = Codec(pair(2))
    payload = codec.encode(photos["coffee"][:40, :50], 60)
    restored = codec.decode([payload, *edits(*parts_of(payload)).values()])
    for image in restored[1:]:
        np.testing.assert_array_equal(image, restored[0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(NAMES), keep_jfif=st.booleans(), ours=st.integers(0, 30),
    added=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(ADDED)), max_size=8),
    behind=st.binary(max_size=6),
)  # fmt: skip
def test_anything_told_may_come_anywhere(name, keep_jfif, ours, added, behind):
    """Ours before the first scan, others before the end of image."""
    jfif, segment, *others = parts_of(VERSION_2[name])
    first_scan = next(n for n, part in enumerate(others) if part[1] == 0xDA)
    others.insert(ours % (first_scan + 1), segment)
    if keep_jfif:
        others.insert(0, jfif)
    for place, part in added:
        others.insert(place % len(others), part)
    data = joined(others) + behind
    assert said_of(data) == ""
    assert layout.covered(data) == layout.covered(VERSION_2[name])


def recoded(name, **settings):
    """By Pillow, which keeps our segment where it is told to."""
    file = io.BytesIO()
    Image.open(io.BytesIO(VERSION_2[name])).save(file, "JPEG", **settings)
    jfif, *others = parts_of(file.getvalue())
    return joined([jfif, parts_of(VERSION_2[name])[1], *others])


@pytest.mark.parametrize("name", NAMES)
def test_another_coding_of_the_picture_is_said_to_be_anothers(name):
    """Though the pixels may be the same: `quality="keep"` keeps the coefficients."""
    jfif, ours, *others = parts_of(VERSION_2[name])
    tables = [n for n, part in enumerate(others) if part[1] == 0xDB]
    quantised = bytearray(others[tables[0]])
    quantised[-1] ^= 1
    changed = [
        recoded(name, quality=60),
        recoded(name, quality="keep", optimize=False, progressive=name != "progressive"),
        joined([jfif, ours, bytes(quantised), *others[1:]]),
        joined([jfif, ours, others[0], *others]),  # a table twice
        joined([jfif, ours, *others[1:]]),  # without its first table
    ]
    for data in changed:
        assert said_of(data).startswith("damaged, or another program changed it: ")
        assert layout.is_payload(data)


def test_a_segment_lost_leaves_a_plain_jpeg(parts):
    jfif, _, *others = parts
    plain = joined([jfif, EXIF, *others])
    assert not layout.is_payload(plain) and not layout_ops.is_payload(plain)
    assert said_of(plain) == "not a payload: expected a JPEG with a CNNC segment"


def test_a_segment_counts_before_the_first_scan_only():
    jfif, ours, *others = parts_of(VERSION_2["progressive"])
    scan = next(n for n, part in enumerate(others) if part[1] == 0xDA)
    for place in (scan + 1, len(others)):
        late = joined([jfif, *others[:place], ours, *others[place:]])
        assert not layout.is_payload(late) and not layout_ops.is_payload(late)
        assert said_of(late).startswith("not a payload")
        # One before and one behind: the one before counts, the other is anybody's.
        both = joined([jfif, ours, *others[:place], ours, *others[place:]])
        assert said_of(both) == ""


def test_two_segments_are_refused_whichever_comes_first(parts):
    jfif, ours, *others = parts
    other = ours[:8] + b"\x01" + ours[9:]
    for pair_of in ([ours, ours], [ours, EXIF, other], [other, ours]):
        twice = joined([jfif, *pair_of, *others])
        assert said_of(twice) == "expected one CNNC segment. Received: 2"
        assert layout.is_payload(twice) and layout_ops.is_payload(twice)
        with pytest.raises(PayloadError, match="expected one CNNC segment. Received: 2"):
            layout.read_header(twice)


def test_what_a_longer_segment_has_more_is_covered(parts):
    """Fields that a later writer may add."""
    jfif, ours, *others = parts
    longer = sealed(joined([jfif, ours[:2] + b"\x00\x26" + ours[4:] + b"new", *others]))
    assert said_of(longer) == ""
    assert "another program" in said_of(longer.replace(b"new", b"now"))


@pytest.mark.parametrize("name", NAMES)
def test_version_1_stays_as_it_was_written(name):
    """Its checksum covers all: that the segment is found elsewhere tells why it does not fit."""
    jfif, ours, *others = parts_of(VERSION_1[name])
    assert said_of(joined([jfif, ours, *others])) == ""
    for file in (joined([jfif, EXIF, ours, *others]), joined([ours, *others]),
                 joined([jfif, ours, *others]) + b"\n"):  # fmt: skip
        assert said_of(file).startswith("damaged, or another program changed it: ")
        assert layout.is_payload(file) and layout_ops.is_payload(file)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def seen(data):
    """All that the graph's reader makes of any bytes."""
    return *walk_ops.segments(data), layout_ops.picture(data), layout_ops.is_payload(data)


def agree(data):
    """Both readers see the same in any bytes."""
    kinds, starts, ends, own, picture, is_payload = (value.numpy() for value in seen(data))
    python = list(layout.segments(data))
    assert kinds.tolist() == [layout.KINDS[segment.marker] for segment in python]
    assert starts.tolist() == [segment.start for segment in python]
    there = [min(end, len(data)) for end in ends.tolist()]
    assert there == [min(segment.end, len(data)) for segment in python]
    assert [python[n] for n in np.flatnonzero(own)] == layout.own_segments(data)
    assert (picture, is_payload) == (layout.picture(data), layout.is_payload(data))
    try:
        header = layout.read_header(data)
    except PayloadError as error:
        said = said_of(data)
        assert said and ("cut short" in said) == ("cut short" in str(error))
    else:
        numbers = layout_ops.unpack(data)
        assert {key: int(value) & 0xFFFFFFFF for key, value in numbers.items()} == {
            key: getattr(header, key) for key in numbers
        }


def test_both_readers_see_the_same_in_damaged_files():
    random = np.random.default_rng(1)
    files = [
        *VERSION_1.values(),
        *VERSION_2.values(),
        *edits(*parts_of(VERSION_2["grey"])).values(),
    ]
    files = [file for file in files if len(file) < 4000]
    for number in range(200):
        data = bytearray(files[number % len(files)])
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(len(data) + 1))
            match random.integers(4):
                case 0:
                    data[at : at + 1] = bytes([random.choice([0, 1, 0xD0, 0xD8, 0xD9, 0xDA, 0xFF])])
                case 1:
                    data[at:at] = ADDED[random.integers(len(ADDED))]
                case 2:
                    del data[at : at + random.integers(1, 8)]
                case 3:
                    del data[at:]
        agree(bytes(data))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe9\x00",
     b"\xff\xd8\xff\xe9\x00\x02CNNC", b"\xff\xd8\xff\xe9\x00\x22CNN", b"\xff\xd8\xff\xda\xff\xff",
     b"\xff\xd8\xff\xda\x00\x02abc", b"\xff\xd8\xff\xda\x00\x02a\xff\xff\xd9", b"\xff\xd8\xff\xe0"],
)  # fmt: skip
def test_both_readers_see_the_same_in_a_few_bytes(data):
    agree(data)


def test_many_segments_take_no_time():
    """Where each were a step, this would take minutes."""
    jfif, ours, *others = parts_of(VERSION_2["colour"])
    empty = b"\xff\xfe\x00\x02"
    scan = next(part for part in others if part[1] == 0xDA)
    hostile = {
        joined([jfif, *[empty] * (1023 - len(others)), ours, *others]): "more than 1024 segments",
        joined([jfif, ours, empty * 100_000, *others]): "more than 1024 segments",
        joined([jfif, ours, b"\xff\xd0" * 1_000_000, *others]): "more than 1024 segments",
        joined([jfif, ours, b"\xff" * 1_000_000, *others]): "",
        joined([jfif, ours, b"\xff" * 1_000_000]): "damaged or cut short",
        joined([jfif, empty * 100_000, ours, *others]): "not a payload",
        sealed(joined([jfif, ours, *others[:-1], *[scan] * 16, others[-1]])): "damaged or cut",
        joined([jfif, ours, *others[:-1], b"\xff\xc4" * 1_000_000]): "damaged or cut short",
        joined([jfif, ours, *others[:-1], b"\xff\x00" * 1_000_000]): "damaged or cut short",
    }
    for data, said in hostile.items():
        assert said in said_of(data)
        agree(data)


@pytest.mark.skipif(not shutil.which("node"), reason="no node on this machine")
def test_the_page_knows_payloads_as_python_does(tmp_path):
    files = [*VERSION_1.values(), *edits(*parts_of(VERSION_2["colour"])).values()]
    jfif, ours, *others = parts_of(VERSION_2["colour"])
    files += [joined([jfif, *others]), b"", b"\xff\xd8", b"hello", files[0][:30], files[0][:25]]
    files += [joined([jfif, *others[:-1], ours, others[-1]]), joined([jfif, b"\xff\xd8", ours])]
    files += [joined([jfif, b"\xff\xfe\x00\x02" * n, ours]) for n in (1022, 1023, 1024)]
    files += [joined([jfif, b"\xff" * 5000, ours])]
    shutil.copy(PAGE / "pictures.js", tmp_path / "pictures.mjs")
    program = (
        "import { readFileSync } from 'node:fs'; import { isPayload } from './pictures.mjs';"
        "const answers = [];"
        f"for (let n = 0; n < {len(files)}; n++)"
        "  answers.push(await isPayload(new Blob([readFileSync(String(n))])));"
        "console.log(JSON.stringify(answers));"
    )
    (tmp_path / "ask.mjs").write_text(program)
    for number, file in enumerate(files):
        (tmp_path / str(number)).write_bytes(file)
    run = subprocess.run(["node", "ask.mjs"], cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(run.stdout) == [layout.is_payload(file) for file in files], run.stderr
