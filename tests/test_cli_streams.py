"""The command line in a pipe: `-`, patterns, formats by name, and what comes before a model."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_calls import FakeCodec, picture, tree
from PIL import Image

import cnn_compression
from cnn_compression import cli
from cnn_compression.codec import Codec, model_files
from cnn_compression.models.com_rec import ComRec


@pytest.fixture
def pipe(monkeypatch, capfdbinary):
    """Runs one command with bytes for standard input; gives status, standard output, and lines."""

    def run(*words, data=b""):
        capfdbinary.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status = cli.main([str(word) for word in words])
        out, err = capfdbinary.readouterr()
        return status, out, err.decode().splitlines()

    return run


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_pipe_there_and_back_gives_what_files_give(pipe, folder):
    picture("a.png")
    status, payload, err = pipe("encode", "-", "-q30", data=Path("a.png").read_bytes())
    assert (status, len(err)) == (0, 1) and err[0].startswith("1 file, 0 failed, ")
    assert pipe("encode", "a.png", "-q30")[:2][0] == 0
    assert payload == Path("a.cnn.jpg").read_bytes()
    status, restored, err = pipe("decode", "-", data=payload)
    assert (status, len(err)) == (0, 1)
    np.testing.assert_array_equal(pixels_of(restored), pixels_of(Path("a.png").read_bytes()))
    assert tree() == ["a.cnn.jpg", "a.png"]


@pytest.mark.parametrize("output", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_for_the_payload_alone(pipe, folder, output):
    picture("a.png")
    link = os.readlink("/dev/stdout")
    status, payload, err = pipe("encode", "a.png", "-o", output, "--manifest=all.csv")
    assert (status, len(err)) == (0, 1)
    assert payload.startswith(b"fake 50 4 6 3 ") and len(payload) == len(b"fake 50 4 6 3 ") + 72
    assert os.readlink("/dev/stdout") == link and tree() == ["a.png", "all.csv"]


def test_a_file_that_standard_output_goes_to_keeps_what_is_before(folder, monkeypatch):
    picture("a.png")
    with open("all", "w+b") as file:
        file.write(b"before ")
        file.flush()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file))
        assert cli.main(["encode", "a.png", "-o", "/dev/stdout"]) == 0
        assert Path("all").read_bytes().startswith(b"before fake 50 ")


def test_standard_input_goes_where_it_is_told(pipe, folder):
    picture("a.png")
    contents = Path("a.png").read_bytes()
    Path("there").mkdir()
    assert pipe("encode", "-", "-o", "b.jpg", data=contents)[0] == 0
    status, out, err = pipe("encode", "-", "-o", "there", data=contents)
    assert (status, err) == (0, []) and out.startswith(b"1 file, 0 failed, ")
    assert tree() == ["a.png", "b.jpg", "there/stdin.cnn.jpg"]


@pytest.mark.parametrize(
    "verb, data, expected",
    [
        ("encode", b"", "-: empty file"),
        ("encode", b"text", "-: not an image"),
        ("decode", b"", "-: not a payload"),
        ("info", b"text", "-: not a payload"),
    ],
)
def test_what_is_wrong_with_standard_input_is_said(pipe, folder, verb, data, expected):
    status, out, err = pipe(verb, "-", data=data)
    assert (status, out) == (1, b"")
    assert err[0].startswith(f"cnn-compression: {expected}")


def test_a_terminal_is_not_filled(pipe, folder, monkeypatch):
    picture("a.png")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for words in (["a.png", "-o", "-"], ["-"]):
        status, out, err = pipe("encode", *words, data=Path("a.png").read_bytes())
        assert (status, out) == (1, b"") and "would fill the terminal: pass -o FILE" in err[0]


def test_a_reader_that_leaves_ends_it_without_a_word(pipe, folder, monkeypatch):
    def leave(codec, *_):
        raise BrokenPipeError

    monkeypatch.setattr(FakeCodec, "encode", leave)
    picture("a.png")
    picture("b.png")
    assert pipe("encode", "a.png", "b.png", "-j1") == (1, b"", [])


def test_a_file_may_be_called_a_dash(pipe, folder):
    picture("a.png")
    Path("a.png").rename("-")
    assert pipe("encode", "./-", "-o", "b.jpg")[0] == 0
    assert Path("b.jpg").read_bytes().startswith(b"fake")


@pytest.mark.parametrize(
    "pattern, made",
    [
        ("*.png", ["a b", "c"]),
        ("in/*", ["d", "e"]),
        ("[ac]*.png", ["a b", "c"]),
        ("**/d.*", ["d"]),
        ("i?", ["d", "e"]),
    ],
)
def test_patterns_that_the_shell_left_are_expanded(command, folder, pattern, made):
    for name in ("a b.png", "c.png", "in/d.png", "in/e.jpg"):
        picture(name)
    assert command("encode", pattern, "-o", "out/")[::2] == (0, [])
    assert tree("out") == [f"{stem}.cnn.jpg" for stem in made]


def test_a_name_that_looks_like_a_pattern_is_a_name_first(command, folder, monkeypatch):
    picture("[x].png")
    picture("x.png")
    assert command("encode", "[x].png")[0] == 0
    assert tree() == ["[x].cnn.jpg", "[x].png", "x.png"]
    assert command("encode", "*.gif")[2] == ["cnn-compression: *.gif: no such file or folder"]
    monkeypatch.setenv("HOME", str(folder))
    assert command("encode", "~/x*.png", "--output=~/y.jpg")[0] == 0
    assert "y.jpg" in tree()


# The format of what is restored.


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "name, kind",
    [("b.jpg", "JPEG"), ("b.JPEG", "JPEG"), ("b.webp", "WEBP"), ("b.tif", "TIFF"), ("b", "PNG")]
    + [("b.tiff", "TIFF"), ("b.png", "PNG")],
)
def test_the_name_says_the_format(command, folder, mode, name, kind):
    Image.radial_gradient("L").resize((40, 30)).convert(mode).save("a.png")
    assert command("encode", "a.png")[0] == 0
    assert command("decode", "a.cnn.jpg", "-o", name)[::2] == (0, [])
    with Image.open(name) as image:
        assert (image.format, image.size) == (kind, (40, 30))
        assert kind == "WEBP" or image.mode == mode
        worst = np.abs(np.asarray(image.convert(mode)).astype(int) - Image.open("a.png")).max()
        assert worst <= (0 if kind in ("PNG", "TIFF") else 12)


@pytest.mark.parametrize("name", ["b.gif", "b.cnn", "b.heic"])
def test_an_unknown_format_is_refused_before_any_work(command, folder, monkeypatch, name):
    picture("a.png")
    command("encode", "a.png")
    forbid_loading(monkeypatch)
    status, _, err = command("decode", "a.cnn.jpg", "-o", name)
    assert (status, tree()) == (1, ["a.cnn.jpg", "a.png"])
    assert "expected -o with a name that ends in .png, .jpg" in err[0]


def test_a_format_s_longest_side_is_known_before_any_work(command, folder, monkeypatch):
    Path("a.cnn.jpg").write_bytes(b"fake 50 1 16384 1 " + bytes(16384))
    assert command("decode", "a.cnn.jpg", "-o", "b.tif")[0] == 0
    forbid_loading(monkeypatch)
    status, _, err = command("decode", "a.cnn.jpg", "-o", "b.webp")
    assert status == 1 and "16384 x 1 pixels: WEBP takes sides of at most 16383" in err[0]


# What needs no model, and what a model has to say.


def forbid_loading(monkeypatch):
    def load(name):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(cnn_compression, "load", load)


def test_what_needs_no_model_is_refused_without_one(command, folder, monkeypatch):
    forbid_loading(monkeypatch)
    picture("large.png", (30, 20))
    picture("clear.png", mode="RGBA", colour=(9, 9, 9, 0))
    Path("text.png").write_bytes(b"text")
    Path("payload.cnn.jpg").write_bytes(b"fake 50 20 30 3 ")
    refused = [
        ("encode", "text.png", "not an image"),
        ("encode", "clear.png", "transparent"),
        ("encode", "gone.png", "no such file"),
        ("encode", "large.png", "at most 100 are taken"),
        ("decode", "payload.cnn.jpg", "at most 100 are taken"),
        ("decode", "large.png", "not a payload"),
        ("decode", "text.png", "not a payload"),
    ]
    for verb, name, why in refused:
        status, _, err = command(verb, name, "--max_pixels=100")
        assert (status, len(err)) == (1, 1) and why in err[0], err


def test_a_model_is_loaded_after_the_first_refusals_only(command, folder, monkeypatch):
    loaded = []
    load = cnn_compression.load
    monkeypatch.setattr(cnn_compression, "load", lambda name: loaded.append(name) or load(name))
    for name in ("a.png", "c.png", "e.png"):
        picture(name)
    for name in ("0.png", "b.png", "d.png"):
        Path(name).write_bytes(b"text")
    status, out, err = command("encode", ".", "--manifest=all.csv")
    assert (status, loaded, len(err)) == (1, ["default"], 3)
    assert out.startswith("6 files, 3 failed, ")
    assert len(Path("all.csv").read_text().splitlines()) == 7


def test_a_payload_larger_than_its_input_is_said(command, folder):
    picture("a.png")
    Image.new("L", (300, 2)).save("flat.png")
    small = Path("flat.png").stat().st_size
    status, _, err = command("encode", "flat.png", "a.png")
    assert (status, len(err)) == (0, 1)
    size = Path("flat.cnn.jpg").stat().st_size
    assert err[0].startswith(
        "cnn-compression: flat.png: note: the payload is larger than its input, "
        f"{size} bytes for {small}: "
    )


@pytest.mark.slow
def test_a_payload_of_another_model_says_which_model_to_pass(command, folder, monkeypatch, photos):
    """Versions of a named model are known; of a stranger's model the name is not."""
    names = {}
    monkeypatch.setattr(model_files, "model_folders", lambda: [folder])
    for place in ("old/1", "old/2", "mine/1"):
        codec = Codec(ComRec.from_preset("fast"))
        model_files.write_exported(codec.model, folder / place)
        names[place] = codec
    payloads = {place: c.encode(photos["coffee"][:16, :16], 20) for place, c in names.items()}
    payloads["none"] = Codec(ComRec.from_preset("fast")).encode(photos["coffee"][:16, :16], 20)
    for place, payload in payloads.items():
        Path(place.replace("/", "") + ".cnn.jpg").write_bytes(payload)
    monkeypatch.setattr(cnn_compression, "load", lambda p: names[f"{p.parent.name}/{p.name}"]
                        if isinstance(p, Path) else names["mine/1"])  # fmt: skip
    status, _, err = command("decode", "--model=mine", ".")
    assert status == 1 and "mine1.png" in tree() and len(err) == 3
    none, old1, old2 = sorted(err)
    assert "made by model " in old1 and old1.endswith(f": pass --model={folder / 'old' / '1'}")
    assert old2.endswith(": pass --model=old")
    assert none.endswith("no installed model is that one; pass --model=FOLDER of the model that "
                         "encoded it")  # fmt: skip
