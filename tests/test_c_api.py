"""The SavedModel runs without Python: by TensorFlow's C library alone, in a process of its own."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from cnn_compression.export import export
from cnn_compression.images import encode_png

PROGRAM = Path(__file__).with_name("c_api.py")


@pytest.fixture(scope="module")
def library():
    package = Path(importlib.util.find_spec("tensorflow").origin).parent
    path = package / "libtensorflow_cc.so.2"
    if not path.is_file():
        pytest.skip(f"this platform's TensorFlow wheel has no {path.name}")
    return path


def tensor_names(model):
    """Signature -> its `inputs` and `outputs`, name -> name of the tensor in the graph."""
    saved = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
    [served] = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    return {
        name: {
            side: {key: info.name for key, info in getattr(signature, side).items()}
            for side in ("inputs", "outputs")
        }
        for name, signature in served.signature_def.items()
    }


@pytest.mark.slow
def test_the_c_api_gives_the_bytes_that_python_gives(codec, library, photos, tmp_path):
    """Two sizes, colour and grey, in one batch; encoded and decoded with nothing of ours."""
    codec.model.save(tmp_path / "model.keras")
    model = export(tmp_path / "model.keras", "mine", tmp_path)
    images, quality = [photos["rocket"][:77, :101], photos["camera"][:50, :70]], [20, 80]
    files = [tmp_path / f"given-{number}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(tf.io.encode_png(image).numpy())

    names = tensor_names(model)
    request = {"encode": names["encode"], "decode": names["decode"], "quality": quality}
    paths = {"library": library, "model": model, "output": tmp_path, "files": files}
    run = subprocess.run(
        [sys.executable, "-I", PROGRAM],
        input=json.dumps(request | paths, default=str),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, f"exit status {run.returncode}:\n{run.stderr}"

    imported = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert not imported & {"cnn_compression", "tensorflow", "keras", "numpy"}
    payloads = [codec.encode(*pair) for pair in zip(images, quality, strict=True)]
    for number, payload in enumerate(payloads):
        assert (tmp_path / f"{number}.cnn.jpg").read_bytes() == payload
        restored = encode_png(codec.decode(payload)).numpy()
        assert (tmp_path / f"{number}.png").read_bytes() == restored
