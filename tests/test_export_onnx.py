"""RecCNN as ONNX, run by another library: the same pictures, whatever their size."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from small_pairs import pair

from cnn_compression.codec.pair import PairCodec
from cnn_compression.export import onnx_models
from cnn_compression.export.onnx_models import export_onnx
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.payload import layout


def trained(model):
    """The same `ComRec`, whose layers that start as nothing do something."""
    random = np.random.default_rng(0)
    for variable in model.rec.trainable_variables:
        if not np.any(variable.numpy()):
            variable.assign(random.normal(scale=0.05, size=variable.shape))
    return model


def restore(file, compact_hat, quality, height, width):
    """What a file makes of uint8 `[h, w, C]`: uint8 `[height, width, C]`."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    feed = {"compact_hat": compact_hat[None], "quality": np.array([quality], np.int32)}
    [image_hat] = session.run(["image_hat"], feed)
    assert image_hat.dtype == np.uint8
    return image_hat[0, :height, :width]


def differences(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other)


def assert_equal_pictures(one, other):
    """At most a level off, and the same at 99.9 % of the samples."""
    apart = differences(one, other)
    assert apart.max() <= 1 and np.mean(apart > 0) <= 1e-3


@pytest.fixture(scope="module", params=[4, 2, 1])
def small(request):
    """A pair, and its file."""
    model = trained(pair(request.param))
    return PairCodec(model), onnx_models.to_onnx(model).SerializeToString()


@pytest.mark.parametrize(
    "shape, quality",
    [((64, 96, 3), 10), ((61, 83, 1), 90), ((9, 1, 3), 50), ((1, 1, 1), 1), ((7, 130, 3), 100)],
)
def test_any_size_is_restored_as_by_tensorflow(small, photos, shape, quality):
    codec, file = small
    compact_hat = photos["coffee"][: shape[0], : shape[1], : shape[2]]
    settings = quality, *(side * codec.scale for side in shape[:2])
    expected = codec.restore(compact_hat, *settings).numpy()
    assert_equal_pictures(restore(file, compact_hat, *settings), expected)


def test_stock_operators_of_a_published_opset(small):
    _, file = small
    model = onnx.ModelProto.FromString(file)
    onnx.checker.check_model(model, full_check=True)
    assert {(node.domain or "ai.onnx") for node in model.graph.node} == {"ai.onnx"}
    [version] = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    assert version == onnx_models.OPSET <= onnx.defs.onnx_opset_version()
    described = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert described == {
        "compact_hat": [1, "h", "w", "C"],
        "quality": [1],
        "image_hat": [1, "H", "W", "C"],
    }


def test_the_paper_s_network(photos):
    model = trained(ComRec.from_preset("paper", channels=1))
    for norm in model.rec.norms:
        norm.moving_variance.assign(np.full(64, 0.7, np.float32))
    compact_hat = photos["camera"][:21, :34]
    expected = PairCodec(model).restore(compact_hat, 37, 41, 68).numpy()
    file = onnx_models.to_onnx(model).SerializeToString()
    assert_equal_pictures(restore(file, compact_hat, 37, 41, 68), expected)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("small") / "half.keras"
    pair(2).save(file)
    return file


def test_files_say_what_they_are(model_file, tmp_path):
    folder = export_onnx(model_file, "mine", tmp_path, licence="MIT", weights="float16")
    card = json.loads((folder / "model.json").read_text())
    assert folder.parent == tmp_path and folder.name == card["fingerprint"]
    assert (card["name"], card["licence"], card["channels"]) == ("mine", "MIT", 3)
    [described] = card["pairs"]
    file = folder / described["file"]
    assert (described["scale"], described["bytes"]) == (2, file.stat().st_size)
    metadata = {item.key: item.value for item in onnx.load(file).metadata_props}
    assert metadata.items() >= {
        "fingerprint": folder.name, "scale": "2", "licence": "MIT", "weights": "float16",
        "reach": str(described["reach"]), "network": "FastRecCNN",
    }.items()  # fmt: skip
    assert json.loads(metadata["config"])["inner_filters"] == 96
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "scale2.onnx"]
    with pytest.raises(ValueError, match="expected no such folder yet. Received: .*" + folder.name):
        export_onnx(model_file, output=tmp_path)


def test_a_failed_export_leaves_nothing(model_file, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(onnx_models, "to_onnx", fail)
    with pytest.raises(OSError, match="disk full"):
        export_onnx(model_file, output=tmp_path / "models")
    with pytest.raises(ValueError, match="weights must be one of float32, float16. Received: 'x'"):
        export_onnx(model_file, output=tmp_path / "models", weights="x")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module", params=["float32", "float16"])
def default_model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, export_onnx("default", output=folder, weights=request.param)


@pytest.mark.slow
def test_the_default_model_s_payloads(default_model, codec, photos):
    weights, folder = default_model
    pictures = [photos["coffee"], photos["rocket"][:141, :203], photos["camera"][:77]]
    scales = set()
    for image in pictures:
        for quality in (5, 35, 50, 95):
            payload = codec.encode(image, quality)
            header = layout.read_header(payload)
            file = str(folder / f"scale{header.scale}.onnx")
            compact_hat = coding.decode(tf.constant(payload)).numpy()
            sides = header.height, header.width
            image_hat = restore(file, compact_hat, header.quality, *sides)
            if weights == "float32":
                assert_equal_pictures(image_hat, codec.decode(payload))
            else:
                assert differences(image_hat, codec.decode(payload)).mean() <= 0.5
            scales.add(header.scale)
    assert scales == set(codec.model.scales)
