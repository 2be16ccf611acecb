"""Many files: folders in folders, going on with what was stopped, and the manifest."""

import contextlib
import csv
import io
import json
import os
import threading
import time
from pathlib import Path

import pytest
from cli_calls import FakeCodec, picture, tree
from PIL import Image

import cnn_compression
from cnn_compression import cli

FIELDS = ["input", "output", "bytes", "bpp", "status"]


def rows(path):
    text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    if Path(path).suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_folders_in_folders_are_mirrored_there_and_back(command, folder):
    for name in ("in/a.png", "in/x/a.png", "in/x/y/b.png", "in/.hidden/c.png"):
        picture(name)
    Path("in/link").symlink_to(folder / "in", target_is_directory=True)
    assert command("encode", "in", "-o", "flat")[0] == 0
    assert command("encode", "-r", "in", "-o", "small")[0] == 0
    assert tree("flat") == ["a.cnn.jpg"]
    assert tree("small") == ["a.cnn.jpg", "x/a.cnn.jpg", "x/y/b.cnn.jpg"]
    assert command("decode", "--recursive", "small", "-o", "back")[0] == 0
    assert tree("back") == ["a.png", "x/a.png", "x/y/b.png"]


def test_without_an_output_folder_files_lie_beside_their_inputs(command, folder):
    picture("in/x/a.png")
    assert command("encode", "-r", "in")[0] == 0
    assert tree("in") == ["x/a.cnn.jpg", "x/a.png"]


def test_what_is_done_is_skipped_and_the_rest_is_done(command, folder):
    picture("a.png")
    picture("b.png")
    assert command("encode", "a.png")[0] == 0
    kept = Path("a.cnn.jpg").stat().st_mtime_ns
    status, out, err = command("encode", "a.png", "b.png", "--skip_existing")
    assert (status, err) == (0, []) and "2 files, 0 failed, 1 skipped, " in out
    assert Path("a.cnn.jpg").stat().st_mtime_ns == kept
    assert tree() == ["a.cnn.jpg", "a.png", "b.cnn.jpg", "b.png"]
    status, _, err = command("encode", "a.png", "--skip_existing", "--overwrite")
    assert status == 2 and "expected --overwrite or --skip_existing" in err[0]


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl"])
def test_the_manifest_has_a_row_for_each_file(command, folder, name):
    picture("done.png", (10, 8))
    picture("before.png")
    Path("bad.png").write_bytes(b"text")
    command("encode", "before.png")
    words = ["done.png", "before.png", "bad.png", "gone.png", "--skip_existing"]
    assert command("encode", *words, f"--manifest={name}")[0] == 1
    found = {row["input"]: row for row in rows(name)}
    assert all(list(row) == FIELDS for row in found.values())
    size = Path("done.cnn.jpg").stat().st_size
    done = found["done.png"]
    assert (done["output"], done["status"]) == ("done.cnn.jpg", "done")
    assert int(done["bytes"]) == size and float(done["bpp"]) == pytest.approx(size / 10, abs=1e-4)
    assert (found["before.png"]["output"], found["before.png"]["status"]) == (
        "before.cnn.jpg",
        "skipped",
    )
    assert found["bad.png"]["status"].startswith("not an image of a known format")
    assert found["gone.png"]["status"] == "no such file or folder"
    assert not found["bad.png"]["output"] and len(found) == 4


def test_the_manifest_is_written_where_the_work_is_interrupted(command, folder, monkeypatch):
    picture("a.png")
    picture("b.png", (7, 7))
    encode = FakeCodec.encode

    def interrupt(codec, image, *arguments):
        if image.shape[0] == 7:
            raise KeyboardInterrupt
        return encode(codec, image, *arguments)

    monkeypatch.setattr(FakeCodec, "encode", interrupt)
    assert command("encode", "a.png", "b.png", "--manifest=all.csv")[0] == 130
    assert [row["input"] for row in rows("all.csv")] == ["a.png"]


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl"])
def test_the_manifest_of_work_that_goes_on_keeps_what_was_done(command, folder, name):
    picture("a.png")
    Path("bad.png").write_bytes(b"text")
    assert command("encode", "a.png", "bad.png", f"--manifest={name}")[0] == 1
    [first, failed] = rows(name)
    assert failed["status"] != "done"
    picture("bad.png")
    odd = "b\u2028\x85.png"  # which some take for the ends of lines
    picture(odd)
    words = ["a.png", "bad.png", odd, "--skip_existing", f"--manifest={name}"]
    assert command("encode", *words)[0] == 0
    assert command("encode", *words)[0] == 0
    assert rows(name)[0] == first
    assert [(row["input"], row["status"]) for row in rows(name)] == [
        ("a.png", "done"),
        ("bad.png", "done"),
        (odd, "done"),
    ]


def test_what_is_no_manifest_is_not_gone_on_with(command, folder):
    picture("a.png")
    for name, text in (("all.csv", "a,b\n1,2\n"), ("all.jsonl", "[1]\n"), ("x.csv", "")):
        Path(name).write_text(text)
        status, _, err = command("encode", "a.png", "--skip_existing", f"--manifest={name}")
        assert status == 1 and f"expected a manifest to go on with. Received: {name}" in err[0]
        assert Path(name).read_text() == text
    assert "a.cnn.jpg" not in tree()


def test_the_manifest_may_lie_in_an_output_folder_that_is_not_there_yet(command, folder):
    picture("in/x/a.png")
    assert command("encode", "-r", "in", "-o", "out", "--manifest=out/all.csv")[0] == 0
    assert tree("out") == ["all.csv", "x/a.cnn.jpg"]


def test_a_model_that_is_not_there_leaves_no_manifest(command, folder, monkeypatch):
    def load(name):
        raise ValueError("no such model")

    monkeypatch.setattr(cnn_compression, "load", load)
    picture("a.png")
    assert command("encode", "a.png", "--manifest=all.csv")[0] == 1
    assert tree() == ["a.png"]


def test_a_file_done_beside_the_one_that_was_interrupted_is_in_the_manifest(
    command, folder, monkeypatch
):
    """Of two files in work, the first one waits for the other and is then interrupted."""
    picture("a.png", (7, 7))
    picture("b.png")
    picture("c.png")
    encode, done = FakeCodec.encode, threading.Event()

    def interrupt(codec, image, *arguments):
        if image.shape[0] == 7:
            assert done.wait(20)
            raise KeyboardInterrupt
        payload = encode(codec, image, *arguments)
        done.set()
        return payload

    monkeypatch.setattr(FakeCodec, "encode", interrupt)
    assert command("encode", "a.png", "b.png", "c.png", "--manifest=all.csv")[0] == 130
    assert "b.png" in [row["input"] for row in rows("all.csv")]
    done_rows = [row["output"] for row in rows("all.csv")]
    assert sorted(done_rows) == [name for name in tree() if name.endswith(".cnn.jpg")]


@pytest.mark.parametrize("jobs, most", [([], 2), (["--jobs=1"], 1), (["-j", "3"], 3)])
def test_so_many_files_are_in_work(command, folder, monkeypatch, jobs, most):
    for number in range(6):
        picture(f"{number}.png")
    encode, lock, counts = FakeCodec.encode, threading.Lock(), [0]

    def count(codec, *arguments):
        with lock:
            counts.append(counts[-1] + 1)
        time.sleep(0.05)
        try:
            return encode(codec, *arguments)
        finally:
            with lock:
                counts.append(counts[-1] - 1)

    monkeypatch.setattr(FakeCodec, "encode", count)
    assert command("encode", *tree(), *jobs)[0] == 0
    assert max(counts) == most


def test_what_libraries_print_of_damaged_files_stays_off_the_terminal(folder, capfd):
    picture("good.png", (80, 60))
    image = Image.open("good.png").convert("1")
    for name in ("a.tif", "b.tif"):
        image.save(name, compression="tiff_deflate")
        data = Path(name).read_bytes()
        Path(name).write_bytes(data[:12] + b"\0\0\0\0" + data[16:])
    with contextlib.suppress(OSError):
        Image.open("a.tif").load()
    assert capfd.readouterr().err  # something is printed, where nobody stops it
    for names in (["a.tif"], ["a.tif", "b.tif"]):
        assert cli.main(["encode", *names]) == 1
        said = [
            f"cnn-compression: {name}: truncated, damaged or unsupported TIFF" for name in names
        ]
        assert capfd.readouterr().err.splitlines() == said


def test_a_manifest_does_not_replace_a_file_unasked(command, folder):
    picture("a.png")
    Path("all.csv").write_text("mine")
    status, _, err = command("encode", "a.png", "--manifest=all.csv")
    assert status == 1 and "the output exists: all.csv" in err[0]
    assert tree() == ["a.png", "all.csv"] and Path("all.csv").read_text() == "mine"
    assert command("encode", "a.png", "--manifest=all.csv", "--overwrite")[0] == 0
    assert rows("all.csv")[0]["status"] == "done"


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--manifest=all.txt"], "expected a name that ends in .csv or .jsonl"),
        (["--manifest=no/all.csv"], "folder does not exist"),
        (["--manifest=o.csv", "--output=o.csv"], "the manifest would be an output: o.csv"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_before_any_work(command, folder, words, reason):
    picture("a.png")
    status, _, err = command("encode", "a.png", *words)
    assert status == (1 if "no/" in words[0] else 2) and reason in err[0]
    assert tree() == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="names of no encoding are POSIX's")
def test_names_of_no_encoding_keep_their_bytes_in_the_manifest(command, folder):
    name = os.fsdecode(b"\xff\xfe.png")
    picture(name)
    assert command("encode", name, "--manifest=all.csv")[0] == 0
    assert b"\xff\xfe.png" in Path("all.csv").read_bytes()
    assert rows("all.csv")[0]["input"] == name


# Two commands and one output.


def meanwhile(monkeypatch, path, data):
    """While the codec is at work for the first time, another command writes `path`."""
    encode, decode = FakeCodec.encode, FakeCodec.decode
    left = [data]

    def slow(work):
        def call(self, *arguments):
            if left:
                Path(path).write_bytes(left.pop())
            return work(self, *arguments)

        return call

    monkeypatch.setattr(FakeCodec, "encode", slow(encode))
    monkeypatch.setattr(FakeCodec, "decode", slow(decode))


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_output_that_comes_meanwhile_is_not_replaced(command, folder, monkeypatch, jobs):
    picture("a.png")
    picture("b.png")
    with monkeypatch.context() as patch:
        meanwhile(patch, "a.cnn.jpg", b"theirs")
        status, _, err = command("encode", "a.png", "b.png", f"--jobs={jobs}")
        assert (status, len(err)) == (1, 1)
        assert "a.png: a.cnn.jpg: the output exists: pass --overwrite to replace it" in err[0]
        assert Path("a.cnn.jpg").read_bytes() == b"theirs"
    assert command("encode", "a.png", "b.png", "--overwrite", f"--jobs={jobs}")[0] == 0
    assert Path("a.cnn.jpg").read_bytes() != b"theirs"
    Path("back").mkdir()
    meanwhile(monkeypatch, "back/a.png", b"theirs")
    assert command("decode", "a.cnn.jpg", "-o", "back")[0] == 1
    assert Path("back/a.png").read_bytes() == b"theirs" and tree("back") == ["a.png"]


def test_a_manifest_that_comes_meanwhile_is_not_replaced(command, folder, monkeypatch):
    picture("a.png")
    meanwhile(monkeypatch, "all.csv", b"theirs")
    status, _, err = command("encode", "a.png", "--manifest=all.csv")
    assert (status, len(err)) == (1, 1) and "all.csv: the output exists" in err[0]
    assert Path("all.csv").read_bytes() == b"theirs"
    assert command("encode", "a.png", "--manifest=all.csv", "--overwrite")[0] == 0
    assert rows("all.csv")[0]["status"] == "done"
