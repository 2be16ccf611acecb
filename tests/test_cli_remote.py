"""`serve`, and verbs that ask a server: the same files as with the model at hand."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cnn_compression import cli
from cnn_compression.codec.model_files import find_model
from cnn_compression.payload import layout

COMMAND = [sys.executable, "-m", "cnn_compression"]


@pytest.fixture(scope="module")
def served():
    """REST and gRPC addresses of `cnn-compression serve` in a process of its own."""
    command = [*COMMAND, "serve", "--port=0", "--rest_api_port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        rest = re.search(r"http://\S+", process.stdout.readline())[0]
        grpc = re.search(r"\S+:\d+", process.stdout.readline())[0]
        yield rest, f"grpc://{grpc}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def folder(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("coffee", "camera"):
        Image.fromarray(np.squeeze(photos[name])).save(tmp_path / "in" / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("transport", [0, 1], ids=["rest", "grpc"])
def test_a_server_gives_what_the_model_gives(served, folder, photos, codec, transport, capsys):
    server = f"--server={served[transport]}"
    assert cli.main(["encode", "-q", "30", "in", "-o", "small", server]) == 0
    assert "2 files, 0 failed" in capsys.readouterr().out
    assert cli.main(["decode", "small", "-o", "out", server]) == 0
    for name in ("coffee", "camera"):
        payload = (folder / "small" / f"{name}.cnn.jpg").read_bytes()
        assert payload == codec.encode(photos[name], 30)
        restored = np.asarray(Image.open(folder / "out" / f"{name}.png"))
        np.testing.assert_array_equal(restored, np.squeeze(codec.decode(payload)))


def test_a_server_keeps_a_size(served, folder):
    words = ["encode", "in/coffee.png", "--target_bytes=3000", f"--server={served[0]}"]
    assert cli.main(words) == 0
    payload = (folder / "in" / "coffee.cnn.jpg").read_bytes()
    assert layout.is_payload(payload) and 2000 < len(payload) <= 3000


def test_what_is_wrong_with_a_file_is_said_and_others_are_done(served, folder, capsys):
    (folder / "in" / "bad.png").write_bytes(b"no picture")
    assert cli.main(["encode", "in", "-o", "small", f"--server={served[0]}"]) == 1
    out, err = capsys.readouterr()
    assert "3 files, 1 failed" in out
    assert "bad.png: not a PNG, JPEG, GIF or BMP file" in err
    assert sorted(os.listdir("small")) == ["camera.cnn.jpg", "coffee.cnn.jpg"]


@pytest.mark.parametrize("flag", ["--effort=1", "--flatten=white", "--target_bpp=1"])
def test_what_a_server_does_not_know_is_refused(folder, capsys, flag):
    assert cli.main(["encode", "in", flag, "--server=localhost:1"]) == 2
    assert f"expected no {flag.partition('=')[0]} with --server" in capsys.readouterr().err


def test_a_server_that_is_away_is_said(folder, capsys):
    assert cli.main(["encode", "in/coffee.png", "-o", "out.jpg", "--server=localhost:9"]) == 1
    assert "localhost:9 cannot be reached" in capsys.readouterr().err
    # What needs no server is said without one.
    assert cli.main(["decode", "in/coffee.png", "-o", "out.png", "--server=localhost:9"]) == 1
    assert "in/coffee.png: not a payload" in capsys.readouterr().err
    assert cli.main(["encode", "in", "--server=ftp://x"]) == 1
    assert "expected host:port" in capsys.readouterr().err
    assert sorted(os.listdir("in")) == ["camera.png", "coffee.png"]


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--model_base_path=nowhere", "expected a model's folder"),
        ("--model_name=default,nothing", "expected a model: one of"),
        ("--address=here", "'here' does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_serve_says_what_is_wrong(folder, capsys, flag, said):
    assert cli.main(["serve", "--port=0", "--rest_api_port=0", flag]) == 1
    assert said in capsys.readouterr().err


def test_serve_has_one_name_for_one_folder(folder, capsys):
    assert cli.main(["serve", "--model_name=default,eyes", "--model_base_path=nowhere"]) == 2
    assert "one --model_name" in capsys.readouterr().err


def test_serve_takes_names_and_no_paths(folder, capsys):
    place = find_model("default").parents[2]
    assert cli.main(["serve", f"--model_name={place}"]) == 2
    assert "expected names of installed models in --model_name" in capsys.readouterr().err


def test_serve_does_not_take_a_port_twice(served):
    port = served[0].rstrip("/").rpartition(":")[2]
    command = [*COMMAND, "serve", "--port=0", f"--rest_api_port={port}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "ddress already in use" in run.stderr
