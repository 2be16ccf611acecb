"""What a model costs a server before it answers: loading, and the first call of each request.

Measured by TensorFlow's C API, the loader of `tensorflow_model_server`, see c_api.py.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from cnn_compression.export.warmup import WARMUP_FILE
from cnn_compression.serving.c_api import to_json

PROGRAM = Path(__file__).with_name("c_api.py")


def startup(folder):
    """Prints a table: loading, each warm-up request, and again with `status` alone asked for.

    A server that is warmed with all outputs prunes and optimises the graph anew for a request that
    asks for other ones: the last columns say what that takes.

    Args:
        folder: `Path` of a version.

    Raises:
        OSError: where TensorFlow's C library does not lie with its wheel.
    """
    labels, requests, alone = [], [], []
    for label, request, status in warmup_requests(folder):
        labels.append(label)
        requests.append(request)
        alone.append(request | {"outputs": [status]})
    task = {"library": c_library(), "model": folder, "requests": requests + alone}
    took = run(task)
    of_all, of_status = took["answers"][: len(labels)], took["answers"][len(labels) :]
    print("| | CPU, s | seconds | `status` alone: CPU, s | seconds |\n" + "|---" * 5 + "|")
    print(f"| loading | {cells(took['loading'])} | – | – |")
    for label, answer, status_answer in zip(labels, of_all, of_status, strict=True):
        print(f"| {label} | {cells(answer)} | {cells(status_answer)} |")
    print(f"| together | {cells(took['loading'], *of_all)} | {cells(*of_status)} |")


def warmup_requests(folder):
    """Requests of a version's file: what to call each, c_api.py's request, and `status`' tensor."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import prediction_log_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    [served] = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    for record in tf.data.TFRecordDataset(str(folder / WARMUP_FILE)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name
        label = f"{name}, {len(record) / 1024:.1f} KiB"
        inputs, outputs = served.signature_def[name].inputs, served.signature_def[name].outputs
        unknown = {
            f"{key} {tf.as_dtype(info.dtype).name}"
            for key, info in [*inputs.items(), *outputs.items()]
            if info.dtype not in (tf.string.as_datatype_enum, tf.int32.as_datatype_enum)
        }
        if unknown:
            expected = "expected strings and int32 only"
            print(f"{label} is left out: {expected}. Received: {', '.join(sorted(unknown))}\n")
            continue
        values = {
            inputs[key].name: [*map(to_json, tf.make_ndarray(proto).tolist())]
            for key, proto in request.inputs.items()
        }
        tensors = [info.name for info in outputs.values()]
        yield label, {"inputs": values, "outputs": tensors}, outputs["status"].name


def c_library():
    package = Path(importlib.util.find_spec("tensorflow").origin).parent
    path = package / "libtensorflow_cc.so.2"
    if not path.is_file():
        raise OSError(f"expected a TensorFlow with {path.name}. Received: none in {package}")
    return path


def run(task):
    """What c_api.py prints of a task."""
    ran = subprocess.run(
        [sys.executable, "-I", PROGRAM],
        input=json.dumps(task, default=str),
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1"},
        check=True,
    )
    return json.loads(ran.stdout)


def cells(*answers):
    """CPU seconds and seconds of these together."""
    return " | ".join(f"{sum(answer[key] for answer in answers):.2f}" for key in ("cpu", "seconds"))
