"""The SavedModel: what it offers, that it needs nothing of ours, that half of it never shows."""

import base64
import io
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_pairs import pair
from tensorflow.core.protobuf import saved_model_pb2

from cnn_compression import codec as codec_module
from cnn_compression.codec.model_files import load_model
from cnn_compression.export import export, warmup
from cnn_compression.export import saved_model as export_module
from cnn_compression.models.multi_scale import MultiScale

RANGES, HANDOVERS = [[1, 40, 5, 80], [31, 100, 20, 95]], [[300, 20]]


@pytest.fixture(scope="module")
def model_files(tmp_path_factory):
    """Of few weights, of half size and of full size."""
    folder = tmp_path_factory.mktemp("small")
    for scale in (2, 1):
        pair(scale).save(folder / f"{scale}.keras")
    return [folder / "2.keras", folder / "1.keras"]


@pytest.fixture(scope="module")
def small_file(model_files):
    return model_files[0]


@pytest.fixture(scope="module")
def exported(model_files, tmp_path_factory):
    """The two, joined."""
    folder = tmp_path_factory.mktemp("saved_models")
    return export(model_files, "mine", folder, ranges=RANGES, handovers=HANDOVERS)


@pytest.fixture
def quick(monkeypatch):
    """Exports have one small signature and no requests: of their folders all else is as ever."""

    def signatures(codec, max_pixels):
        return {"same": tf.function(lambda x: {"x": x}, [tf.TensorSpec((None,), tf.string)])}

    monkeypatch.setattr(export_module, "signatures", signatures)
    monkeypatch.setattr(warmup, "has_serving_api", lambda: False)


@pytest.fixture(scope="module")
def png_files(photos, tmp_path_factory):
    """Two colour images of different sizes and a grey one."""
    folder = tmp_path_factory.mktemp("png")
    images = [photos["coffee"], photos["rocket"][:77, :101], photos["camera"][:50, :70]]
    for number, image in enumerate(images):
        (folder / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
    return images, sorted(folder.glob("*.png"))


def run_alone(program, *arguments):
    """Runs Python that knows nothing of this package, in another folder; its JSON output."""
    run = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_signatures_are_named_for_serving(exported):
    loaded = tf.saved_model.load(exported)
    described = {
        name: (
            {key: (spec.dtype.name, spec.shape.rank) for key, spec in inputs.items()},
            {key: value.dtype.name for key, value in function.structured_outputs.items()},
        )
        for name, function in loaded.signatures.items()
        for inputs in [function.structured_input_signature[1]]
    }
    sized = {"payload_bytes": "string", "quality": "int32"}
    numbers = dict.fromkeys(["height", "width", "channels", "scale", "quality"], "int32")
    payload, size = {"payload_bytes": ("string", 1)}, ["height", "width", "channels"]
    decode = (payload, {"image_bytes": "string"})
    expected = {
        "serving_default": decode,
        "decode": decode,
        "encode": (
            {"image_bytes": ("string", 1), "quality": ("int32", 1)},
            {"payload_bytes": "string"},
        ),
        "encode_to_size": ({"image_bytes": ("string", 1), "max_bytes": ("int32", 1)}, sized),
        "encode_pixels": (
            {"pixels_bytes": ("string", 1)} | dict.fromkeys([*size, "quality"], ("int32", 1)),
            {"payload_bytes": "string"},
        ),
        "decode_pixels": (payload, {"pixels_bytes": "string"} | dict.fromkeys(size, "int32")),
        "info": (payload, numbers),
    }
    for _, outputs in expected.values():
        outputs["status"] = "string"
    assert described == expected


@pytest.mark.slow
def test_a_fresh_process_gives_the_bytes_that_python_gives(exported, png_files):
    codec = codec_module.load(exported)
    images, files = png_files
    qualities = [20, 50, 80]
    result = run_alone(
        """
        import base64, json, sys
        import tensorflow as tf
        model = tf.saved_model.load(sys.argv[1])
        contents = tf.constant([open(file, "rb").read() for file in sys.argv[2:]])
        payloads = model.signatures["encode"](
            image_bytes=contents, quality=tf.constant([20, 50, 80])
        )["payload_bytes"]
        images = model.signatures["decode"](payload_bytes=payloads)["image_bytes"]
        ours = [name for name in sys.modules if name.startswith("cnn_compression")]
        text = lambda items: [base64.b64encode(item).decode() for item in items.numpy()]
        print(json.dumps({"payloads": text(payloads), "images": text(images), "ours": ours}))
        """,
        exported,
        *files,
    )

    payloads = [base64.b64decode(text) for text in result["payloads"]]
    assert result["ours"] == []
    assert payloads == [codec.encode(*pair) for pair in zip(images, qualities, strict=True)]
    for payload, text in zip(payloads, result["images"], strict=True):
        restored = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        expected = codec.decode(payload)
        np.testing.assert_array_equal(restored.reshape(expected.shape), expected)


def test_models_of_several_scales_are_joined(model_files, exported, tmp_path):
    loaded = load_model(exported)
    assert (loaded.scales, loaded.ranges, loaded.handovers) == ([2, 1], RANGES, HANDOVERS)
    sources = [load_model(model) for model in model_files]
    for joined, source in zip(loaded.pairs, sources, strict=True):
        for value, other in zip(joined.get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(value, other)
    with pytest.raises(ValueError, match="expected 2 ranges"):
        export(model_files, "both", tmp_path)
    with pytest.raises(ValueError, match="falling order"):
        export(model_files[::-1], "both", tmp_path, ranges=RANGES)
    assert list(tmp_path.iterdir()) == []


def test_stock_ops_only(exported):
    """No Python function, no op of tensorflow-io: checked by name in the graph's every function."""
    saved = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    ops = {node.op for node in graph.node}
    ops |= {node.op for function in graph.library.function for node in function.node_def}
    assert len(ops) > 20
    assert not {op for op in ops if op.startswith("IO>") or "PyFunc" in op}


def test_the_folder_loads_as_a_codec(model_files, exported):
    model = MultiScale([load_model(file) for file in model_files], RANGES, HANDOVERS)
    assert codec_module.load(str(exported)).fingerprint == codec_module.fingerprint(model)
    assert codec_module.load(str(exported.parent)).name == "mine"


def test_versions_count_up(quick, small_file, tmp_path):
    first = export(small_file, "mine", tmp_path)
    assert first == tmp_path / "mine" / "1"
    assert export(small_file, "mine", tmp_path) == tmp_path / "mine" / "2"
    with pytest.raises(ValueError, match=r"not of \[.*\]. Received: 2"):
        export(small_file, "mine", tmp_path, version=2)
    assert load_model(first).count_params() == load_model(small_file).count_params()


def test_a_failed_export_leaves_nothing(small_file, tmp_path, monkeypatch):
    def fail(codec, max_pixels):
        raise OSError("disk full")

    monkeypatch.setattr(export_module, "signatures", fail)
    with pytest.raises(OSError, match="disk full"):
        export(small_file, "mine", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_model_is_an_error_before_anything_is_made(tmp_path):
    with pytest.raises(ValueError, match="expected a model: .*nothing"):
        export(tmp_path / "nothing", "mine", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_no_part_of_the_next(quick, small_file, tmp_path):
    left = tmp_path / "mine" / ".1.tmp" / "left"
    left.mkdir(parents=True)
    folder = export(small_file, "mine", tmp_path)
    assert not (folder / "left").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("max_pixels", [0, 2**31 // 3])
def test_pixels_are_no_more_than_their_bytes_can_be(small_file, tmp_path, max_pixels):
    with pytest.raises(ValueError, match=f"max_pixels must be in .* Received: {max_pixels}"):
        export(small_file, "mine", tmp_path / "models", max_pixels=max_pixels)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["../mine", "a/b", ".hidden"])
def test_a_name_is_no_path(small_file, tmp_path, name):
    with pytest.raises(ValueError, match="name must be letters"):
        export(small_file, name, tmp_path / "models")
    assert not (tmp_path / "models").exists()
