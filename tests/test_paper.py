"""The paper's networks against the authors' own arithmetic, in NumPy, and their weights' layout."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import tensorflow as tf
from PIL import Image

from cnn_compression.codec import fingerprint
from cnn_compression.codec.model_files import find_model, load_model
from cnn_compression.models.paper_weights import (
    set_com_weights,
    set_rec_weights,
)
from cnn_compression.tensors.canvas import on_canvas
from cnn_compression.tensors.resampling import upsample_bicubic_mirrored

_SPEC = importlib.util.spec_from_file_location(
    "benchmarks_paper", Path(__file__).parent.parent / "benchmarks" / "paper.py"
)
command = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(command)

RANDOM = np.random.default_rng(5)
SIZES = [(2, 2), (4, 6), (8, 10), (14, 12)]


def convolve(x, filters, biases, stride=1):
    """MatConvNet's `vl_nnconv` with pad 1: `[H, W, in]` and `[3, 3, in, out]`, in float64."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    rows, columns = ((side + 2 - 3) // stride + 1 for side in x.shape[:2])
    y = np.zeros((rows, columns, filters.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = padded[stride * i : stride * i + 3, stride * j : stride * j + 3]
            y[i, j] = np.tensordot(window, filters, 3)
    return y + np.ravel(biases)


def run(layers, x):
    """`vl_simplenn` in test mode; the last layer, a loss, is left out as in the authors' demo."""
    for layer in layers[:-1]:
        match layer["type"]:
            case "conv":
                x = convolve(x, *layer["weights"], layer["stride"])
            case "bnorm":
                gamma, beta, moments = layer["weights"]
                x = np.ravel(gamma) * (x - moments[:, 0]) / moments[:, 1] + np.ravel(beta)
            case "relu":
                x = np.maximum(x, 0)
    return x


def imresize_twice(x):
    """MATLAB's `imresize(x, 2, "bicubic")` of `[H, W]`: one dimension, then the other."""
    for _ in range(2):
        x = _twice(x).T
    return x


def _twice(x):
    side = len(x)
    order = [*range(side), *reversed(range(side))]  # MATLAB's `aux`
    y = np.zeros((2 * side, *x.shape[1:]))
    for i in range(2 * side):
        centre = (i + 1) / 2 + 0.5 * (1 - 1 / 2)  # counted from 1, as imresize does
        first = int(np.floor(centre - 2))
        for place in range(first, first + 6):
            y[i] += _cubic(centre - place) * x[order[(place - 1) % (2 * side)]]
    return y


def _cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def conv_layer(inputs, outputs, stride=1):
    filters = RANDOM.standard_normal((3, 3, inputs, outputs)) * (2 / (9 * inputs)) ** 0.5
    weights = [filters.astype(np.float32), RANDOM.normal(0, 0.1, (1, outputs)).astype(np.float32)]
    return {"type": "conv", "weights": weights, "stride": stride, "pad": 1}


def norm_layer(size=64):
    sigma = RANDOM.uniform(0.02, 1.5, (size, 1))  # its square also below Keras' epsilon
    gamma, beta = sigma * RANDOM.uniform(0.7, 1.3, (size, 1)), RANDOM.normal(0, 0.2, (size, 1))
    moments = np.concatenate([RANDOM.normal(0, 0.2, (size, 1)), sigma], axis=1)
    weights = [value.astype(np.float32) for value in (gamma, beta, moments)]
    return {"type": "bnorm", "weights": weights}


@pytest.fixture(scope="module")
def theirs():
    """Layers of a ComCNN and of a RecCNN as the authors have them, with weights at random."""
    relu, loss = {"type": "relu"}, {"type": "loss"}
    com = [conv_layer(1, 64), relu, conv_layer(64, 64, 2), relu, conv_layer(64, 1), loss]
    rec = [conv_layer(1, 64), relu]
    for _ in range(18):
        rec += [conv_layer(64, 64), norm_layer(), relu]
    return com, [*rec, conv_layer(64, 1), loss]


@pytest.fixture(scope="module")
def files(theirs, tmp_path_factory):
    """Of MATLAB, which leaves dimensions of 1 out at the end."""
    folder = tmp_path_factory.mktemp("matconvnet")
    for name, layers in zip(("com", "rec"), theirs, strict=True):
        cells = np.empty((1, len(layers)), object)
        for number, layer in enumerate(layers):
            layer = dict(layer)
            if "weights" in layer:
                weights = np.empty((1, len(layer["weights"])), object)
                for n, value in enumerate(layer["weights"]):
                    weights[0, n] = value[..., 0] if value.shape[-1] == 1 else value
                layer["weights"] = weights
            cells[0, number] = layer
        scipy.io.savemat(folder / f"{name}.mat", {"net": {"layers": cells}})
    return folder


@pytest.fixture(scope="module")
def ours(files):
    return command.load_pair(files / "com.mat", files / "rec.mat")


def picture(size):
    return np.random.default_rng(size).random(size).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_com_pads_by_one_on_each_side(theirs, ours, size):
    x = picture(size)
    expected = run(theirs[0], x[..., None])
    assert expected.shape == (size[0] // 2, size[1] // 2, 1)
    found = ours.compact(x[None, ..., None], np.array([50]))[0]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    # What it is told apart by: zeros on the right and below only.
    assert np.abs(run(theirs[0], x[::-1, ::-1, None])[::-1, ::-1] - expected).max() > 0.01


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (6, 5), (7, 9)])
def test_odd_sides_are_even_ones_with_the_last_repeated(theirs, ours, size):
    x = picture(size)
    even = np.pad(x, [(0, side % 2) for side in size], "edge")
    expected = run(theirs[0], even[..., None])
    found = ours.compact(x[None, ..., None], np.array([50]))[0]
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_rec_takes_away_what_theirs_gives(theirs, ours, size):
    x = picture(size)
    upsampled = imresize_twice(x.astype(np.float64))[..., None]
    expected = upsampled - run(theirs[1], upsampled)
    assert np.abs(expected - upsampled).max() > 0.1
    sides = [2 * side for side in size]
    found = ours.restore(x[None, ..., None], np.array([50]), *sides)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 5), (8, 7)])
def test_bicubic_mirrors_two_pixels(size):
    x = picture(size)
    found = upsample_bicubic_mirrored(x[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(found, imresize_twice(x.astype(np.float64)), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 15)])
def test_bicubic_on_a_canvas_mirrors_the_picture(size):
    x = picture(size)[None, ..., None]
    laid, _ = on_canvas(x, 2)
    found = np.asarray(upsample_bicubic_mirrored(laid, size))[:, : 2 * size[0], : 2 * size[1]]
    np.testing.assert_allclose(found, upsample_bicubic_mirrored(x), atol=1e-6)


def test_other_layers_and_shapes_are_refused(theirs, ours, tmp_path):
    com, rec = theirs
    with pytest.raises(ValueError, match="expected layers conv, conv, conv. Received: conv, conv$"):
        set_com_weights(ours.com, com[2:])
    with pytest.raises(ValueError, match="expected layers conv, conv, bnorm, .* Received: conv"):
        set_rec_weights(ours.rec, com)
    with pytest.raises(ValueError, match=r"conv1: expected weights of shapes \[\(3, 3, 1, 64\)"):
        set_com_weights(ours.com, [com[2], com[2], com[4]])
    scipy.io.savemat(tmp_path / "x.mat", {"other": 1})
    with pytest.raises(ValueError, match="expected a MatConvNet network, net.layers. Received: "):
        command.read_mat(tmp_path / "x.mat")


class PassOn:
    """A codec of one byte a pixel, for the model that it is given."""

    def __init__(self, pair):
        self.pair = pair

    def encode(self, image, quality):
        assert quality == 50
        self.image = image
        return tf.constant(bytes(image.shape[0] * image.shape[1]))

    def decode(self, payload):
        return self.image ^ tf.cast(1, tf.uint8)  # all a level away


def test_the_command_for_who_has_the_weights(files, ours, tmp_path, photos, monkeypatch, capsys):
    monkeypatch.setattr(command, "Codec", PassOn)
    (tmp_path / "set").mkdir()
    Image.fromarray(photos["camera"][:48, :64, 0]).save(tmp_path / "set" / "a.png")
    words = [f"--com={files / 'com.mat'}", f"--rec={files / 'rec.mat'}", f"--output={tmp_path}"]
    command.main(command.FLAGS(["paper.py", *words, str(tmp_path / "set")]))
    assert capsys.readouterr().out.splitlines()[-1].startswith("| set | 8.000 | 48.13 | 0.9")
    kept = load_model(find_model(str(tmp_path)))
    assert fingerprint(kept) == fingerprint(ours)
