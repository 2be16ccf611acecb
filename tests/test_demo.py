import importlib.util
import io
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

import cnn_compression
from cnn_compression.cli import demo, main
from cnn_compression.jpeg import coding
from cnn_compression.tensors import metrics


class Halves:
    """A codec of the shape of ours that needs no weights: JPEG at half size."""

    name = "halves"
    fingerprint = "0123456789abcdef"
    model = SimpleNamespace(variables=[], jpeg_quality=np.arange(1, 101), limits=np.zeros(0))

    def encode(self, image, quality, effort=0):
        small = tf.image.resize(image, [(side + 1) // 2 for side in image.shape[:2]], "area")
        self.size = image.shape[:2]
        return coding.encode(tf.cast(tf.round(small), tf.uint8), quality).numpy()

    def decode(self, payload):
        large = tf.image.resize(coding.decode(payload), self.size, "bicubic")
        return tf.saturate_cast(tf.round(large), tf.uint8).numpy()


@pytest.fixture
def halves(monkeypatch):
    monkeypatch.setattr(cnn_compression, "load", lambda name: Halves(), raising=False)


def cells(printed):
    """The table's two rows, as lists of words."""
    lines = printed.splitlines()
    head = next(i for i, line in enumerate(lines) if "MS-SSIM" in line)
    return [line.split() for line in lines[head + 1 : head + 3]]


def write(path, image):
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(path)
    return str(path)


def read(path):
    return np.asarray(Image.open(path))


def run(photo, folder, *flags):
    return main(["demo", *([str(photo)] if photo else []), f"--output={folder}", *flags])


def test_the_photograph_of_scikit_image(halves, tmp_path, capsys):
    assert run(None, tmp_path / "new" / "out", "--quality=30") == 0
    ours, plain = cells(capsys.readouterr().out)
    original = skimage.data.astronaut()
    out = tmp_path / "new" / "out"
    names = ["astronaut.cnn.jpg", "astronaut.comparison.png", "astronaut.png"]
    assert sorted(path.name for path in out.iterdir()) == names

    payload = (out / "astronaut.cnn.jpg").read_bytes()
    codec = Halves()
    assert payload == codec.encode(original, 30)
    np.testing.assert_array_equal(read(out / "astronaut.png"), codec.decode(payload))
    assert ours[:3] == ["cnn-compression,", "quality", "30"]
    scores = [f"{8 * len(payload) / 512**2:.3f}"]
    scores += [f"{metrics.psnr(original, codec.decode(payload)):.2f}"]
    scores += [f"{metrics.ssim(original, codec.decode(payload)):.4f}"]
    scores += [f"{metrics.ms_ssim(original, codec.decode(payload)):.4f}"]
    assert ours[3:8] == [str(len(payload)), *scores]

    quality = int(plain[2])
    assert plain[:2] == ["JPEG,", "quality"]
    sizes = [len(coding.encode(original, q).numpy()) for q in (quality, quality + 1)]
    assert sizes[0] == int(plain[3]) <= len(payload) < sizes[1]


def test_the_comparison_shows_all_three(halves, tmp_path, photos):
    photo = write(tmp_path / "cat.png", photos["chelsea"])
    assert run(photo, tmp_path / "out", "--quality=20") == 0
    sheet = read(tmp_path / "out" / "cat.comparison.png")
    panels = [np.hsplit(sheet[:, demo.MARGIN :], 3)[i][:, : demo.PANEL] for i in range(3)]
    assert sheet.shape[1] == 3 * (demo.PANEL + demo.MARGIN) + demo.MARGIN
    details = [panel[-demo.PANEL - demo.MARGIN : -demo.MARGIN] for panel in panels]
    # An enlarged pixel is a square of one colour; the original's are pixels of the photograph.
    zoom = demo.PANEL // demo.DETAIL
    shrunk = [detail[::zoom, ::zoom] for detail in details]
    np.testing.assert_array_equal(shrunk[0].repeat(zoom, 0).repeat(zoom, 1), details[0])
    places = np.lib.stride_tricks.sliding_window_view(photos["chelsea"], shrunk[0].shape)
    found = np.argwhere((places == shrunk[0]).all((3, 4, 5)))
    assert len(found) == 1
    restored = read(tmp_path / "out" / "cat.png")
    top, left = found[0][:2]
    np.testing.assert_array_equal(restored[top:, left:][: demo.DETAIL, : demo.DETAIL], shrunk[2])
    assert (shrunk[1] != shrunk[0]).any() and (shrunk[1] != shrunk[2]).any()


def test_even_the_smallest_jpeg_may_be_too_large(halves, tmp_path, photos, capsys):
    photo = write(tmp_path / "photo.png", photos["coffee"])
    assert run(photo, tmp_path / "out", "--quality=1") == 0
    printed = capsys.readouterr().out
    ours, plain = cells(printed)
    assert plain[:3] == ["JPEG,", "quality", "1"] and int(plain[3]) > int(ours[3])
    assert "even this takes more bytes" in printed


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (130, 7), (90, 200)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(halves, tmp_path, capsys, size, channels):
    image = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    photo = write(tmp_path / "photo.png", image)
    assert run(photo, tmp_path / "out") == 0
    ours, plain = cells(capsys.readouterr().out)
    assert ours[-3] == plain[-3] == "-"  # too small for MS-SSIM
    assert read(tmp_path / "out" / "photo.png").shape[:2] == size
    assert (tmp_path / "out" / "photo.comparison.png").exists()


def test_does_not_replace_the_photograph(halves, tmp_path, photos, capsys):
    photo = write(tmp_path / "photo.png", photos["rocket"])
    before = (tmp_path / "photo.png").read_bytes()
    assert run(photo, tmp_path) == 1
    assert "the output would be the input" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
    assert (tmp_path / "photo.png").read_bytes() == before


@pytest.mark.parametrize(
    "words, status, reason",
    [
        (["a.png", "b.png"], 2, "one photograph at most. Received: 2"),
        (["missing.png"], 1, "missing.png: No such file"),
        (["empty.png"], 1, "empty.png: empty file"),
        (["--quality=101"], 2, "--quality=101"),
        (["--quality=high"], 2, "--quality=high"),
        (["--output=empty.png"], 1, "empty.png: "),
    ],
)
def test_one_line_says_what_is_wrong(halves, tmp_path, monkeypatch, capsys, words, status, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.png").touch()
    assert main(["demo", *words]) == status
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize("module, package", [("skimage", "scikit-image")])
def test_says_what_to_install(halves, tmp_path, monkeypatch, capsys, module, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find_spec(name)
    )
    assert run(None, tmp_path) == 1
    assert f"needs {package}: pip install 'cnn-compression[demo]'" in capsys.readouterr().err


def test_with_the_default_model(codec, tmp_path, capsys, photos):
    photo = write(tmp_path / "coffee.png", photos["coffee"])
    assert run(photo, tmp_path / "out", "--quality=45") == 0
    ours, plain = cells(capsys.readouterr().out)
    assert float(ours[5]) > float(plain[5])  # PSNR: what the package is for
    payload = (tmp_path / "out" / "coffee.cnn.jpg").read_bytes()
    restored = read(tmp_path / "out" / "coffee.png")
    np.testing.assert_array_equal(restored, codec.decode(payload))
    preview = Image.open(io.BytesIO(payload))
    assert preview.format == "JPEG" and preview.size == (128, 96)
