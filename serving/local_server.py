"""A server with TensorFlow Serving's interfaces over one exported model, in one Python process.

For development, tests and laptops: production is `tensorflow_model_server`, which speaks the same
REST and gRPC. `cnn-compression serve` starts it.
"""

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import prometheus_client
import waitress
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from waitress import wasyncore

from cnn_compression.serving import answers
from cnn_compression.serving.grpc_api import ModelService, PredictionService
from cnn_compression.serving.rest import Rest
from cnn_compression.serving.servables import Servables
from cnn_compression.serving.workers import Workers

LOOPBACK = "127.0.0.1"
PIECE, IN_MEMORY = 2**18, 2**24  # bytes of a request


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        models: dict of what clients call a model to the folder of its versions.
        address: to listen at, an IP address; the loopback unless told otherwise.
        port, rest_api_port: of gRPC and REST; 0 takes one that is free.
        concurrency: requests that are computed at once; eight times as many may wait.
        timeout: seconds that a request may wait and be computed.
        max_message_bytes: of a request, and of a gRPC answer.
        poll_seconds: how often new versions are looked for.
        cors: whether pages of other sites may call the REST interface.
    """

    models: Mapping[str, str]
    address: str = LOOPBACK
    port: int = 8500
    rest_api_port: int = 8501
    concurrency: int = 2
    timeout: float = 30.0
    max_message_bytes: int = 256 * 2**20
    poll_seconds: float = 1.0
    cors: bool = False


class Metrics:
    """What Prometheus reads, under the names that TensorFlow Serving has for it."""

    def __init__(self):
        self._registry = prometheus_client.CollectorRegistry()
        # A gauge, since this library ends a counter's name in _total.
        self._count = prometheus_client.Gauge(
            ":tensorflow:serving:request_count",
            "requests",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = prometheus_client.Histogram(
            ":tensorflow:serving:request_latency",
            "microseconds",
            ["model_name"],
            buckets=[10.0 * 1.8**power for power in range(33)],
            registry=self._registry,
        )

    def add(self, model_name, status, seconds):
        self._count.labels(model_name, status).inc()
        self._latency.labels(model_name).observe(1e6 * seconds)

    def text(self):
        return prometheus_client.generate_latest(self._registry)


class LocalServer:
    """Serves from its making on, until it is closed.

    Args:
        settings: `Settings`.

    Attributes:
        port, rest_api_port: of gRPC and REST, as they came to be.

    Raises:
        ValueError: where there is no model to serve, or the address is none.
        OSError: where a port cannot be had.
    """

    def __init__(self, settings):
        ipaddress.ip_address(settings.address)
        waiting = 8 * settings.concurrency
        # Threads beyond those that compute or wait tell other clients that they are too many.
        threads = settings.concurrency + waiting + 4
        family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
        with contextlib.ExitStack() as stack:
            # Before the model, which takes a while to load: a port that is taken is said at once.
            rest = socket.create_server((settings.address, settings.rest_api_port), family=family)
            stack.callback(rest.close)
            server, self.port = self._listen_grpc(settings, threads)
            self.servables = Servables(settings.models, settings.poll_seconds)
            stack.callback(self.servables.close)
            self._metrics = Metrics()
            self._workers = Workers(settings.concurrency, waiting, settings.timeout)
            stack.callback(self._workers.close)
            self._start_grpc(server)
            stack.callback(lambda: server.stop(grace=1).wait())
            self.rest_api_port, close_rest = self._start_rest(settings, threads, rest)
            stack.callback(close_rest)
            self._stack = stack.pop_all()

    def close(self):
        """Ends what runs, and takes no more."""
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def limited(self, model_name, function, *arguments, timeout=None):
        """`function(*arguments)` within the limits, and counted as this model's; see `Workers.run`.

        Names that are none of a model's are not counted: there is no end of them.
        """
        start, status = time.perf_counter(), answers.UNKNOWN
        try:
            result = self._workers.run(function, *arguments, timeout=timeout)
            status = answers.OK
            return result
        except Exception as error:
            status = answers.code_of(error)
            raise
        finally:
            if model_name in self.servables.names:
                self._metrics.add(model_name, status, time.perf_counter() - start)

    def _listen_grpc(self, settings, threads):
        """A server that does not answer yet, and its port."""
        options = {
            "grpc.max_receive_message_length": settings.max_message_bytes,
            "grpc.max_send_message_length": settings.max_message_bytes,
            "grpc.so_reuseport": 0,  # a port that is taken is an error
        }
        server = grpc.server(ThreadPoolExecutor(threads), options=list(options.items()))
        place = f"[{settings.address}]" if ":" in settings.address else settings.address
        try:
            return server, server.add_insecure_port(f"{place}:{settings.port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen at {place}:{settings.port}") from error

    def _start_grpc(self, server):
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self.servables, self.limited), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self.servables), server
        )
        server.start()

    def _start_rest(self, settings, threads, listening):
        """The port, and a function that closes all."""
        application = Rest(self.servables, self.limited, self._metrics.text, settings.cors)
        sockets = {}
        server = waitress.create_server(
            application,
            map=sockets,
            sockets=[listening],
            threads=threads,
            max_request_body_size=settings.max_message_bytes,
            # Pictures, not forms: fewer and larger pieces, in memory to 16 MiB.
            recv_bytes=PIECE,
            inbuf_overflow=IN_MEMORY,
            outbuf_overflow=IN_MEMORY,
            ident=None,
        )
        loop = threading.Thread(target=server.run, daemon=True, name="rest")
        loop.start()

        def close():
            # In the loop's own thread, which waits for these sockets; it ends when none is left.
            server.trigger.pull_trigger(lambda: wasyncore.close_all(sockets))
            loop.join()
            server.task_dispatcher.shutdown()

        return int(server.effective_port), close
