"""The client against servers that are away, busy, slow or wrong; the contract has the rest."""

import base64
import http.server
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cnn_compression.serving import client as client_module
from cnn_compression.serving.client import Client, ItemError, ServerError, UnavailableError

FINE = {
    "outputs": {"payload_bytes": [{"b64": base64.b64encode(b"payload").decode()}], "status": [""]}
}


class Script(http.server.ThreadingHTTPServer):
    """Answers one request after the other with what a list of (HTTP status, answer) says."""

    daemon_threads = True

    def __init__(self, answers):
        self.answers, self.requests = list(answers), []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


TRICKLE = 1


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, json.loads(body), self.client_address))
        status, answer = self.server.answers.pop(0)
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


def test_a_request_is_in_the_column_form_and_connections_are_kept():
    with Script([(200, FINE)] * 2) as server, client_of(server, model="a b", version=7) as client:
        assert client.encode(b"image", 33) == b"payload"
        assert client.encode(b"image", 33) == b"payload"
        (path, body, place), (_, _, other) = server.requests
    assert path == "/v1/models/a%20b/versions/7:predict"
    inputs = {"image_bytes": [{"b64": base64.b64encode(b"image").decode()}], "quality": [33]}
    assert body == {"signature_name": "encode", "inputs": inputs}
    assert place == other


@pytest.mark.parametrize("status", [429, 502, 503, 504, None])
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
    sizes, lock = [], threading.Lock()

    def predict(signature, inputs, timeout):
        """Each item's bytes reversed; `!` is a bad item."""
        items = inputs["payload_bytes"]
        with lock:
            sizes.append(len(items))
        time.sleep(0.01 * (len(sizes) % 3))
        return {
            "image_bytes": [item[::-1] for item in items],
            "status": ["bad" if item == b"!" else "" for item in items],
        }

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
    assert sorted(sizes) == [3, 4, 4, 4, 4, 4]


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
