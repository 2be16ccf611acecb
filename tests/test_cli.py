"""The command line, from words to exit status; the codec is the real one where it matters."""

import builtins
import inspect
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from cli_calls import FakeCodec, picture, tree
from PIL import Image

import cnn_compression
from cnn_compression import cli
from cnn_compression.payload.layout import read_header
from cnn_compression.tensors.metrics import psnr

ROOT = Path(__file__).parent.parent


def pixels_of(path):
    return np.asarray(Image.open(path))


# Verbs, flags, help.


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_lists_every_verb_and_only_those(command, words):
    status, out, err = command(*words)
    assert (status, err) == (0, [])
    assert re.findall(r"^  (\w+)  ", out, re.M) == list(cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_lists_its_flags_only_and_fits_a_terminal(command, verb):
    status, out, err = command(verb, "--help")
    assert (status, err) == (0, [])
    assert out.startswith(f"usage: cnn-compression {verb} ")
    assert max(map(len, out.splitlines())) <= 100
    for absl_flag in ("flagfile", "alsologtostderr", "helpxml"):
        assert absl_flag not in out
    assert ("--quality=" in out) == (verb in ("encode", "demo", "batch"))
    assert ("--overwrite" in out) == (verb in ("encode", "decode", "pack", "unpack", "batch"))


def test_a_file_may_be_called_like_the_help(command, folder):
    picture("--help.png")
    assert command("encode", "--", "--help.png")[0] == 0
    assert tree() == ["--help.cnn.jpg", "--help.png"]


def test_version(command):
    assert command("--version") == (0, f"cnn-compression {cnn_compression.__version__}\n", [])


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], "expected a verb: encode, decode, pack"),
        (["compress"], "Received: compress; did you mean encode?"),
        (["encdoe", "a.png"], "Received: encdoe; did you mean encode?"),
        (["Infos"], "did you mean info?"),
        (["frobnicate"], "Received: frobnicate"),
        (["encode", "a.png", "--qualty=5"], "Did you mean: quality"),
        (["encode", "a.png", "--tint=red"], "Unknown command line flag 'tint'"),
        (["decode", "a.cnn.jpg", "-q", "5"], "Unknown command line flag 'q'"),
        (["encode", "a.png", "-q"], "Missing value for flag -q"),
        (["encode", "a.png", "--output="], "expected a file or folder"),
        (["encode", "a.png", "--flatten=pink"], "expected #rrggbb or one of black"),
        (["encode", "a.png", "--flatten=#12345"], "expected #rrggbb or one of black"),
        (["encode", "a.png", "--flatten=#12 456"], "expected #rrggbb or one of black"),
        (["encode", "a.png", "--effort=4"], "flag --effort=4"),
        (["encode", "a.png", "--target_bytes=0"], "expected a number above 0"),
        (["encode", "a.png", "--target_bytes=1.5"], "flag --target_bytes=1.5"),
        (["encode", "a.png", "--target_bytes=1.5B"], "such as 50000, 50kB or 1.5MB"),
        (["encode", "a.png", "--target_bytes=0.0001kB"], "expected a number above 0"),
        (["encode", "a.png", "--target_bytes=5 parsecs"], "expected a number above 0"),
        (["encode", "a.png", "--max_pixels=0"], "such as 50000, 50kP or 1.5MP"),
        (["encode", "a.png", "--target_psnr=nan"], "expected a number above 0"),
        (
            ["encode", "a.png", "--target_bpp=0.2", "-q", "50"],
            "expected one of --quality and --target_*. Received: target_bpp, quality",
        ),
        (["export", "a.keras", "--ranges=1-100"], "expected FIRST-LAST:JPEG_FIRST-JPEG_LAST"),
        (["export", "a.keras", "--handovers=9"], "expected FIRST-LAST for each two neighbouring"),
        (["encode"], "expected at least one file or folder"),
        (["info"], "expected at least one file or folder"),
    ]
    + [
        (["encode", "a.png", "-q", value], f"--quality={value}: expected an integer from 1 to 100")
        for value in ("0", "101", "high", "-1", "50.5", "0x10", "")
    ],
)
def test_bad_words_are_one_line_before_any_work(command, folder, words, expected):
    picture("a.png")
    status, out, err = command(*words)
    assert (status, out, len(err)) == (2, "", 1)
    assert err[0].startswith("cnn-compression: ") and expected in err[0]
    assert tree() == ["a.png"]


@pytest.mark.parametrize(
    "words",
    [
        ["-q7", "-o", "b.jpg"],
        ["-q", "7", "-ob.jpg"],
        ["-q=7", "-o=b.jpg"],
        ["-rq7", "-o=b.jpg"],
        ["-rfq=7", "--output", "b.jpg"],
        ["-quality=7", "--output=b.jpg", "--skip-existing", "--max-pixels", "100k"],
        ["--norecursive", "--quality", "7", "--output=b.jpg", "--max-pixels=1MP"],
    ],
)
def test_flags_are_spelled_as_elsewhere(command, folder, words):
    picture("a.png")
    assert command("encode", "a.png", *words)[::2] == (0, [])
    assert Path("b.jpg").read_bytes().startswith(b"fake 7 4 6 3 ")


def test_a_flag_s_value_may_look_like_a_flag(command, folder):
    picture("a.png")
    picture("-q9.png")
    assert command("encode", "a.png", "-o", "-q5.jpg")[0] == 0
    assert command("encode", "-q8", "--", "-q9.png")[0] == 0
    assert tree() == ["-q5.jpg", "-q9.cnn.jpg", "-q9.png", "a.png"]
    assert Path("-q9.cnn.jpg").read_bytes().startswith(b"fake 8 ")


@pytest.mark.parametrize(
    "text, size",
    [("50000", 50_000), ("50kB", 50_000), ("1.5MB", 1_500_000), ("50k", 50_000), ("2GB", 2 * 10**9)]
    + [("48KiB", 49_152), ("1.5mib", 1_572_864), ("0.5 kb", 500), (".5M", 500_000), ("7B", 7)],
)
def test_sizes_have_units(command, folder, monkeypatch, text, size):
    seen = {}
    monkeypatch.setattr(
        FakeCodec,
        "encode_to",
        lambda codec, image, **rest: seen.update(rest) or b"x",
        raising=False,
    )
    picture("a.png")
    assert command("encode", "a.png", f"--target_bytes={text}")[0] == 0
    assert seen == {"target_bytes": size, "effort": 0}


def test_an_unknown_model_is_one_line_and_leaves_no_folder(command, folder, monkeypatch):
    def load(name):
        raise ValueError(f"cannot be read. Received: {name}")

    monkeypatch.setattr(cnn_compression, "load", load)
    picture("a.png")
    for name, expected in (("nosuch", "Received: 'nosuch'"), ("default", "cannot be read")):
        status, out, err = command("encode", "a.png", f"--model={name}", "-o", "out/")
        assert (status, out, len(err)) == (1, "", 1) and expected in err[0]
        assert os.listdir() == ["a.png"]


# One file after another.


def test_there_and_back_with_default_names(command, folder):
    picture("photo.v1.png")
    status, out, err = command("encode", "photo.v1.png", "--quality=7")
    assert (status, err) == (0, [])
    payload = Path("photo.v1.cnn.jpg").read_bytes()
    assert payload.startswith(b"fake 7 4 6 3 ")
    rate = 8 * len(payload) / (6 * 4)
    sizes = f"{Path('photo.v1.png').stat().st_size} -> {len(payload)} bytes, {rate:.3f} bpp"
    assert re.fullmatch(rf"1 file, 0 failed, {sizes}, \d+\.\d s\n", out)

    Path("photo.v1.png").rename("original.png")
    status, out, err = command("decode", "photo.v1.cnn.jpg")
    assert (status, err) == (0, [])
    np.testing.assert_array_equal(pixels_of("photo.v1.png"), pixels_of("original.png"))
    assert f"{len(payload)} -> {Path('photo.v1.png').stat().st_size} bytes, {rate:.3f} bpp" in out


def test_a_failure_is_one_line_and_the_others_are_done(command, folder):
    picture("a.png")
    picture("c.png")
    Path("b.jpg").write_bytes(b"hello, this is text")
    status, out, err = command("encode", "a.png", "b.jpg", "missing.png", "c.png")
    assert status == 1
    assert err[0] == "cnn-compression: missing.png: no such file or folder"
    assert err[1].startswith("cnn-compression: b.jpg: ") and len(err) == 2
    assert tree() == ["a.cnn.jpg", "a.png", "b.jpg", "c.cnn.jpg", "c.png"]
    assert out.startswith("4 files, 2 failed, ") and len(out.splitlines()) == 1


def test_what_nobody_foresaw_is_one_line_too(command, folder, monkeypatch):
    def encode(self, image, quality, effort=0):
        raise RuntimeError("\nfirst\nsecond")

    monkeypatch.setattr(FakeCodec, "encode", encode)
    picture("a.png")
    assert command("encode", "a.png")[::2] == (1, ["cnn-compression: a.png: RuntimeError: first"])


@pytest.mark.parametrize("in_graph", [False, True])
def test_an_error_of_tensorflow_is_one_line_too(command, folder, monkeypatch, in_graph):
    def load(name):
        divide = tf.function(tf.math.floordiv) if in_graph else tf.math.floordiv
        return divide(tf.constant(1), tf.constant(0))

    monkeypatch.setattr(cnn_compression, "load", load)
    picture("a.png")
    status, out, err = command("encode", "a.png")
    assert (status, out, len(err)) == (1, "", 1)
    assert re.match("cnn-compression: InvalidArgumentError: .*Integer division by zero", err[0])


def test_a_bug_is_not_hidden(command, folder, monkeypatch):
    def load(name):
        raise ZeroDivisionError

    monkeypatch.setattr(cnn_compression, "load", load)
    picture("a.png")
    with pytest.raises(ZeroDivisionError):
        command("encode", "a.png")


def test_a_file_is_read_once(command, folder, monkeypatch):
    picture("a.png")
    opened = []
    for module, name in ((io, "open"), (builtins, "open")):
        real = getattr(module, name)

        def spy(path, *rest, real=real, **options):
            opened.append(str(path))
            return real(path, *rest, **options)

        monkeypatch.setattr(module, name, spy)
    assert command("encode", "a.png")[::2] == (0, [])
    assert opened.count("a.png") == 1


def test_folders_give_images_to_encode_and_payloads_to_decode(command, folder):
    picture("in/a.png")
    picture("in/B.JPG")
    Path("in/notes.txt").write_bytes(b"no image")
    assert command("encode", "in")[::2] == (0, [])
    made = ["in/B.cnn.jpg", "in/a.cnn.jpg"]
    assert tree() == sorted(["in/B.JPG", "in/a.png", "in/notes.txt", *made])
    # Again, after the payloads have come into the folder.
    assert command("encode", "in", "-o", "new")[::2] == (0, [])
    assert tree("new") == ["B.cnn.jpg", "a.cnn.jpg"]
    status, out, err = command("decode", "in", "-o", "deep/down")
    assert (status, err, tree("deep/down")) == (0, [], ["B.png", "a.png"])
    assert out.startswith("2 files, 0 failed, ")


def test_a_folder_without_images_is_said(command, folder):
    Path("in").mkdir()
    expected = ["cnn-compression: in: the folder has no images"]
    assert command("encode", "in")[::2] == (1, expected)


def test_a_file_named_twice_is_done_once(command, folder):
    picture("in/a.png")
    assert command("encode", "in/a.png", "./in/../in/a.png", "in")[1].startswith("1 file, 0 fail")


def test_transparency_is_refused_or_put_on_a_colour(command, folder):
    picture("clear.png", mode="RGBA", colour=(9, 9, 9, 0))
    status, _, err = command("encode", "clear.png")
    assert (status, len(err)) == (1, 1) and "--flatten" in err[0]
    assert command("encode", "clear.png", "--flatten=#0a14ff")[0] == 0
    assert command("decode", "clear.cnn.jpg", "-o", "flat.png")[::2] == (0, [])
    assert (pixels_of("flat.png") == (0x0A, 0x14, 0xFF)).all()


def test_notes_name_the_file(command, folder):
    Image.fromarray(np.full((4, 6), 40000, np.uint16)).save("deep.png")
    status, _, err = command("encode", "deep.png")
    assert status == 0 and len(err) == 1
    assert err[0].startswith("cnn-compression: deep.png: note: 16-bit")


def test_names_that_are_no_text_are_shown_in_one_line(command, folder):
    assert command("info", "two\nlines")[2] == [
        "cnn-compression: 'two\\nlines': no such file or folder"
    ]


# Where outputs go.


@pytest.mark.parametrize(
    "words, made",
    [
        (["a.png", "-o", "b.jpg"], ["b.jpg"]),
        (["a.png", "-o", "there"], ["there/a.cnn.jpg"]),
        (["a.png", "-o", "new/deep/"], ["new/deep/a.cnn.jpg"]),
        (["a.png", "in/c.png", "-o", "new/deep"], ["new/deep/a.cnn.jpg", "new/deep/c.cnn.jpg"]),
        (["in", "--output=new"], ["new/c.cnn.jpg"]),
    ],
)
def test_output_is_a_file_or_a_folder(command, folder, words, made):
    picture("a.png")
    picture("in/c.png")
    Path("there").mkdir()
    assert command("encode", *words)[::2] == (0, [])
    assert tree() == sorted(["a.png", "in/c.png", *made])


def test_existing_outputs_are_refused_unless_told_otherwise(command, folder):
    picture("a.png")
    Path("a.cnn.jpg").write_bytes(b"precious")
    status, _, err = command("encode", "a.png")
    assert status == 1
    assert err == [
        "cnn-compression: a.png: the output exists: a.cnn.jpg; pass --overwrite to replace it"
    ]
    assert Path("a.cnn.jpg").read_bytes() == b"precious"
    assert command("encode", "a.png", "--overwrite")[::2] == (0, [])
    assert Path("a.cnn.jpg").read_bytes().startswith(b"fake")


def forbid_loading(monkeypatch):
    def load(name):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(cnn_compression, "load", load)


def test_two_inputs_with_one_output_fail_and_the_others_are_done(command, folder):
    for name in ("in/logo.png", "in/logo.jpg", "in/logo.x.png", "in/sun.png", "b/logo.png"):
        picture(name)
    before = tree()
    status, out, err = command("encode", "in", "b", "-o", "out", "--manifest=all.csv")
    assert (status, tree("out")) == (1, ["logo.x.cnn.jpg", "sun.cnn.jpg"])
    assert out.startswith("5 files, 3 failed, ") and len(err) == 3
    for line, name, others in zip(
        sorted(err),
        ("b/logo.png", "in/logo.jpg", "in/logo.png"),
        ("in/logo.jpg and in/logo.png", "in/logo.png and b/logo.png", "in/logo.jpg and b/logo.png"),
        strict=True,
    ):
        assert line.startswith(
            f"cnn-compression: {name}: {others} would write out/logo.cnn.jpg too"
        )
        assert "rename one of them, or pass -o" in line
    assert 'in/logo.png,,,,"in/logo.jpg and b/logo.png would' in Path("all.csv").read_text()
    # The remedy is one.
    assert command("encode", "in/logo.png", "-o", "out/logo.png.cnn.jpg")[0] == 0
    assert set(before) < set(tree())


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_the_output_is_never_an_input(command, folder, monkeypatch, link):
    forbid_loading(monkeypatch)
    picture("a.png")
    original = Path("a.png").read_bytes()
    output = "./in/../a.png"
    Path("in").mkdir()
    if link:
        output = "link.png"
        getattr(Path(output), link)("a.png")
    status, _, err = command("encode", "a.png", "-o", output, "--overwrite")
    assert (status, len(err)) == (1, 1)
    assert err[0].startswith("cnn-compression: a.png: the output would be an input: ")
    assert Path("a.png").read_bytes() == original


def test_a_pipe_is_written_in_place(command, folder):
    picture("a.png")
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert command("encode", "a.png", "-o", "pipe")[::2] == (0, [])
    assert os.read(reader, 7) == b"fake 50"
    os.close(reader)
    assert Path("pipe").is_fifo() and tree() == ["a.png"]
    assert command("encode", "a.png", "-o", "/dev/null")[::2] == (0, [])
    assert Path("/dev/null").is_char_device()


def test_a_name_that_promises_another_format_is_refused(command, folder, monkeypatch):
    forbid_loading(monkeypatch)
    picture("a.png")
    for name in ("b.png", "b.WEBP"):
        status, _, err = command("encode", "a.png", "-o", name)
        assert (status, tree()) == (1, ["a.png"])
        assert f"a payload is a JPEG file: expected -o NAME.jpg. Received: {name}" in err[0]


@pytest.mark.parametrize(
    "output, expected",
    [
        ("missing/b.jpg", "a.png: the output's folder does not exist: missing"),
        ("file/b.jpg", "a.png: the output's folder does not exist: file"),
        ("file/", "expected --output to be a folder. Received the file: file/"),
        ("file/deep/", "file/deep: Not a directory"),
    ],
)
def test_an_output_folder_that_cannot_be_is_one_line(command, folder, output, expected):
    picture("a.png")
    Path("file").write_bytes(b"")
    status, _, err = command("encode", "a.png", "-o", output)
    misused = output == "file/"
    assert (status, err) == (1 + misused, [f"cnn-compression: {expected}"])
    assert tree() == ["a.png", "file"]


def test_several_inputs_do_not_go_into_one_file(command, folder):
    picture("a.png")
    picture("b.png")
    Path("file").write_bytes(b"")
    expected = "cnn-compression: expected --output to be a folder. Received the file: {}".format
    for output in ("file", "-", "/dev/stdout", "/dev/null"):
        words = ["encode", "a.png", "b.png", "-o", output]
        assert command(*words) == (2, "", [expected(output)])


@pytest.mark.parametrize(
    "words, where",
    [(["a.png", "b.png", "-o", "locked"], ""), (["a.png", "-o", "locked/a"], "a.png: ")],
)
def test_a_folder_without_permission_is_one_line(command, folder, monkeypatch, words, where):
    picture("a.png")
    picture("b.png")
    Path("locked").mkdir()
    # Not by chmod: the superuser, whom a container's tests often run as, may write all the same.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")
    expected = f"cnn-compression: {where}the output's folder cannot be written: locked"
    assert command("encode", *words)[::2] == (1, [expected])
    assert tree() == ["a.png", "b.png"]


# The terminal.


def test_progress_is_for_terminals(command, folder, monkeypatch, capsys):
    picture("a.png")
    assert command("encode", "a.png", "missing.png")[2] == [
        "cnn-compression: missing.png: no such file or folder"
    ]
    picture("b.png")
    Path("c.png").write_bytes(b"text")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    cli.main(["encode", "b.png", "c.png"])
    out, err = capsys.readouterr()
    bar = "\r\033[K[{}] {}/2 {}".format
    steps = [bar("." * 20, 0, "b.png"), bar("#" * 10 + "." * 10, 1, "c.png")]
    assert err.startswith("".join(steps) + "\r\033[Kcnn-compression: c.png: ")
    assert err.endswith("\n\r\033[K")
    assert "\033" not in out


def test_ctrl_c_ends_quietly_with_130_and_leaves_nothing_half_written(command, folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    picture("a.png")
    picture("b.png")
    assert command("encode", "a.png", "b.png") == (130, "", ["cnn-compression: interrupted"])
    assert tree() == ["a.png", "b.png"]


# Training and export.


def test_train_passes_every_setting_on(command, monkeypatch):
    from cnn_compression.training import loop

    seen = []
    monkeypatch.setattr(loop, "train", seen.append)
    words = ["--output=run", "--steps=7", "--learning_rate=1e-3", "--data=a", "--data=b", "c", "d"]
    assert command("train", *words) == (0, "trained: run\n", [])
    data = ("a", "b", "c", "d")
    assert seen == [loop.TrainConfig(data=data, output="run", steps=7, learning_rate=1e-3)]


def test_train_shows_the_choices_there_are(command):
    assert "--preset=fast|paper" in command("train", "--help")[1]
    status, _, err = command("train", "--output=run", "a", "--schedule=often")
    assert (status, len(err)) == (2, 1)
    assert "--schedule=often" in err[0] and "joint|alternate" in err[0]


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--output=run"], "data and output must be given"),
        (["--output=run", "a", "--channels=2"], "channels must be one of (1, 3). Received: 2"),
        (["--output=run", "a", "--steps=0"], "steps must be at least 1. Received: 0"),
        (["--output=run", "a", "--steps=many"], "flag --steps=many: "),
        (["--output=run", "a"], "not finite at step 3"),
    ],
)
def test_train_that_cannot_go_on_says_why_in_one_line(command, monkeypatch, words, expected):

    from cnn_compression.training import loop

    def train(config):
        raise FloatingPointError("not finite at step 3")

    monkeypatch.setattr(loop, "train", train)
    status, out, err = command("train", *words)
    misused = "--steps=many" in words
    assert (status, out, len(err)) == (1 + misused, "", 1) and expected in err[0]


def test_export_offers_the_arguments_of_export(command, monkeypatch):
    from cnn_compression import export

    seen = {}
    _, *optional = inspect.signature(export.export).parameters.values()
    monkeypatch.setattr(export, "export", lambda models, **rest: seen.update(rest) or models)
    assert command("export", "half", "full") == (0, "['half', 'full']\n", [])
    assert seen == {parameter.name: parameter.default for parameter in optional}
    words = ["--version=3", "--output=there", "--ranges=1-60:5-90,51-100:30-97"]
    words += ["--handovers=190.5-36", "--max_pixels=1000000"]
    assert command("export", "run", *words)[0] == 0
    ranges = [[1, 60, 5, 90], [51, 100, 30, 97]]
    assert seen == {
        "name": "",
        "output": "there",
        "version": 3,
        "ranges": ranges,
        "handovers": [[190.5, 36.0]],
        "max_pixels": 10**6,
    }


def test_export_to_onnx_offers_the_arguments_of_its_function(command, monkeypatch):
    from cnn_compression.export import onnx_models

    seen = {}
    _, *optional = inspect.signature(onnx_models.export_onnx).parameters.values()
    monkeypatch.setattr(onnx_models, "export_onnx", lambda models, **rest: seen.update(rest))
    assert command("export", "run", "--format=onnx")[0] == 0
    assert seen == {parameter.name: parameter.default for parameter in optional}
    words = ["--weights=float16", "--licence=MIT", "--output=there", "--name=mine"]
    assert command("export", "run", "--format=onnx", *words)[0] == 0
    given = {"weights": "float16", "licence": "MIT", "output": "there", "name": "mine"}
    assert seen == given | {"ranges": None, "handovers": None}


def test_export_to_onnx_says_what_it_lacks(command, monkeypatch):
    from cnn_compression.export import onnx_models

    def fail(models, **rest):
        raise ModuleNotFoundError("No module named 'tf2onnx'")

    monkeypatch.setattr(onnx_models, "export_onnx", fail)
    status, _, [line] = command("export", "run", "--format=onnx")
    assert status == 1 and "cnn-compression[onnx]" in line and "tf2onnx" in line


@pytest.mark.parametrize(
    "words",
    [
        ["--format=onnx", "--version=3"],
        ["--format=onnx", "--max_pixels=9"],
        ["--weights=float16"],
        ["--licence=MIT"],
        ["--format=onnx", "--weights=int3"],
    ],
)
def test_a_flag_of_another_format_is_refused(command, folder, words):
    status, out, err = command("export", "run", *words)
    assert (status, out, len(err), os.listdir()) == (2, "", 1, [])


@pytest.mark.parametrize(
    "words, expected", [([], 2), (["a", "--version=new"], 2), (["nosuch.keras"], 1)]
)
def test_export_of_no_model_is_one_line(command, folder, words, expected):
    status, out, err = command("export", *words)
    assert (status, out, len(err), os.listdir()) == (expected, "", 1, [])


# With the real codec: the files that users have.


@pytest.mark.slow
@pytest.mark.parametrize(
    "target, reached",
    [
        ("--target_bytes=3000", lambda size, db: size <= 3000),
        ("--target_bpp=0.4", lambda size, db: 8 * size / (192 * 256) <= 0.4),
        ("--target_psnr=29", lambda size, db: db >= 29),
    ],
)
def test_encode_to_a_target(command, workplace, photos, codec, target, reached):
    Image.fromarray(photos["coffee"]).save("a.png")
    assert command("encode", "a.png", target)[0] == 0
    payload = Path("a.cnn.jpg").read_bytes()
    assert reached(len(payload), float(psnr(photos["coffee"], codec.decode(payload))))


def test_a_target_out_of_reach_fails_alone(command, workplace, photos):
    Image.fromarray(photos["coffee"]).save("a.png")
    Image.new("RGB", (64, 64), "red").save("b.png")
    status, _, err = command("encode", "a.png", "b.png", "--target_bytes=400")
    assert (status, tree()) == (1, ["a.png", "b.cnn.jpg", "b.png"])
    assert "a.png: even quality 1 takes" in err[0] and "Target: 400 bytes" in err[0]


@pytest.fixture
def workplace(tmp_path, monkeypatch, codec):
    """An empty current folder; `codec` has been loaded and is kept by `load`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_that_are_no_images_fail_alone_and_say_why(command, workplace, photos):
    photo = Image.fromarray(photos["coffee"])
    for name in ("torn.jpg", "cut.png", "fine.jpg"):
        photo.save(name)
    for name in ("torn.jpg", "cut.png"):
        data = Path(name).read_bytes()
        Path(name).write_bytes(data[: len(data) // 2])
    Path("empty.png").write_bytes(b"")
    Path("text.jpg").write_bytes(b"hello, world\n")
    names = ["empty.png", "text.jpg", "torn.jpg", "cut.png"]
    status, out, err = command("encode", *names, "fine.jpg", "-o", "out")
    assert (status, tree("out")) == (1, ["fine.cnn.jpg"])
    reasons = ["empty", "hello", "truncated|damaged", "truncated|damaged"]
    assert len(err) == len(names)
    for line, name, why in zip(err, names, reasons, strict=True):
        assert re.match(rf"cnn-compression: {re.escape(name)}: .*({why})", line)
    assert out.startswith("5 files, 4 failed, ")


def test_files_that_are_no_payloads_fail_alone_and_say_why(command, workplace, photos, codec):
    payload = codec.encode(photos["camera"], 20)
    Path("bad").mkdir()
    for place in (0, 20, 24, 28, 36, 40, 47, 50, 56, len(payload) // 2, len(payload) - 1):
        flipped = bytearray(payload)
        flipped[place] ^= 0x10
        Path(f"bad/flipped{place}.cnn.jpg").write_bytes(flipped)
    for length in (0, 1, 30, 56, len(payload) // 2, len(payload) - 1):
        Path(f"bad/cut{length}.cnn.jpg").write_bytes(payload[:length])
    Image.fromarray(photos["coffee"]).save("bad/plain.cnn.jpg")
    Path("fine.cnn.jpg").write_bytes(payload)
    names = tree("bad")
    status, out, err = command("decode", "bad", "fine.cnn.jpg", "-o", "out")
    assert (status, tree("out")) == (1, ["fine.png"])
    assert len(err) == len(names)
    for line, name in zip(err, names, strict=True):
        reason = line.removeprefix(f"cnn-compression: bad/{name}: ")
        assert re.match("not a payload|damaged|cut short|(payload )?version must be", reason)
    np.testing.assert_array_equal(pixels_of("out/fine.png"), codec.decode(payload)[..., 0])


def test_a_payload_of_another_model_names_both(command, workplace, photos, codec, monkeypatch):
    from cnn_compression.codec import Codec
    from cnn_compression.models.com_rec import ComRec

    Path("a.cnn.jpg").write_bytes(codec.encode(photos["coffee"], 20))
    other = Codec(ComRec.from_preset("fast"))
    monkeypatch.setattr(cnn_compression, "load", lambda name: other, raising=False)
    status, _, err = command("decode", "a.cnn.jpg")
    assert (status, len(err), tree()) == (1, 1, ["a.cnn.jpg"])
    assert codec.fingerprint in err[0] and other.fingerprint in err[0]


def test_a_payload_is_not_compressed_again_by_mistake(command, workplace, photos, codec):
    Path("a.jpg").write_bytes(codec.encode(photos["coffee"], 20))
    status, _, err = command("encode", "a.jpg")
    assert (status, tree()) == (1, ["a.jpg"])
    assert len(err) == 1 and err[0].startswith("cnn-compression: a.jpg: is a payload already")


def test_a_payload_with_metadata_of_others_is_a_payload_as_before(
    command, workplace, photos, codec
):
    """As exiftool leaves it: Exif before our segment, which then stands elsewhere."""
    payload = codec.encode(photos["coffee"], 20)
    exif = b"\xff\xe1\x00\x10Exif\x00\x00MM\x00*abcd"
    Path("a.jpg").write_bytes(payload[:20] + exif + payload[20:])
    assert command("encode", "a.jpg")[2][0].startswith("cnn-compression: a.jpg: is a payload")
    status, out, _ = command("info", "a.jpg")
    assert status == 0 and "256x192, colour" in out and f"{len(payload) + 18} bytes" in out
    assert command("decode", "a.jpg", "-o", "a.png")[0] == 0
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), codec.decode(payload))


def test_unusual_images_come_back_in_their_size_and_upright(command, workplace, photos):
    photo = Image.fromarray(photos["astronaut"])
    sizes = {}
    for name, size in (("dot", (1, 1)), ("row", (37, 1)), ("column", (1, 50)), ("odd", (31, 17))):
        sizes[name] = size
        photo.crop((0, 0, *size)).save(f"{name}.png")
    small = photo.resize((64, 48))
    for name in ("grey", "deep", "cmyk", "turned", "film"):
        sizes[name] = small.size
    small.convert("L").save("grey.png")
    Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257).save("deep.png")
    small.convert("CMYK").save("cmyk.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned clockwise for display
    small.transpose(Image.Transpose.ROTATE_90).save("turned.jpg", quality=95, exif=exif)
    small.save("film.gif", save_all=True, append_images=[Image.new("RGB", small.size)])

    status, out, err = command("encode", ".", "--quality=95")
    assert status == 0
    assert [line for line in err if "larger than its input" not in line] == [
        "cnn-compression: deep.png: note: 16-bit samples reduced to 8",
        "cnn-compression: film.gif: note: the first of several pictures is taken",
    ]
    assert command("decode", ".", "-o", "back")[::2] == (0, [])
    for name, size in sizes.items():
        assert Image.open(f"back/{name}.png").size == size
    colour, grey = np.asarray(small, float), np.asarray(small.convert("L"), float)
    for name in ("grey", "deep", "cmyk", "turned", "film"):
        restored = pixels_of(f"back/{name}.png")
        original = grey if restored.ndim == 2 else colour
        assert (restored.ndim == 2) == (name in ("grey", "deep"))
        # Far below what a turned, inverted or black image would have (10 dB and less).
        assert 10 * np.log10(255**2 / np.mean((restored - original) ** 2)) > 18


def test_info_is_one_line_for_each_payload(command, workplace, photos, codec):
    sizes, qualities = [], []
    for name, quality in (("camera", 20), ("coffee", 71)):
        payload = codec.encode(photos[name][:101, :203], quality)
        Path(f"{name}.cnn.jpg").write_bytes(payload)
        sizes.append(len(payload))
        qualities.append(read_header(payload).quality)
    status, out, err = command("info", ".", "missing")
    assert status == 1
    assert [line.split(", ") for line in out.splitlines()] == [
        [f"{name}.cnn.jpg: 203x101", kind,
         f"quality {asked}", f"JPEG quality {quality}",
         f"{8 * size / (203 * 101):.3f} bpp", f"{size} bytes", f"model {codec.fingerprint}",
         "preview {}x{}".format(*Image.open(f"{name}.cnn.jpg").size)]
        for (name, kind, asked), quality, size in zip(
            (("camera", "grey", 20), ("coffee", "colour", 71)), qualities, sizes, strict=True
        )
    ]  # fmt: skip
    assert err[0] == "cnn-compression: missing: no such file or folder"
    assert err[1].startswith("3 files, 1 failed, ") and len(err) == 2
    assert command("info", "camera.cnn.jpg")[2] == []


def test_info_of_a_header_without_pixels_is_one_line(command, workplace, photos, codec):
    payload = bytearray(codec.encode(photos["camera"], 20))
    payload[37:41] = bytes(4)
    Path("a.cnn.jpg").write_bytes(payload)
    assert command("info", "a.cnn.jpg") == (
        1, "", ["cnn-compression: a.cnn.jpg: damaged: 256x0 pixels"]
    )  # fmt: skip


# In a process of its own.


def python(*words, **settings):
    words = [sys.executable, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user's terminal has it
    return subprocess.run(
        words, text=True, timeout=120, env=environment, **{"capture_output": True, **settings}
    )


def test_a_reader_that_leaves_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    run = python(
        "-m", "cnn_compression", "--help", capture_output=False, stdout=writer,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    assert (run.returncode, run.stderr) == (1, "")


def test_help_and_info_do_not_start_tensorflow(workplace, photos, codec):
    Path("a.cnn.jpg").write_bytes(codec.encode(photos["camera"], 20))
    lines = [["--help"], ["--version"], ["info", "a.cnn.jpg"], ["info", "."]]
    lines += [[verb, "--help"] for verb in cli.VERBS]
    program = (
        "import sys\n"
        "from cnn_compression.cli import main\n"
        f"assert [main(words) for words in {lines}] == {[0] * len(lines)}\n"
        "heavy = {'tensorflow', 'keras', 'tensorflow_io'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    run = python("-c", program)
    assert (run.returncode, run.stderr.count("\n")) == (0, 0), run.stderr


def test_a_users_terminal_shows_no_noise_of_tensorflow(workplace, photos):
    Image.fromarray(photos["coffee"]).save("a.png")
    Path("b.png").write_bytes(b"")
    run = python("-m", "cnn_compression", "encode", "a.png", "b.png")
    assert run.returncode == 1
    assert run.stderr.splitlines() == ["cnn-compression: b.png: empty file"]
    assert run.stdout.startswith("2 files, 1 failed, ") and run.stdout.count("\n") == 1
