"""Latent models on the command line: files of their own, and what there is not for them."""

import json

import latent_models
import numpy as np
import pytest
from cli_calls import picture, tree
from PIL import Image

import cnn_compression
from cnn_compression.codec.latent import LatentCodec
from cnn_compression.payload import latent_layout


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of three training runs, called as their families are."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("bottleneck", "progressive", "generative"):
        (folder / name).mkdir()
        getattr(latent_models, name)().save(folder / name / "model.keras")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(latent_models.photo(40, 48)).save("photo.png")
    return tmp_path


def test_a_photograph_there_and_back(command, home, models):
    model = f"--model={models / 'bottleneck'}"
    assert command("encode", model, "--quality=80", "photo.png")[0] == 0
    assert tree() == ["photo.cnnl", "photo.png"]
    codec = LatentCodec(latent_models.bottleneck())
    payload = (home / "photo.cnnl").read_bytes()
    assert latent_layout.read_header(payload).quality == 80
    status, out, _ = command("info", "photo.cnnl")
    assert status == 0
    assert out == (
        f"photo.cnnl: 48x40, colour, quality 80, {8 * len(payload) / 1920:.3f} bpp, "
        f"{len(payload)} bytes, model {codec.fingerprint}, family bottleneck\n"
    )
    assert command("decode", model, "-o", "again.png", "photo.cnnl")[0] == 0
    again = np.asarray(Image.open("again.png")).astype(int)
    assert np.abs(again - codec.decode(payload)).max() <= 1


def test_folders_and_manifests(command, home, models):
    picture("in/a.png")
    picture("in/b/c.png", mode="L")
    model = f"--model={models / 'bottleneck'}"
    assert command("encode", model, "-r", "-o", "coded/", "--manifest=m.jsonl", "in")[0] == 0
    assert tree("coded") == ["a.cnnl", "b/c.cnnl"]
    rows = [json.loads(line) for line in (home / "m.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["done", "done"]
    assert command("decode", model, "-r", "-o", "back/", "coded")[0] == 0
    assert tree("back") == ["a.png", "b/c.png"]
    assert Image.open("back/b/c.png").mode == "L"
    status, out, err = command("info", "coded")
    assert (status, out.count("family bottleneck")) == (0, 1) and not err


def test_a_cut_progressive_payload(command, home, models):
    model = f"--model={models / 'progressive'}"
    assert command("encode", model, "photo.png")[0] == 0
    payload = (home / "photo.cnnl").read_bytes()
    (home / "cut.cnnl").write_bytes(payload[: len(payload) // 2])
    _, out, _ = command("info", "photo.cnnl", "cut.cnnl")
    assert "quality 8, " in out and ", 8 of 8 passes" in out and " 3 of 8 passes" in out
    status, _, err = command("decode", model, "cut.cnnl")
    assert (status, tree()) == (1, ["cut.cnnl", "photo.cnnl", "photo.png"])
    assert "cut short: expected 8 passes. Received: 3" in err[0]
    assert command("decode", model, "--partial", "cut.cnnl")[0] == 0
    assert Image.open("cut.png").size == (48, 40)
    assert command("decode", model, "--partial", "-f", "photo.cnnl")[0] == 0
    status, _, err = command("encode", model, "--quality=50", "-f", "photo.png")
    assert status == 1 and "quality must be an integer in 1..16. Received: 50" in err[0]


@pytest.mark.parametrize(
    "words, text",
    [
        (["--pack"], "expected no --pack with a model of the family bottleneck"),
        (["--effort=1"], "expected no --effort with"),
        (["--keep_metadata"], "expected no --keep_metadata with"),
        (["--server=localhost:1"], "a model of the family bottleneck is not served"),
        (["-o", "photo.jpg"], "expected -o NAME.cnnl. Received: photo.jpg"),
        (["-o", "photo.cnn.jpg"], "expected -o NAME.cnnl. Received: photo.cnn.jpg"),
        (["-o", "photo.cnnp"], "expected -o NAME.cnnl. Received: photo.cnnp"),
    ],
)
def test_what_there_is_not(command, home, models, words, text):
    status, _, err = command("encode", f"--model={models / 'bottleneck'}", *words, "photo.png")
    assert status != 0 and text in err[0]
    assert tree() == ["photo.png"]


@pytest.mark.parametrize("target", ["--target_bytes=120", "--target_bpp=0.5"])
def test_a_target_is_met(command, home, models, target):
    assert command("encode", f"--model={models / 'bottleneck'}", target, "photo.png")[0] == 0
    payload = (home / "photo.cnnl").read_bytes()
    assert 100 < len(payload) <= 120


def test_what_is_black_in_a_mask_may_be_made_up(command, home, models):
    mask = np.zeros((40, 48), np.uint8)
    mask[:16, :16] = 255
    Image.fromarray(mask).save("mask.png")
    words = ["encode", f"--model={models / 'generative'}", "--mask=mask.png", "photo.png"]
    assert command(*words)[0] == 0
    expected = LatentCodec(latent_models.generative()).encode(
        latent_models.photo(40, 48), mask=mask > 0
    )
    assert (home / "photo.cnnl").read_bytes() == expected
    for model in ("default", models / "bottleneck"):
        status, _, err = command("encode", f"--model={model}", *words[2:], "-o", "x.cnnl")
        assert status != 0 and "mask" in err[0]
    assert tree() == ["mask.png", "photo.cnnl", "photo.png"]


def test_what_is_coded_already_is_not_coded_again(command, home, models):
    codec = LatentCodec(latent_models.bottleneck())
    (home / "small.cnnl").write_bytes(codec.encode(latent_models.photo(16, 16)))
    status, _, err = command("encode", "small.cnnl")
    assert status == 1 and "is a payload already" in err[0]
    status, _, err = command("pack", "small.cnnl")
    assert status == 1 and "range-coded already" in err[0]
    assert tree() == ["photo.png", "small.cnnl"]


def test_a_server_restores_none(command, home, models):
    codec = LatentCodec(latent_models.bottleneck())
    (home / "small.cnnl").write_bytes(codec.encode(latent_models.photo(16, 16)))
    status, _, err = command("decode", "--server=localhost:1", "small.cnnl")
    assert status == 1 and "is not served: leave out --server" in err[0]
    status, _, err = command("decode", "--max_pixels=255", "small.cnnl")
    assert status == 1 and "16 x 16 pixels: at most 255 are taken" in err[0]


def test_another_model_says_whose_a_payload_is(command, home, models):
    codec = LatentCodec(latent_models.bottleneck())
    (home / "small.cnnl").write_bytes(codec.encode(latent_models.photo(16, 16)))
    for model in ("default", models / "progressive"):
        status, _, err = command("decode", f"--model={model}", "small.cnnl")
        assert status == 1
        assert f"made by model {codec.fingerprint} of the family bottleneck" in err[0]


def test_without_a_model_the_one_that_wrote_a_file_restores_it(command, home):
    codec = cnn_compression.load("bottleneck")
    payload = codec.encode(latent_models.photo(16, 16))
    (home / "small.cnnl").write_bytes(payload)
    assert command("decode", "small.cnnl")[0] == 0
    restored = np.asarray(Image.open("small.png"))
    np.testing.assert_array_equal(restored, codec.decode(payload))
    status, _, err = command("decode", "--model=default", "-o", "other.png", "small.cnnl")
    assert status == 1 and err[0].endswith("pass --model=bottleneck")


def test_a_model_that_is_not_installed_is_said_before_any_other_is_loaded(
    command, home, monkeypatch
):
    codec = LatentCodec(latent_models.generative())
    (home / "small.cnnl").write_bytes(codec.encode(latent_models.photo(16, 16)))
    loaded, load = [], cnn_compression.load
    monkeypatch.setattr(cnn_compression, "load", lambda name: loaded.append(name) or load(name))
    status, _, err = command("decode", "small.cnnl")
    assert status == 1 and "of the family generative: no installed model is that one" in err[0]
    assert not [name for name in loaded if "generative" not in str(name)]


@pytest.mark.slow
def test_the_benchmark_measures_them(command, home, models):
    names = ",".join(str(models / name) for name in ("bottleneck", "progressive"))
    status, _, _ = command(
        "benchmark", f"--models={names}", "--codecs=jpeg", "--qualities=20,60", "-o", "out",
        "photo.png",
    )  # fmt: skip
    assert status == 0
    rows = [json.loads(line) for line in (home / "out/rows.jsonl").read_text().splitlines()]
    counts = {name: sum(name in row.values() for row in rows) for name in ("bottleneck", "JPEG")}
    assert counts["bottleneck"] == 2 and counts["JPEG"] > 2
    progressive = [row["quality"] for row in rows if row["codec"] == "progressive"]
    assert progressive == [1, 2, 3, 4, 6, 8, 11, 16]  # of 16


def test_a_demo_is_for_jpegs(command, home, models):
    model = f"--model={models / 'bottleneck'}"
    status, _, err = command("demo", model)
    assert status != 0 and "a model of the family bottleneck does not write" in err[0]
