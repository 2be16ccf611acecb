"""What any server of the exported model does: TensorFlow Serving's, or ours in its place.

The tests run against the server that TF_SERVING_REST and TF_SERVING_GRPC name (host:port both, with
the model under the name that TF_SERVING_MODEL says or `default`), else against a
`tensorflow_model_server` on the PATH, else against `cnn_compression.serving.local_server`.
"""

import contextlib
import io
import os
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from PIL import Image
from serving_calls import FORMS, Refused, free_port, grpc_predict, http, rest_columns, to_json
from serving_files import image_command
from tensorflow_serving.apis import get_model_metadata_pb2

from cnn_compression.export import export
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.serving.client import Client, ItemError, ServerError, UnavailableError
from cnn_compression.serving.local_server import LocalServer, Settings
from cnn_compression.tensors.metrics import psnr

SIGNATURES = {"serving_default", "encode", "decode", "encode_to_size", "encode_pixels"}
SIGNATURES |= {"decode_pixels", "info"}


@dataclass(frozen=True)
class Server:
    """Where it is, what it calls the model; where we started it, the folder of versions and, if it
    has one, its limit of a request's bytes."""

    rest: str
    grpc: str
    model: str = "default"
    versions: Path | None = None
    max_bytes: int | None = None


@contextlib.contextmanager
def tensorflow_serving(program, folder):
    grpc_port, rest_port = free_port(), free_port()
    command = [program, f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
    command += ["--model_name=default", f"--model_base_path={folder}"]
    command += ["--file_system_poll_wait_seconds=1", "--max_num_load_retries=0"]
    command += [word for word in image_command() if "threads" in word or "timeout" in word]
    with subprocess.Popen(command) as process:
        server = Server(f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}", versions=folder)
        try:
            wait_until(lambda: available(server), 120)
            yield server
        finally:
            process.terminate()


def available(server):
    try:
        states = http(f"{server.rest}/v1/models/{server.model}")["model_version_status"]
    except (OSError, Refused):
        return []
    return [int(item["version"]) for item in states if item["state"] == "AVAILABLE"]


def wait_until(holds, seconds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def tiny_model(path, seed):
    """Two scales, few weights."""
    tf.keras.utils.set_random_seed(seed)
    pair = ComRec(FastComCNN(3, 2, 8, 1), FastRecCNN(3, 2, 8, 0, 1))
    pair.save(path)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if "TF_SERVING_REST" in os.environ:
        model = os.environ.get("TF_SERVING_MODEL", "default")
        rest = os.environ["TF_SERVING_REST"]
        yield Server(f"http://{rest}", os.environ["TF_SERVING_GRPC"], model)
        return
    folder = tmp_path_factory.mktemp("models")
    model = tiny_model(folder / "model.keras", 1)
    versions = export(model, "default", folder, max_pixels=300_000).parent
    program = shutil.which("tensorflow_model_server")
    if program:
        with tensorflow_serving(program, versions) as started:
            yield started
        return
    limit = 4_000_000
    models, quick = {"default": str(versions)}, {"poll_seconds": 0.1, "max_message_bytes": limit}
    settings = Settings(models, port=0, rest_api_port=0, **quick)
    with LocalServer(settings) as local:
        addresses = (f"http://127.0.0.1:{local.rest_api_port}", f"127.0.0.1:{local.port}")
        yield Server(*addresses, versions=versions, max_bytes=limit)


@pytest.fixture(params=FORMS)
def call(request, server):
    """A signature's name and inputs to its outputs, in one of three forms."""
    return lambda signature, **inputs: FORMS[request.param](server, signature, **inputs)


@pytest.fixture(scope="module")
def images(photos):
    return [photos["coffee"], photos["rocket"][:77, :101], photos["camera"][:50, :70]]


@pytest.fixture(scope="module")
def files(images):
    return [tf.io.encode_png(image).numpy() for image in images]


@pytest.fixture(scope="module")
def payloads(server, files):
    return rest_columns(server, "encode", image_bytes=files, quality=[60] * 3)["payload_bytes"]


def pixels_of(file):
    image = np.asarray(Image.open(io.BytesIO(file)))
    return image if image.ndim == 3 else image[..., None]


def test_images_go_there_and_back(call, images, files):
    """Mixed sizes, colour and grey, in one batch."""
    encoded = call("encode", image_bytes=files, quality=[20, 50, 80])
    assert encoded["status"] == ["", "", ""]
    for payload in encoded["payload_bytes"]:
        assert Image.open(io.BytesIO(payload)).format == "JPEG"
    decoded = call("decode", payload_bytes=encoded["payload_bytes"])
    assert decoded["status"] == ["", "", ""]
    for image, file in zip(images, decoded["image_bytes"], strict=True):
        assert pixels_of(file).shape == image.shape
        assert psnr(image, pixels_of(file)) > 15
    numbers = call("info", payload_bytes=encoded["payload_bytes"])
    sizes = zip(numbers["height"], numbers["width"], numbers["channels"], strict=True)
    assert list(sizes) == [image.shape for image in images]


def test_sizes_are_kept(call, files):
    limits = [4000, 1500, 10]
    outputs = call("encode_to_size", image_bytes=files, max_bytes=limits)
    sizes = [len(payload) for payload in outputs["payload_bytes"]]
    assert all(size <= limit for size, limit in zip(sizes, limits, strict=True))
    assert [quality > 0 for quality in outputs["quality"]] == [True, True, False]
    assert outputs["status"][:2] == ["", ""] and "10" in outputs["status"][2]


def test_pixels_go_there_and_back(call, images):
    """Mixed sizes, colour and grey, in one batch."""
    encoded = call("encode_pixels", **raw(images), quality=[30, 60, 90])
    assert encoded["status"] == [""] * 3
    decoded = call("decode_pixels", payload_bytes=encoded["payload_bytes"])
    assert decoded["status"] == [""] * 3
    for number, image in enumerate(images):
        shape = [decoded[name][number] for name in ("height", "width", "channels")]
        assert tuple(shape) == image.shape
        restored = np.frombuffer(decoded["pixels_bytes"][number], np.uint8).reshape(shape)
        assert psnr(image, restored) > 15


def raw(images):
    """Inputs of `encode_pixels` but for the quality."""
    sizes = zip(*(image.shape for image in images), strict=True)
    named = dict(zip(("height", "width", "channels"), map(list, sizes), strict=True))
    return {"pixels_bytes": [image.tobytes() for image in images]} | named


def test_a_bad_item_fails_alone(call, files, payloads):
    encoded = call("encode", image_bytes=[files[0], b"bad", files[1], files[2]],
                   quality=[50, 50, 0, 50])  # fmt: skip
    assert [not status for status in encoded["status"]] == [True, False, False, True]
    assert [bool(payload) for payload in encoded["payload_bytes"]] == [True, False, False, True]
    assert "quality" in encoded["status"][2]
    decoded = call("decode", payload_bytes=[payloads[0], payloads[1][:-1], b"", payloads[2]])
    assert [not status for status in decoded["status"]] == [True, False, False, True]
    assert [bool(file) for file in decoded["image_bytes"]] == [True, False, False, True]


def test_a_picture_over_the_limit_of_pixels_fails_alone(server, files):
    if server.versions is None:
        pytest.skip("another's server has a limit of its own")
    large = tf.io.encode_png(np.zeros((1000, 1000, 1), np.uint8)).numpy()
    outputs = rest_columns(server, "encode", image_bytes=[large, files[0]], quality=[50, 50])
    assert "at most 300000" in outputs["status"][0] and outputs["status"][1] == ""


def test_the_default_signature_decodes(server, payloads):
    """A payload alone is a request, in each place where that is possible."""
    url = f"{server.rest}/v1/models/{server.model}:predict"
    answers = [
        http(url, {"instances": [to_json(payloads[0])]})["predictions"][0],
        http(url, {"instances": [{"payload_bytes": to_json(payloads[0])}]})["predictions"][0],
    ]
    columns = http(url, {"inputs": [to_json(payloads[0])]})["outputs"]
    assert answers[0] == answers[1] == {name: values[0] for name, values in columns.items()}
    assert answers[0]["status"] == ""


def encode_request(**inputs):
    return {"signature_name": "encode", "inputs": inputs}


NOTHING = [{"b64": ""}]


@pytest.mark.parametrize(
    "body, code",
    [
        (b"not json", 400),
        (b"[]", 400),
        ({"signature_name": "decode"}, 400),
        ({"signature_name": "nothing", "inputs": []}, 400),
        (b'{"inputs":' + b"[" * 100_000, 400),
        (encode_request(image_bytes=NOTHING), 400),
        (encode_request(image_bytes=[{"b64": "?"}], quality=[1]), 400),
        (encode_request(image_bytes=NOTHING, quality=["1"]), 400),
        (encode_request(image_bytes=NOTHING, quality=[2**40]), 400),
        (encode_request(image_bytes=NOTHING, quality=[1, 2]), 400),
        ({"instances": []}, 400),
        ({"instances": NOTHING, "inputs": []}, 400),
    ],
)
def test_a_request_that_is_none_is_refused(server, body, code):
    with pytest.raises(Refused) as refused:
        http(f"{server.rest}/v1/models/{server.model}:predict", body)
    assert refused.value.code == code
    assert "error" in str(refused.value)


def test_what_is_not_there_is_not_found(server, payloads):
    for place in ["nothing", f"{server.model}/versions/99"]:
        for tail, body in [("", None), ("/metadata", None), (":predict", {"inputs": []})]:
            with pytest.raises(Refused) as refused:
                http(f"{server.rest}/v1/models/{place}{tail}", body)
            assert refused.value.code == 404
    with pytest.raises(Refused) as refused:
        grpc_predict(server, "decode", version=99, payload_bytes=payloads[:1])
    assert refused.value.code == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        grpc_predict(server, "decode", payload_bytes=payloads[:1], more=[1])
    assert refused.value.code == "INVALID_ARGUMENT"


def test_metadata_names_the_signatures(server):
    answer = http(f"{server.rest}/v1/models/{server.model}/metadata")
    assert answer["model_spec"]["name"] == server.model
    described = json_format.ParseDict(
        answer["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap()
    )
    assert SIGNATURES <= set(described.signature_def)
    encode = described.signature_def["encode"]
    assert set(encode.inputs) == {"image_bytes", "quality"}
    assert set(encode.outputs) == {"payload_bytes", "status"}
    for signature in SIGNATURES:
        for info in described.signature_def[signature].inputs.values():
            assert info.tensor_shape.dim[0].size == -1


def test_grpc_says_the_same_of_the_model(server):
    import grpc
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )

    with grpc.insecure_channel(server.grpc) as channel:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = server.model
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        described = get_model_metadata_pb2.SignatureDefMap()
        stub.GetModelMetadata(request).metadata["signature_def"].Unpack(described)
        assert SIGNATURES <= set(described.signature_def)
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = server.model
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    states = [(item.version, item.state) for item in answer.model_version_status]
    assert (max(available(server)), get_model_status_pb2.ModelVersionStatus.AVAILABLE) in states


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_many_clients_at_once(server, files, payloads, scheme):
    """More of them than the server takes: those it turns away come again."""
    place = server.rest if scheme == "http" else f"grpc://{server.grpc}"
    with Client(place, server.model, attempts=30, timeout=120) as client:
        client.probe()
        with ThreadPoolExecutor(16) as threads:
            results = list(threads.map(lambda n: client.decode(payloads[n % 3]), range(48)))
        assert [results[n] for n in range(3)] * 16 == results
        items = [*payloads, b"bad", *payloads]
        several = list(client.map("decode", items, batch=2, concurrency=3))
        [(payload, quality)] = client.map("encode_to_size", files[:1], max_bytes=4000)
    assert len(payload) <= 4000 and 1 <= quality <= 100
    assert isinstance(several[3], ItemError)
    assert several[:3] == several[4:] == results[:3]


def test_a_request_that_is_too_large_is_refused_and_the_server_stays(server, payloads):
    if server.max_bytes is None:
        pytest.skip("this server has no limit that we know of")
    for place, said in [(server.rest, "413"), (f"grpc://{server.grpc}", "larger than max")]:
        with Client(place, server.model) as client, pytest.raises(ServerError, match=said) as error:
            client.decode(bytes(2 * server.max_bytes))
        assert not isinstance(error.value, UnavailableError)
    rest_columns(server, "decode", payload_bytes=payloads[:1])


def test_a_request_of_many_items(call, server, files, payloads):
    results = call("encode", image_bytes=files[2:] * 64, quality=[30] * 64)
    assert len(set(results["payload_bytes"])) == 1 and results["status"] == [""] * 64
    results = call("decode_pixels", payload_bytes=payloads[2:] * 64)
    assert len(set(results["pixels_bytes"])) == 1 and results["status"] == [""] * 64


def test_items_of_all_sizes_and_a_bad_one_come_as_they_come_alone(call, payloads, images):
    """Where answers are cut into batches of four and joined, the fifth was once another's memory,
    or the end of the server."""
    tiny = call("encode_pixels", **raw([images[0][:8, :8]]), quality=[50])["payload_bytes"][0]
    for items in ([tiny] * 4 + [payloads[0]], [payloads[0]] * 4 + [b"bad", tiny, payloads[2]]):
        together = call("decode_pixels", payload_bytes=items)
        for number, item in enumerate(items):
            alone = call("decode_pixels", payload_bytes=[item])
            assert {name: values[number : number + 1] for name, values in together.items()} == alone
        assert [not status for status in together["status"]] == [item != b"bad" for item in items]


def test_strangers_leave_each_other_alone(server, images, payloads):
    """Pixels of all sizes at once, and beside them requests of wrong ranks and types: each client
    gets what it gets alone."""
    inputs = [raw([image[:side, : 2 * side]]) for image in images for side in (8, 24, 40)]
    inputs = [request | {"quality": [50]} for request in inputs]

    def encode(request):
        return rest_columns(server, "encode_pixels", **request)["payload_bytes"]

    def decode(payload):
        return grpc_predict(server, "decode_pixels", payload_bytes=[payload])["pixels_bytes"]

    def refused(_):
        for send in (grpc_predict, rest_columns):
            with contextlib.suppress(Refused):
                statuses = send(server, "decode_pixels", payload_bytes=[payloads[:1]])["status"]
                assert all(np.asarray(statuses).flat)
        with pytest.raises(Refused):
            grpc_predict(server, "encode_pixels", **inputs[0] | {"quality": [b"50"]})

    alone = [*map(encode, inputs)], [*map(decode, payloads)]
    with ThreadPoolExecutor(8) as threads:
        bad = [threads.submit(refused, number) for number in range(8)]
        good = [[*threads.map(encode, inputs)] for _ in range(2)]
        decoded = [[*threads.map(decode, payloads)] for _ in range(2)]
        for future in bad:
            future.result()
    assert good == [alone[0]] * 2 and decoded == [alone[1]] * 2


@pytest.mark.parametrize("signature", ["encode", "encode_pixels", "decode_pixels", "decode"])
def test_some_of_the_outputs_may_be_asked_for(server, files, images, payloads, signature):
    inputs = {"encode": {"image_bytes": files, "quality": [50] * 3}}
    inputs["encode_pixels"] = raw(images) | {"quality": [50] * 3}
    outputs = grpc_predict(
        server, signature, only=["status"], **inputs.get(signature, {"payload_bytes": payloads})
    )
    assert outputs == {"status": [""] * 3}


def test_an_output_that_is_not_there_cannot_be_asked_for(server, payloads):
    with pytest.raises(Refused):
        grpc_predict(server, "decode", only=["nothing"], payload_bytes=payloads[:1])


@pytest.mark.slow
def test_a_newer_version_takes_over_while_requests_run(server, files, tmp_path):
    if server.versions is None:
        pytest.skip("another's server has versions of its own")
    done, failures = threading.Event(), []

    def keep_asking():
        with Client(server.rest, server.model) as client:
            while not done.is_set():
                try:
                    client.encode(files[2])
                except (ServerError, ItemError) as error:
                    failures.append(error)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        (server.versions / "2").mkdir()  # a version that does not load is passed over
        (server.versions / "2" / "saved_model.pb").write_bytes(b"broken")
        before = rest_columns(server, "encode", image_bytes=files[:1], quality=[50])
        model = tiny_model(tmp_path / "model.keras", 2)
        export(model, "default", server.versions.parent, version=3)
        wait_until(lambda: available(server) == [3], 120)
        after = rest_columns(server, "encode", image_bytes=files[:1], quality=[50])
    finally:
        done.set()
        asking.join()
    assert before["payload_bytes"] != after["payload_bytes"]
    assert failures == []
    with pytest.raises(Refused):
        http(f"{server.rest}/v1/models/{server.model}/versions/1/metadata")
