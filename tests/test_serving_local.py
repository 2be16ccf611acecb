"""What the local server does around a model: limits, codes, metrics, versions, its end."""

import io
import json
import shutil
import threading
import time
import urllib.request
from types import SimpleNamespace

import grpc
import pytest
import tensorflow as tf
from serving_calls import Refused, grpc_predict, http

from cnn_compression.export import warmup
from cnn_compression.serving import answers
from cnn_compression.serving.local_server import LocalServer, Settings
from cnn_compression.serving.rest import Rest
from cnn_compression.serving.servables import NotFoundError, Servables
from cnn_compression.serving.workers import BusyError, DeadlineError, Workers


def test_so_many_run_so_many_wait_and_the_rest_are_turned_away():
    workers, gate, started = Workers(2, 1, 30), threading.Event(), threading.Semaphore(0)

    def work(number):
        started.release()
        gate.wait(10)
        return number

    results = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: workers.run(work, n)}))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    assert started.acquire(timeout=5) and started.acquire(timeout=5)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            workers.run(work, 9, timeout=0)
        except BusyError:
            break
        except DeadlineError:
            time.sleep(0.01)  # the third thread had not taken its place yet
    else:
        pytest.fail("nobody was turned away")
    assert not started.acquire(blocking=False)
    gate.set()
    for thread in threads:
        thread.join()
    assert results == {0: 0, 1: 1, 2: 2}
    assert workers.run(lambda: 5) == 5
    workers.close()
    with pytest.raises(BusyError, match="ends"):
        workers.run(lambda: 5)


def test_what_takes_too_long_is_given_up():
    workers, gate = Workers(1, 4, 0.05), threading.Event()
    with pytest.raises(DeadlineError, match="0.05 seconds"):
        workers.run(gate.wait, 10)
    with pytest.raises(DeadlineError, match="0.01 seconds"):
        workers.run(list, timeout=0.01)  # it waits for the one before
    gate.set()
    with pytest.raises(ZeroDivisionError):
        Workers(1, 1, 5).run(lambda: 1 / 0)
    with pytest.raises(TimeoutError):  # the function's own

        def time_out():
            raise TimeoutError

        Workers(1, 1, 5).run(time_out)


def asked(application, method, path, body=b""):
    """Status line, headers and body of a WSGI application's answer."""
    said = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
    answer = b"".join(application(environ, lambda status, headers: said.extend([status, headers])))
    return said[0], dict(said[1]), answer


def failing(error):
    """An application whose every prediction fails."""

    def limited(*_):
        raise error

    return Rest(SimpleNamespace(), limited, lambda: b"")


@pytest.mark.parametrize(
    "error, status, code",
    [
        (BusyError("too many"), "503 Service Unavailable", "UNAVAILABLE"),
        (DeadlineError("too long"), "504 Gateway Timeout", "DEADLINE_EXCEEDED"),
        (NotFoundError("no such"), "404 Not Found", "NOT_FOUND"),
        (ValueError("wrong"), "400 Bad Request", "INVALID_ARGUMENT"),
        (RecursionError("deep"), "400 Bad Request", "INVALID_ARGUMENT"),
        (MemoryError(), "500 Internal Server Error", "UNKNOWN"),
    ],
)
def test_errors_have_tensorflows_codes(error, status, code):
    said, headers, body = asked(failing(error), "POST", "/v1/models/default:predict")
    assert (said, headers["Content-Type"]) == (status, "application/json")
    assert json.loads(body) == {"error": str(error) or type(error).__name__}
    assert answers.code_of(error) == code
    assert grpc.StatusCode[code].name == code


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/v1/models/default:predict", 405),
        ("POST", "/v1/models/default", 405),
        ("POST", "/", 405),
        ("GET", "/nothing", 404),
        ("GET", "/../rest.py", 404),
        ("GET", "/..%2frest.py", 404),
        ("GET", "/v1/models/default/labels/stable", 404),
        ("OPTIONS", "/v1/models/default:predict", 405),
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/app.js", 200),
    ],
)
def test_paths_and_methods(method, path, status):
    said, _, body = asked(failing(ValueError()), method, path)
    assert said.startswith(str(status))
    assert b"def " not in body


def test_pages_of_other_sites_may_call_where_that_is_said():
    for cors, status in [(True, 204), (False, 405)]:
        application = Rest(SimpleNamespace(), None, lambda: b"", cors)
        said, headers, _ = asked(application, "OPTIONS", "/v1/models/default:predict")
        assert said.startswith(str(status))
        assert ("Access-Control-Allow-Origin" in headers) == cors


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Version 1 of a model that gives payloads back: what is tested is around it."""
    folder = tmp_path_factory.mktemp("models") / "default"

    def decode(payload_bytes):
        return {"image_bytes": payload_bytes, "status": tf.zeros_like(payload_bytes)}

    signature = tf.function(decode, [tf.TensorSpec((None,), tf.string)])
    signatures = {"serving_default": signature, "decode": signature}
    tf.saved_model.save(tf.Module(), str(folder / "1"), signatures)
    return folder


def settings(versions, **more):
    return Settings({"default": str(versions)}, **{"port": 0, "rest_api_port": 0} | more)


def test_prometheus_counts_by_code(versions):
    with LocalServer(settings(versions)) as server:
        rest = f"http://127.0.0.1:{server.rest_api_port}"
        predict = f"{rest}/v1/models/default:predict"
        http(predict, {"instances": [{"b64": ""}]})
        for body in ({}, {"instances": []}):
            with pytest.raises(Refused):
                http(predict, body)
        with urllib.request.urlopen(f"{rest}/monitoring/prometheus/metrics") as answer:
            lines = answer.read().decode().splitlines()
    name = ":tensorflow:serving:request_"
    assert f'{name}count{{model_name="default",status="OK"}} 1.0' in lines
    assert f'{name}count{{model_name="default",status="INVALID_ARGUMENT"}} 2.0' in lines
    assert f'{name}latency_count{{model_name="default"}} 3.0' in lines


def test_models_are_served_side_by_side(versions, tmp_path):
    other = shutil.copytree(versions, tmp_path / "eyes")
    (other / "1").rename(other / "3")
    models = {"default": str(versions), "eyes": str(other)}
    with LocalServer(Settings(models, port=0, rest_api_port=0, poll_seconds=3600)) as server:
        rest = f"http://127.0.0.1:{server.rest_api_port}"
        for name, version in (("default", "1"), ("eyes", "3")):
            [state] = http(f"{rest}/v1/models/{name}")["model_version_status"]
            assert (state["version"], state["state"]) == (version, "AVAILABLE")
            http(f"{rest}/v1/models/{name}:predict", {"instances": [{"b64": ""}]})
        with pytest.raises(Refused, match="expected the model 'default' or 'eyes'. Received: 'x'"):
            http(f"{rest}/v1/models/x:predict", {"instances": [{"b64": ""}]})
        with urllib.request.urlopen(f"{rest}/monitoring/prometheus/metrics") as answer:
            counts = [line for line in answer.read().decode().splitlines() if "_count{" in line]
        named = [(name, f'model_name="{name}"') for name in ("default", "eyes", "x")]
        assert {name: sum(label in line for line in counts) for name, label in named} == {
            "default": 2, "eyes": 2, "x": 0,
        }  # fmt: skip


def test_a_deadline_of_grpc_is_kept(versions, monkeypatch):
    with LocalServer(settings(versions, timeout=0.05)) as server:
        slow = SimpleNamespace(run=lambda *_: time.sleep(1), version=1)
        monkeypatch.setattr(server.servables, "get", lambda *_: slow)
        place = SimpleNamespace(grpc=f"127.0.0.1:{server.port}", model="default")
        with pytest.raises(Refused) as refused:
            grpc_predict(place, "decode", payload_bytes=[b""])
        assert refused.value.code == "DEADLINE_EXCEEDED"


def test_a_closed_server_leaves_ports_and_threads(versions):
    before = threading.active_count()
    server = LocalServer(settings(versions))
    ports = {"port": server.port, "rest_api_port": server.rest_api_port}
    http(f"http://127.0.0.1:{server.rest_api_port}/v1/models/default")
    server.close()
    with pytest.raises(OSError):
        http(f"http://127.0.0.1:{ports['rest_api_port']}/v1/models/default")
    with LocalServer(settings(versions, **ports)) as again:
        assert again.rest_api_port == ports["rest_api_port"]
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_a_port_that_is_taken_stops_what_was_started(versions):
    with LocalServer(settings(versions)) as server:
        before = threading.active_count()
        with pytest.raises(OSError):
            LocalServer(settings(versions, rest_api_port=server.rest_api_port))
        with pytest.raises(OSError, match="cannot listen"):
            LocalServer(settings(versions, port=server.port))
        assert threading.active_count() <= before + 1  # gRPC's may take a moment


def test_a_version_that_was_half_copied_is_tried_again(versions, tmp_path):
    base = tmp_path / "models"
    shutil.copytree(versions, base)
    servables = Servables({"default": base}, poll_seconds=3600)
    try:
        (base / "2").mkdir()
        (base / "2" / "saved_model.pb").write_bytes(b"half")
        servables.look()
        assert servables.get("default").version == 1
        states = [(s.version, s.state) for s in servables.states("default")]
        assert states == [(2, "END"), (1, "AVAILABLE")]
        shutil.copytree(versions / "1", base / "2", dirs_exist_ok=True)
        servables.look()
        assert servables.get("default").version == 2
        states = [(s.version, s.state) for s in servables.states("default")]
        assert states == [(2, "AVAILABLE"), (1, "END")]
    finally:
        servables.close()


def test_a_version_whose_warm_up_fails_is_not_served(versions, tmp_path):
    base = tmp_path / "models"
    shutil.copytree(versions, base)
    log = warmup._prediction_log("default", "decode", {"nothing": [1]})
    file = base / "1" / warmup.WARMUP_FILE
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(log)
    with pytest.raises(ValueError, match="version 1: expected inputs"):
        Servables({"default": base})
    with pytest.raises(ValueError, match="expected a model's folder"):
        Servables({"default": tmp_path / "nowhere"})
