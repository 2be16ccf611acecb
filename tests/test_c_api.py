"""The SavedModel as a server loads it: by TensorFlow's C library alone, in a process of its own."""

import base64
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from serving_calls import to_json
from small_pairs import pair
from tensorflow.core.protobuf import saved_model_pb2

from cnn_compression.export import export
from cnn_compression.images import encode_png
from cnn_compression.serving import local_server

PROGRAM = Path(local_server.__file__).with_name("c_api.py")


@pytest.fixture(scope="module")
def library():
    package = Path(importlib.util.find_spec("tensorflow").origin).parent
    path = package / "libtensorflow_cc.so.2"
    if not path.is_file():
        pytest.skip(f"this platform's TensorFlow wheel has no {path.name}")
    return path


def graph_of(model):
    saved = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
    [served] = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    return served


def run(library, model, *requests):
    """Answers to (signature, dict of inputs): dict of outputs, or the words of an error."""
    signatures = graph_of(model).signature_def
    tasks = [
        {
            "inputs": {signatures[name].inputs[key].name: value for key, value in inputs.items()},
            "outputs": [info.name for info in signatures[name].outputs.values()],
        }
        for name, inputs in requests
    ]
    task = {"library": library, "model": model, "requests": tasks}
    done = subprocess.run(
        [sys.executable, "-I", PROGRAM],
        input=json.dumps(task, default=str),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}:\n{done.stderr}"
    report = json.loads(done.stdout)
    imported = {name.partition(".")[0] for name in report["modules"]}
    assert not imported & {"cnn_compression", "tensorflow", "keras", "numpy"}
    answers = []
    for (name, _), answer in zip(requests, report["answers"], strict=True):
        if "error" in answer:
            answers.append(answer["error"])
            continue
        outputs = {key: answer["outputs"][i.name] for key, i in signatures[name].outputs.items()}
        answers.append({key: [*map(plain, values)] for key, values in outputs.items()})
    return answers


def plain(value):
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def files(values):
    return [to_json(value) for value in values]


@pytest.mark.slow
def test_the_c_api_gives_the_bytes_that_python_gives(codec, library, photos, tmp_path):
    """Two sizes, colour and grey, in one batch; encoded and decoded with nothing of ours."""
    codec.model.save(tmp_path / "model.keras")
    model = export(tmp_path / "model.keras", "mine", tmp_path)
    images, quality = [photos["rocket"][:77, :101], photos["camera"][:50, :70]], [20, 80]
    pngs = [tf.io.encode_png(image).numpy() for image in images]
    payloads = [codec.encode(*pair) for pair in zip(images, quality, strict=True)]
    encoded, decoded = run(
        *(library, model),
        ("encode", {"image_bytes": files(pngs), "quality": quality}),
        ("decode", {"payload_bytes": files(payloads)}),
    )
    assert encoded == {"payload_bytes": payloads, "status": [b"", b""]}
    restored = [encode_png(codec.decode(payload)).numpy() for payload in payloads]
    assert decoded == {"image_bytes": restored, "status": [b"", b""]}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    pair(1).save(folder / "model.keras")
    return export(folder / "model.keras", "small", folder)


@pytest.mark.slow
def test_the_loader_takes_whatever_comes_and_goes_on(library, small):
    """Wrong ranks, numbers that do not go together, items of all sizes and none: errors of their
    own request, or of an item, and the next is answered."""
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    pixels = {"pixels_bytes": files([image.tobytes()]), "height": [5], "width": [7]}
    pixels |= {"channels": [3], "quality": [50]}
    [made] = run(library, small, ("encode_pixels", pixels))
    good = files(made["payload_bytes"])
    many = {key: value * 64 for key, value in pixels.items()}
    results = run(
        *(library, small),
        ("decode", {"payload_bytes": [good]}),
        ("decode_pixels", {"payload_bytes": [good * 2]}),
        ("info", {"payload_bytes": [good] * 2}),
        ("encode", {"image_bytes": [files([b"x"])], "quality": [[50]]}),
        ("encode", {"image_bytes": files([b"x"]), "quality": [50, 50]}),
        ("encode_pixels", pixels | {"height": [[5]]}),
        ("encode_pixels", pixels | {"height": [-5]}),
        ("encode_pixels", pixels | {"height": [2**31 - 1], "width": [2**31 - 1]}),
        ("encode_pixels", many),
        ("decode_pixels", {"payload_bytes": good * 64}),
        ("decode_pixels", {"payload_bytes": good + files([b"bad"]) + good}),
    )
    refused, served = results[:6], results[6:]
    assert all("one dimension of each input" in refused[number] for number in (0, 1, 2, 3, 5))
    assert "as many of each input" in refused[4]
    for negative in served[:2]:
        assert negative["payload_bytes"] == [b""] and b"Received: " in negative["status"][0]
    assert served[2]["payload_bytes"] == made["payload_bytes"] * 64
    assert set(served[3]["status"]) == {b""} and len(set(served[3]["pixels_bytes"])) == 1
    assert [len(pixels) for pixels in served[4]["pixels_bytes"]] == [105, 0, 105]
    assert served[4]["height"] == [5, 0, 5]


@pytest.mark.slow
def test_many_items_take_no_room_before_they_are_refused(library, small):
    """A tensor of a billion items that are empty is a few bytes in a request."""
    names, billion = ("decode", "decode_pixels", "info"), {"shape": [1_000_000_000, 0]}
    answers = run(library, small, *((name, {"payload_bytes": billion}) for name in names))
    assert all("one dimension of each input" in answer for answer in answers)
    served, refused = run(
        *(library, small),
        ("info", {"payload_bytes": files([b""] * 1024)}),
        ("info", {"payload_bytes": files([b""] * 1025)}),
    )
    assert len(served["status"]) == 1024 and "at most 1024 items" in refused


def test_the_graph_is_light(small):
    """Branches outside of networks are not unfolded, no function is looked at before it is run, and
    the default signature is `decode` itself."""
    graph = graph_of(small)
    functions = graph.graph_def.library.function
    assert all(function.attr["_tf_data_function"].b for function in functions)
    unfolded = [
        function.signature.name
        for function in functions
        if any(node.attr["_lower_using_switch_merge"].b for node in function.node_def)
    ]
    # A tile's row inside a row's loop, in each network and in the route; tf.data's own.
    assert 0 < len(unfolded) < len(functions) / 4
    assert graph.signature_def["serving_default"] == graph.signature_def["decode"]
    writers = [f for f in functions if any(node.op == "EncodeJpeg" for node in f.node_def)]
    assert len(writers) == 100
