"""The command, end to end."""

import csv
import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import tensorflow as tf
from small_pairs import RANGES, pair

import cnn_compression
from cnn_compression import cli
from cnn_compression.benchmark import registry, run
from cnn_compression.cli import benchmark as verb
from cnn_compression.codec import Codec
from cnn_compression.models.multi_scale import MultiScale

SMALL = ["--qualities=20,60", "--codecs=jpeg", "--rates=0.3"]


@pytest.fixture(scope="module")
def files(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in ("coffee", "camera"):
        (folder / f"{name}.png").write_bytes(tf.io.encode_png(photos[name]).numpy())
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="module")
def small_codec():
    return Codec(MultiScale([pair(2), pair(1)], RANGES), "small")


@pytest.fixture
def small(small_codec, monkeypatch):
    """A codec of few weights in the default model's place: what is tested is around it."""
    load = cnn_compression.load
    monkeypatch.setattr(
        cnn_compression, "load", lambda name: small_codec if name == "default" else load(name)
    )
    return small_codec


@pytest.fixture(autouse=True)
def short_ladders(monkeypatch):
    monkeypatch.setattr(registry.Jpeg, "qualities", (5, 20, 40, 60, 80, 95))
    monkeypatch.setattr(registry.HalfBicubic, "qualities", (20, 60))


def command(*words):
    return cli.main(["benchmark", *map(str, words)])


def rows_in(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_help_names_every_codec(capsys):
    assert tuple(verb.CODECS) == registry.NAMES
    assert command("--help") == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in registry.NAMES)
    assert "(default: 0.1,1.0)" in printed


def test_prints_tables(codec, files, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(*SMALL, *files) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# 2 images\n")
    assert f"| {codec.name} | " in printed and codec.fingerprint in printed
    assert "| PSNR, dB, at bpp | 0.3 |" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_writes_everything_and_goes_on(small, files, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("bjontegaard")
    output = tmp_path / "new" / "out"
    words = ["--qualities=20,60", "--codecs=jpeg,bicubic,rec", "--sizes=1,2", "--crop_bpp=0.8",
             f"--output={output}", files[0].parent]  # fmt: skip
    assert command(*words) == 0
    printed = capsys.readouterr().out
    names = ["rows.jsonl", "rows.csv", "report.md", "crops.png"]
    drawn = ("psnr", "ms_ssim", "ssimulacra2", "psnr-2", "ssimulacra2-2")  # 96x128: no MS-SSIM
    names += [f"{stem}.{kind}" for stem in drawn for kind in ("svg", "png")]
    assert sorted(path.name for path in output.iterdir()) == sorted(names)
    where, _, written = printed.splitlines()[-1].partition(": ")
    assert where == f"written to {output}" and sorted(written.split(", ")) == sorted(names)

    rows = rows_in(output)
    expected = 2 * 2 * (2 + 2 + len(registry.Jpeg.qualities) + len(registry.HalfBicubic.qualities))
    assert len(rows) == expected
    with open(output / "rows.csv", newline="") as file:
        table = list(csv.DictReader(file))
    texts = [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    assert table == texts
    title = f"{files[0].parent.name}, 2 images"
    text = (output / "report.md").read_text()
    assert text.startswith(f"# {title}\n")
    # A line for each of four codecs in both measures at both sizes, and what stands around them.
    tables = [line.split(" | ")[0] for line in printed.splitlines() if line.startswith("| ")]
    heads = ["| PSNR, dB, at bpp", "| SSIMULACRA2, at bpp"]
    assert len(tables) == 2 * 2 * (1 + 4) and [tables[0], tables[5]] == heads
    assert len(printed.splitlines()) < 35 and "BD-rate against JPEG, 0.1..1 bpp, %" in printed
    assert printed.startswith(f"# {title}: 256x192\n")
    assert "Bjontegaard deltas against JPEG" in text and "by size" in text
    svg = ElementTree.fromstring((output / "psnr-2.svg").read_text())
    assert f"{title}, scaled down by 2" in "".join(svg.itertext())

    def forbidden(*_, **__):
        raise AssertionError("measured again")

    before = {path.name: path.read_bytes() for path in output.iterdir()}
    monkeypatch.setattr(run, "measure", forbidden)
    assert command(*words) == 0
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_a_run_that_was_stopped_goes_on(small, files, tmp_path, capsys, monkeypatch):
    encode, calls = registry.Jpeg.encode, []

    def stop(self, image, quality):
        calls.append(quality)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encode(self, image, quality)

    words = ["--models=", "--codecs=jpeg", f"--output={tmp_path}", files[0]]
    with monkeypatch.context() as patch:
        patch.setattr(registry.Jpeg, "encode", stop)
        assert command(*words) == 130
    assert [row["quality"] for row in rows_in(tmp_path)] == list(registry.Jpeg.qualities[:4])
    assert command(*words) == 0
    assert [row["quality"] for row in rows_in(tmp_path)] == list(registry.Jpeg.qualities)


@pytest.mark.slow
def test_a_bad_image_fails_alone(small, files, tmp_path, capsys):
    torn, output = tmp_path / "b.png", tmp_path / "out"
    torn.write_bytes(files[0].read_bytes()[:-100])
    images = [files[0], torn, tmp_path / "missing.png", files[1]]
    assert command(*SMALL, f"--output={output}", *images) == 1
    printed, errors = capsys.readouterr()
    errors = [line for line in errors.splitlines() if "note: " not in line]
    assert errors[0] == f"cnn-compression: {tmp_path / 'missing.png'}: no such file or folder"
    assert errors[1].startswith(f"cnn-compression: {torn}: truncated") and len(errors) == 2
    assert printed.startswith("# 2 images: 256x192\n")
    per_image = 2 + len(registry.Jpeg.qualities)
    names = ["camera.png"] * per_image + ["coffee.png"] * per_image
    assert [row["image"] for row in rows_in(output)] == names


def test_bad_images_alone_make_no_table(small, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"hello")
    output = tmp_path / "out"
    assert command(*SMALL, f"--output={output}", tmp_path / "a.png") == 1
    printed, errors = capsys.readouterr()
    assert (printed, errors.count("\n")) == ("", 1)
    assert not (output / "report.md").exists()


@pytest.mark.slow
def test_without_the_extra_it_still_measures(small, files, tmp_path, capsys, monkeypatch):
    extra = ("pillow_heif", "pillow_jxl", "lepton_jpeg_python", "bjontegaard", "matplotlib")
    for module in extra:
        monkeypatch.setitem(sys.modules, module, None)
    assert command("--qualities=20,60", f"--output={tmp_path}", files[0]) == 0
    printed, errors = capsys.readouterr()
    for name in ("JPEG XL", "HEIC", f"{small.name}, Lepton", f"{small.name}, JPEG XL"):
        assert f"note: left out: {name} needs " in errors
    assert errors.count("cnn-compression[bench]") == 4 + 3  # codecs, plots
    assert "0.1 to 1 bpp: need the extra `bench`" in (tmp_path / "report.md").read_text()
    assert "BD-rate" not in printed
    assert {small.name, "JPEG"} <= {row["codec"] for row in rows_in(tmp_path)}
    written = ["crops.png", "report.md", "rows.csv", "rows.jsonl"]
    assert sorted(p.name for p in tmp_path.iterdir()) == written


@pytest.mark.parametrize(
    "output, reason",
    [("a.png", "expected --output to be a folder"), ("taken", "no regular file"),
     ("of/a.png/b", "a directory"), ("inputs", "would be an input")],
)  # fmt: skip
def test_an_output_that_cannot_be_is_told_before_any_work(
    small, files, tmp_path, monkeypatch, capsys, output, reason
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "measure", None)
    data = files[0].read_bytes()
    for path in ("a.png", "of/a.png", "inputs/crops.png"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / "taken" / "report.md").mkdir(parents=True)
    assert command(*SMALL, f"--output={output}", "a.png", "inputs/crops.png") == 1
    errors = capsys.readouterr().err
    assert reason in errors and errors.count("\n") == 1
    assert (tmp_path / "inputs" / "crops.png").read_bytes() == data


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--qualities=20,101"], "expected an integer from 1 to 100"),
        (["--qualities="], "expected at least one"),
        (["--sizes=1,0"], "expected integers from 1"),
        (["--efforts=0,3"], "expected integers in 0..2"),
        (["--rates=0.1,-1"], "expected numbers above 0"),
        (["--bd_range=1,0.1"], "expected two rates, the lower one first"),
        (["--bd_range=1"], "expected two rates"),
        (["--codecs=jpeg,gif"], "expected codecs of jpeg, webp"),
        (["--models=", "--codecs="], "at least one codec or model"),
        (["--models=nobody"], "expected a model"),
        (["--codecs=jpeg", "--anchor=webp"], "expected one of the codecs that are measured"),
        (["--crop_images=z.png"], "--crop_images among the images. Received: z.png"),
    ],
)
def test_one_line_says_what_is_wrong(small, files, capsys, monkeypatch, words, reason):
    monkeypatch.setattr(run, "measure", None)
    misused = words[0].startswith(("--qual", "--sizes", "--efforts", "--rates", "--bd_range"))
    assert command(*words, files[0]) == (2 if misused else 1)
    printed, errors = capsys.readouterr()
    assert reason in errors and errors.count("\n") == 1 and printed == ""


def test_progress_counts_rows(small, files, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    words = ["--models=", "--codecs=jpeg", f"--output={tmp_path}", files[0]]
    assert command(*words) == 0
    total = len(registry.Jpeg.qualities)
    errors = capsys.readouterr().err
    steps = [step for step in errors.split("\r\033[K") if step.startswith("[")]
    assert steps[0].startswith(f"[{'.' * 20}] 0/{total} ")
    assert f"] 1/{total} camera.png JPEG, " in steps[1] and steps[1].endswith(" min left")
    assert steps[-1].startswith(f"[{'#' * 20}] {total}/{total} ")
    assert errors.rstrip("\n").endswith("\r\033[K")


@pytest.mark.slow
def test_the_anchor_may_be_a_model(small, files, capsys):
    pytest.importorskip("bjontegaard")
    assert command(*SMALL, f"--anchor={small.name}", files[0]) == 0
    assert f"deltas against {small.name}" in capsys.readouterr().out
    assert command("--qualities=20,60", "--codecs=", files[0]) == 0  # nothing to compare with
    assert "deltas" not in capsys.readouterr().out


def test_models_by_their_names(small, files, monkeypatch, capsys):
    loaded = []
    monkeypatch.setattr(cnn_compression, "load", lambda name: loaded.append(name) or small)
    assert command("--models=one, two", "--codecs=jpeg", files[0]) == 1
    assert loaded == ["one", "two"]
    assert "expected codecs of different names" in capsys.readouterr().err
