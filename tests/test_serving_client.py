"""The client against servers that are away, busy, slow or wrong; the contract has the rest."""

import base64
import contextlib
import ctypes
import http.server
import json
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving_calls import from_json, to_json

from cnn_compression.serving import client as client_module
from cnn_compression.serving.client import (
    Client,
    ItemError,
    ServerError,
    TooManyItemsError,
    UnavailableError,
)

FINE = {
    "outputs": {"payload_bytes": [{"b64": base64.b64encode(b"payload").decode()}], "status": [""]}
}
# TensorFlow Serving's words: of its queue, in earlier versions without what is in brackets, of its
# limit of a request, and of a batch of several clients' requests.
FULL = "The batch scheduling queue to which this task was submitted is full; task size is {} but "
FULL += "scheduling capacity is only 2"
NUMBERS = " (num_enqueued_batches=1, max_enqueued_batches={}, open_batch_size=0, "
NUMBERS += "max_execution_batch_size=2)"
NEVER = FULL + NUMBERS.format(1)
NOW = FULL + NUMBERS.format(9)
LARGE = "Task size {} is larger than maximum input batch size 2"
MIXED = "Tensors with name 'x' from different tasks have different shapes and padding is turned off"


class Script(http.server.ThreadingHTTPServer):
    """Answers one request after the other with what a list of (HTTP status, answer) says, or a
    function of the request's JSON."""

    daemon_threads = True

    def __init__(self, answers):
        script = None if callable(answers) else list(answers)
        self.answer = answers if script is None else lambda _: script.pop(0)
        self.requests = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


TRICKLE = 1


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, json.loads(body), self.client_address))
        status, answer = self.server.answer(self.server.requests[-1][1])
        if callable(answer):
            answer = answer()
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if status == TRICKLE:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            for at in range(len(data)):
                self.wfile.write(data[at : at + 1])
                time.sleep(0.05)
            return
        if status is None:  # hangs up
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Nothing on the terminal."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.01)


def client_of(server, **options):
    return Client(f"127.0.0.1:{server.server_port}", **options)


@contextlib.contextmanager
def grpc_script(answer):
    """A gRPC server, and a list of its requests' inputs.

    Args:
        answer: function of a request's number and inputs, dict of name to list: to the outputs, or
            to gRPC's name of a code and what is said.

    Yields:
        Its address, and the list.
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    requests = []

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            inputs = {key: tf.make_ndarray(v).tolist() for key, v in request.inputs.items()}
            requests.append(inputs)
            outputs = answer(len(requests), inputs)
            if isinstance(outputs, tuple):
                context.abort(grpc.StatusCode[outputs[0]], outputs[1])
            response = predict_pb2.PredictResponse()
            for name, values in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
            return response

    server = grpc.server(ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}", requests
    finally:
        server.stop(None)


def reversed_items(inputs):
    """What a `decode` might answer: each item's bytes reversed; `!` is a bad item."""
    items = inputs["payload_bytes"]
    return {
        "image_bytes": [item[::-1] for item in items],
        "status": ["bad" if item == b"!" else "" for item in items],
    }


def taking_two(code, said):
    """The same, where more than two items are refused."""

    def answer(inputs):
        size = len(inputs["payload_bytes"])
        return reversed_items(inputs) if size <= 2 else (code, said.format(size))

    return answer


def over_rest(answer):
    """For `Script`: a function of inputs to outputs, or to HTTP's status and what is said."""

    def answer_to(body):
        columns = body["inputs"].items()
        outputs = answer({key: [plain(key, value) for value in values] for key, values in columns})
        if isinstance(outputs, tuple):
            return outputs[0], {"error": outputs[1]}
        return 200, {"outputs": {key: list(map(to_json, v)) for key, v in outputs.items()}}

    return answer_to


def plain(name, value):
    return from_json(name, value) if name.endswith("_bytes") else value


def sizes(requests):
    """How many items requests over REST have."""
    return [len(next(iter(body["inputs"].values()))) for _, body, _ in requests]


def test_a_request_is_in_the_column_form_and_connections_are_kept():
    with Script([(200, FINE)] * 2) as server, client_of(server, model="a b", version=7) as client:
        assert client.encode(b"image", 33) == b"payload"
        assert client.encode(b"image", 33) == b"payload"
        (path, body, place), (_, _, other) = server.requests
    assert path == "/v1/models/a%20b/versions/7:predict"
    inputs = {"image_bytes": [{"b64": base64.b64encode(b"image").decode()}], "quality": [33]}
    assert body == {"signature_name": "encode", "inputs": inputs}
    assert place == other


@pytest.mark.parametrize("status", [429, 502, 503, None])
def test_a_busy_server_is_asked_again(status):
    with Script([(status, {"error": "busy"})] * 3 + [(200, FINE)]) as server:
        with client_of(server) as client:
            assert client.encode(b"image") == b"payload"
        assert len(server.requests) == 4


def test_a_busy_server_is_asked_so_often_and_no_more():
    with Script([(503, {"error": "busy"})] * 9) as server, client_of(server, attempts=3) as client:
        with pytest.raises(UnavailableError, match="503: busy"):
            client.encode(b"image")
        assert len(server.requests) == 3


def test_a_refusal_is_not_asked_again():
    with Script([(400, {"error": "no such signature"})]) as server, client_of(server) as client:
        with pytest.raises(ServerError, match="400: no such signature") as caught:
            client.encode(b"image")
        assert not isinstance(caught.value, UnavailableError)
        assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [{"error": "took longer than 30 seconds"}, b"<p>\r\n504</p>"])
def test_what_took_too_long_is_not_asked_again(answer):
    with Script([(504, answer)] * 4) as server, client_of(server) as client:
        with pytest.raises(ServerError, match="504: .* it is not asked again") as caught:
            list(client.map("encode", [b"image"] * 3))
        assert not isinstance(caught.value, UnavailableError)
        assert not {"\r", "\n"} & set(str(caught.value))
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 412])
def test_what_another_client_spoiled_is_asked_again(status):
    with Script([(status, {"error": MIXED})] * 3 + [(200, FINE)]) as server:
        with client_of(server) as client:
            assert client.encode(b"image") == b"payload"
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    "status, said",
    [
        *[(503, FULL), (503, NEVER), (503, NOW), (400, LARGE)],
        *[(400, "{} exceeds maximum batch size 2"), (413, "Content Too Large")],
    ],
)
def test_more_items_than_the_server_takes_are_halved(status, said):
    with Script(over_rest(taking_two(status, said))) as server, client_of(server) as client:
        first, bad, *rest = client.map("decode", [b"ab", b"!", b"cd", b"ef", b"gh"], batch=5)
        assert sizes(server.requests) == [5, 2, 3, 1, 2]
    assert (first, *rest) == (b"ba", b"dc", b"fe", b"hg")
    assert isinstance(bad, ItemError) and str(bad) == "bad"


@pytest.mark.parametrize("said, pauses", [(FULL, 1), (NOW, 1), (NEVER, 0), (LARGE, 0)])
def test_before_halves_there_is_a_pause_where_the_server_may_be_busy(said, pauses, monkeypatch):
    taken = []
    clock = types.SimpleNamespace(sleep=taken.append, monotonic=time.monotonic)
    monkeypatch.setattr(client_module, "time", clock)
    status = 400 if said == LARGE else 503
    with Script(over_rest(taking_two(status, said))) as server, client_of(server) as client:
        assert list(client.map("decode", [b"12", b"34", b"56"])) == [b"21", b"43", b"65"]
    assert len(taken) == pauses


def test_settings_are_halved_with_their_items():
    with Script([(400, {"error": LARGE.format(2)})] + [(200, FINE)] * 2) as server:
        with client_of(server) as client:
            list(client.map("encode", [b"1", b"2"], quality=7))
        inputs = [body["inputs"] for _, body, _ in server.requests[1:]]
    assert inputs == [{"image_bytes": [to_json(item)], "quality": [7]} for item in (b"1", b"2")]


@pytest.mark.parametrize("said", [FULL, NOW])
def test_a_single_item_waits_for_a_place_in_the_queue(said):
    with Script([(503, {"error": said.format(1)})] * 9) as server, client_of(server) as client:
        with pytest.raises(UnavailableError, match="503: .* task size is 1"):
            client.encode(b"image")
        assert len(server.requests) == client.attempts


@pytest.mark.parametrize("status, said", [(400, LARGE), (413, "Content Too Large"), (503, NEVER)])
def test_a_single_item_that_is_too_much_is_an_error(status, said):
    answers = [(status, {"error": said.format(7)})] * 9
    with Script(answers) as server, client_of(server) as client:
        with pytest.raises(TooManyItemsError, match=str(status)) as caught:
            client.encode(b"image")
        assert not isinstance(caught.value, UnavailableError)
        assert len(server.requests) == 1


def test_items_that_the_model_has_not_begun_are_asked_for_again():
    def two_at_a_time(inputs):
        items = inputs["payload_bytes"]
        later = ["those before it have 268435456 bytes: ask again"] * (len(items) - 2)
        return {
            "image_bytes": [item[::-1] for item in items[:2]] + [b""] * len(later),
            "status": ["", "bad", *later][: len(items)],
        }

    with Script(over_rest(two_at_a_time)) as server, client_of(server) as client:
        results = list(client.map("decode", [b"12", b"34", b"56", b"78", b"90"], batch=5))
        assert sizes(server.requests) == [5, 3, 1]
    assert [results[n] for n in (0, 2, 4)] == [b"21", b"65", b"09"]
    assert [str(results[n]) for n in (1, 3)] == ["bad"] * 2


def test_pixels_that_have_another_size_are_no_answer():
    wrong = {"pixels_bytes": [b"12345"], "height": [2], "width": [2], "channels": [1]}
    with Script(over_rest(lambda _: wrong | {"status": [""]})) as server:
        with client_of(server) as client, pytest.raises(ServerError, match="5 bytes of .2, 2, 1"):
            client.decode_pixels(b"payload")


def test_a_request_of_ones_own_stays_whole():
    inputs, outputs = {"payload_bytes": [b"12"] * 3}, {"image_bytes": [b"21"] * 3}
    answers = [(503, NOW.format(3))] * 2 + [outputs]
    with Script(over_rest(lambda _: answers.pop(0))) as server, client_of(server) as client:
        assert client.predict("decode", inputs) == outputs
        assert sizes(server.requests) == [3, 3, 3]
    with Script(over_rest(taking_two(503, NEVER))) as server, client_of(server) as client:
        with pytest.raises(TooManyItemsError, match="task size is 3"):
            client.predict("decode", inputs)
        assert sizes(server.requests) == [3]


@pytest.mark.parametrize(
    "code, said",
    [
        *[("UNAVAILABLE", FULL), ("UNAVAILABLE", NEVER), ("INVALID_ARGUMENT", LARGE)],
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (9 vs. 4)"),
    ],
)
def test_grpc_has_the_same_halves(code, said):
    answer = taking_two(code, said)
    with grpc_script(lambda _, inputs: answer(inputs)) as (address, requests):
        with Client(address) as client:
            first, bad, *rest = client.map("decode", [b"ab", b"!", b"cd", b"ef", b"gh"], batch=5)
            assert [len(inputs["payload_bytes"]) for inputs in requests] == [5, 2, 3, 1, 2]
    assert (first, *rest) == (b"ba", b"dc", b"fe", b"hg")
    assert isinstance(bad, ItemError) and str(bad) == "bad"


@pytest.mark.parametrize(
    "code, said, attempts",
    [
        *[("UNAVAILABLE", "busy", 3), ("RESOURCE_EXHAUSTED", "busy", 3)],
        *[("FAILED_PRECONDITION", MIXED, 3), ("FAILED_PRECONDITION", "no", 1)],
        *[("DEADLINE_EXCEEDED", "too long", 1), ("INVALID_ARGUMENT", "no", 1)],
    ],
)
def test_grpc_is_asked_again_where_that_may_help(code, said, attempts):
    def answer(number, inputs):
        return reversed_items(inputs) if number > 2 else (code, said)

    with grpc_script(answer) as (address, requests), Client(address) as client:
        if attempts == 3:
            assert client.decode(b"ab") == b"ba"
        else:
            with pytest.raises(ServerError, match=f"{code}: {said}") as caught:
                client.decode(b"ab")
            assert not isinstance(caught.value, UnavailableError)
            assert ("is not asked again" in str(caught.value)) == (code == "DEADLINE_EXCEEDED")
        assert len(requests) == attempts


SIZE = ("height", "width", "channels")


def pixel_codec(inputs):
    """What `encode_pixels` and `decode_pixels` might answer: a payload is the size, quality and
    pixels."""
    if "pixels_bytes" in inputs:
        heads = map(bytes, zip(*(inputs[name] for name in (*SIZE, "quality")), strict=True))
        pairs = zip(heads, inputs["pixels_bytes"], strict=True)
        payloads = [head + pixels for head, pixels in pairs]
        return {"payload_bytes": payloads, "status": [""] * len(payloads)}
    payloads = inputs["payload_bytes"]
    sides = {name: [payload[n] for payload in payloads] for n, name in enumerate(SIZE)}
    pixels = [payload[4:] for payload in payloads]
    return {"pixels_bytes": pixels, "status": [""] * len(payloads)} | sides


@pytest.fixture(params=["rest", "grpc"])
def pixel_client(request):
    if request.param == "rest":
        with Script(over_rest(pixel_codec)) as server, client_of(server) as client:
            yield client
    else:
        with grpc_script(lambda _, inputs: pixel_codec(inputs)) as (address, _):
            with Client(address) as client:
                yield client


COLOUR = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


@pytest.mark.parametrize(
    "pixels",
    [
        *[COLOUR, memoryview(COLOUR), COLOUR[::2, ::-1], COLOUR[..., ::-1], COLOUR[..., :1]],
        *[np.asfortranarray(COLOUR), COLOUR[..., 1], COLOUR[..., 1].T],
        *[memoryview(bytes(range(6))).cast("B", (3, 2)), (ctypes.c_ubyte * 3 * 2)()],
    ],
)
def test_pixels_there_and_back(pixel_client, pixels):
    payload = pixel_client.encode_pixels(pixels, 77)
    expected = np.array(pixels)
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert payload == bytes((*expected.shape, 77)) + expected.tobytes()
    back = pixel_client.decode_pixels(payload)
    assert isinstance(back, memoryview) and back.shape == expected.shape
    assert np.asarray(back).dtype == np.uint8
    np.testing.assert_array_equal(back, expected)


def test_a_batch_of_pixels_is_an_iterable_of_images(pixel_client):
    batch = np.random.default_rng(1).integers(0, 256, (5, 2, 3, 3), np.uint8)
    payloads = list(pixel_client.map("encode_pixels", batch, batch=2, quality=9))
    assert {payload[3] for payload in payloads} == {9}
    back = list(pixel_client.map("decode_pixels", payloads, batch=3))
    np.testing.assert_array_equal(np.stack(back), batch)
    mixed = [COLOUR, COLOUR[:2], COLOUR[..., 0]]
    shapes = [tuple(payload[:3]) for payload in pixel_client.map("encode_pixels", mixed, quality=1)]
    assert shapes == [(4, 5, 3), (2, 5, 3), (4, 5, 1)]


def test_pixels_that_are_bad_are_their_items_errors():
    def answer(inputs):
        return pixel_codec(inputs) | {"pixels_bytes": [b"", b"123"], "status": ["damaged", ""]}

    with Script(over_rest(answer)) as server, client_of(server) as client:
        bad, good = client.map("decode_pixels", [b"\0\0\0\0", b"\1\1\3\0123"])
    assert isinstance(bad, ItemError) and str(bad) == "damaged"
    assert good.tolist() == [[[49, 50, 51]]]


@pytest.mark.parametrize(
    "pixels, received",
    [
        (COLOUR.astype(np.float32), r"float32 \(4, 5, 3\)"),
        (COLOUR.astype(np.int8), r"int8 \(4, 5, 3\)"),
        (COLOUR > 1, r"bool \(4, 5, 3\)"),
        (COLOUR[None], r"uint8 \(1, 4, 5, 3\)"),
        (COLOUR[0, 0], r"uint8 \(3,\)"),
        (b"bytes", r"B \(5,\)"),
        ([[1, 2]], "list"),
        (COLOUR.astype("M8[s]"), "ndarray"),
    ],
)
def test_pixels_that_are_none_are_refused_before_a_request(pixels, received):
    expected = rf"expected unsigned bytes \[H, W, C\] or \[H, W\]. Received: {received}"
    with Script([]) as server, client_of(server) as client:
        with pytest.raises(ValueError, match=expected):
            client.encode_pixels(pixels)
        with pytest.raises(ValueError, match=expected):
            list(client.map("encode_pixels", [COLOUR, pixels], quality=50))
        assert server.requests == []


@pytest.mark.parametrize("status, pause", [(200, 5), (TRICKLE, 0)])
def test_a_slow_server_ends_with_the_deadline(status, pause):
    answers = [(status, lambda: time.sleep(pause) or FINE)] * 5
    with Script(answers) as server, client_of(server, timeout=0.3) as client:
        start = time.monotonic()
        with pytest.raises(UnavailableError, match="cannot be reached: timed out"):
            client.encode(b"image")
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[]", b'{"outputs": {"payload_bytes": 3}}'])
def test_an_answer_that_is_none_is_an_error(answer):
    with Script([(200, answer)]) as server, client_of(server) as client:
        with pytest.raises(ServerError, match="answers no prediction"):
            client.encode(b"image")


def test_a_model_without_statuses_is_not_ours():
    with Script([(200, {"outputs": {"payload_bytes": []}})]) as server, client_of(server) as client:
        with pytest.raises(ServerError, match="expected a status for each item"):
            client.encode(b"image")


def test_nobody_there_is_said():
    with Script([]) as server:
        port = server.server_port
    with Client(f"localhost:{port}", attempts=2) as client:
        with pytest.raises(UnavailableError, match=f"localhost:{port} cannot be reached"):
            client.probe()


@pytest.mark.parametrize("address", ["", "ftp://localhost:1", "http://", "localhost:port"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match="expected host:port"):
        Client(address)


def test_many_items_come_back_in_their_order_a_few_requests_ahead(monkeypatch):
    client = Client("localhost:1")
    counts, lock = [], threading.Lock()

    def predict(signature, inputs, timeout):
        with lock:
            counts.append(len(inputs["payload_bytes"]))
        time.sleep(0.01 * (len(counts) % 3))
        return reversed_items(inputs)

    monkeypatch.setattr(client._transport, "predict", predict)
    read = []

    def items():
        for number in range(23):
            read.append(number)
            yield b"!" if number == 5 else f"{number:02}".encode()

    results = client.map("decode", items(), batch=4, concurrency=2)
    first = next(results)
    assert first == b"00" and len(read) <= 4 * 4
    rest = [first, *results]
    assert isinstance(rest[5], ItemError) and str(rest[5]) == "bad"
    assert [r for r in rest if isinstance(r, bytes)] == [
        f"{number:02}"[::-1].encode() for number in range(23) if number != 5
    ]
    assert sorted(counts) == [3, 4, 4, 4, 4, 4]


def test_an_error_of_the_server_ends_many(monkeypatch):
    client = Client("localhost:1", attempts=1)

    def fail(signature, inputs, timeout):
        raise UnavailableError("away")

    monkeypatch.setattr(client._transport, "predict", fail)
    with pytest.raises(ServerError, match="away"):
        list(client.map("decode", [b"1"] * 100))


def test_the_file_stands_alone(tmp_path):
    """Copied elsewhere it needs the standard library only."""
    copy = tmp_path / "client.py"
    copy.write_bytes(Path(client_module.__file__).read_bytes())
    program = (
        "import sys, client; client.Client('localhost:1'); "
        "print({'tensorflow', 'grpc', 'numpy', 'cnn_compression'} & sys.modules.keys())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (run.stdout.strip(), run.stderr) == ("set()", "")
