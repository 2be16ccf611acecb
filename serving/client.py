"""A client of the codec behind TensorFlow Serving, or `cnn-compression serve`.

    client = Client("http://localhost:8501")             # or https://, grpc://, grpcs://
    payload = client.encode(png, quality=40)             # a PNG, JPEG, GIF or BMP file's bytes
    png = client.decode(payload)
    for result in client.map("decode", payloads, batch=4, concurrency=4):
        ...                                              # bytes, or the ItemError of that item

REST takes nothing but Python's standard library, and the file stands alone: copy it where it is
needed. gRPC takes the package tensorflow-serving-api.
"""

import base64
import collections
import contextlib
import http.client
import itertools
import json
import operator
import queue
import random
import ssl
import struct
import time
import urllib.parse
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor

MAX_MESSAGE_BYTES = 1 << 30  # gRPC's own limit for answers is 4 MiB
RETRIED_HTTP = (429, 502, 503, 504)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds, doubled from one attempt to the next
CHUNK = 1 << 20
# What a signature gives for an item, of the outputs by their names.
RESULTS = {
    "encode": operator.itemgetter("payload_bytes"),
    "encode_to_size": operator.itemgetter("payload_bytes", "quality"),
    "decode": operator.itemgetter("image_bytes"),
    "info": dict,
}


class ServerError(OSError):
    """The server cannot be reached, or refuses a request as a whole."""


class UnavailableError(ServerError):
    """The server is away or busy: worth another attempt."""


class ItemError(ValueError):
    """What the model's status says of one item."""


class Client:
    """Calls the signatures of one model.

    Args:
        server: `http://host:port`, `https://`, `grpc://` or `grpcs://`; `host:port` is REST.
        model: its name at the server.
        version: int, or None for the server's choice.
        timeout: seconds for a call, all its attempts together.
        attempts: how often an unavailable or busy server is asked.
        certificate: path of a PEM file of the authority that signed the server's, where the
            system does not know it.

    Attributes:
        timeout, attempts: as given.
        close: function of nothing that closes the connections; so does leaving a `with`.

    Raises:
        ValueError: where `server` is no such address.
        ImportError: for gRPC without tensorflow-serving-api.
    """

    def __init__(
        self,
        server="localhost:8501",
        model="default",
        version=None,
        timeout=60.0,
        attempts=4,
        certificate=None,
    ):
        address = urllib.parse.urlsplit(server if "://" in server else f"http://{server}")
        try:
            known = address.scheme in TRANSPORTS and address.hostname and address.port != 0
        except ValueError:  # the port is no number
            known = False
        if not known:
            raise ValueError(
                f"expected host:port or {', '.join(TRANSPORTS)}://host:port. Received: {server!r}"
            )
        self.timeout, self.attempts = timeout, attempts
        self._transport = TRANSPORTS[address.scheme](address, model, version, certificate)
        self.close = weakref.finalize(self, self._transport.close)

    def encode(self, image, quality=50):
        """An image file's bytes to a payload. Raises `ItemError` or `ServerError`."""
        return self._one("encode", image, quality=quality)

    def encode_to_size(self, image, max_bytes):
        """An image file's bytes to the payload of the highest quality that fits, and the quality.

        Raises:
            ItemError: where the image cannot be read, or does not fit at any quality.
            ServerError: where the server cannot be reached or refuses.
        """
        return self._one("encode_to_size", image, max_bytes=max_bytes)

    def decode(self, payload):
        """A payload to a PNG file's bytes. Raises `ItemError` or `ServerError`."""
        return self._one("decode", payload)

    def info(self, payload):
        """A payload's height, width, channels, scale and quality, as a dict of int."""
        return self._one("info", payload)

    def map(self, signature, items, batch=4, concurrency=4, **settings):
        """Many items, several in a request, several requests at once.

        Args:
            signature: `encode`, `encode_to_size`, `decode` or `info`.
            items: iterable of bytes, read only as far ahead as requests go out.
            batch: items in a request.
            concurrency: requests at once.
            settings: `quality` or `max_bytes`, the same for all items.

        Yields:
            For each item, in their order, what `signature` gives for one, or its `ItemError`.

        Raises:
            ServerError: where the server cannot be reached or refuses a request: TensorFlow Serving
                does where `batch` is more than its `max_batch_size`.
            ValueError: for a `batch` or `concurrency` below 1.
        """
        if min(batch, concurrency) < 1:
            raise ValueError(f"expected 1 or more. Received: {batch=}, {concurrency=}")
        items, ahead = iter(items), collections.deque()
        batches = iter(lambda: list(itertools.islice(items, batch)), [])
        with ThreadPoolExecutor(concurrency) as threads:
            try:
                for group in batches:
                    ahead.append(threads.submit(self._many, signature, group, settings))
                    if len(ahead) > concurrency:
                        yield from ahead.popleft().result()
                while ahead:
                    yield from ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def probe(self):
        """Encodes and decodes a tiny image: that a server answers says little of its model.

        Raises:
            ItemError, ServerError: where that does not work.
        """
        self.decode(self.encode(_tiny_png()))

    def predict(self, signature, inputs):
        """One request, attempted again while the server is away or busy.

        Args:
            signature: its name.
            inputs: dict of name to list of bytes or int.

        Returns:
            dict of name to list: of bytes where the name ends in `_bytes`, of int, of str.

        Raises:
            ServerError: where the server cannot be reached in time, or refuses.
        """
        end = time.monotonic() + self.timeout
        for attempt in itertools.count(1):
            left = end - time.monotonic()
            try:
                return self._transport.predict(signature, inputs, max(left, 0.001))
            except UnavailableError:
                # A random share of the pause keeps many clients from coming back together.
                pause = min(FIRST_PAUSE * 2 ** min(attempt - 1, 9), LONGEST_PAUSE)
                pause *= random.uniform(0.5, 1.5)
                if attempt >= self.attempts or time.monotonic() + pause >= end:
                    raise
                time.sleep(pause)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _one(self, signature, item, **settings):
        [result] = self._many(signature, [item], settings)
        if isinstance(result, ItemError):
            raise result
        return result

    def _many(self, signature, items, settings):
        """List of what the signature gives for each item, or `ItemError`."""
        name = "image_bytes" if signature.startswith("encode") else "payload_bytes"
        inputs = {name: list(items)} | {
            key: [value] * len(items) for key, value in settings.items()
        }
        outputs = self.predict(signature, inputs)
        if "status" not in outputs:
            raise ServerError(f"expected a status for each item. Received: {sorted(outputs)}")
        statuses = outputs.pop("status")
        rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
        return [
            ItemError(status) if status else RESULTS[signature](row)
            for status, row in zip(statuses, rows, strict=True)
        ]


def _tiny_png():
    """A grey PNG of 8 x 8 pixels."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(8 * (b"\0" + 8 * b"\x80"))),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


class _Rest:
    """REST; connections stay open for the next request."""

    def __init__(self, address, model, version, certificate):
        self._address, self._idle = address, queue.LifoQueue()
        self._context = None
        if address.scheme == "https":
            self._context = ssl.create_default_context(cafile=certificate)
        version = "" if version is None else f"/versions/{version}"
        model = urllib.parse.quote(model, safe="")
        self._path = f"{address.path.rstrip('/')}/v1/models/{model}{version}:predict"

    def predict(self, signature, inputs, timeout):
        columns = {name: [_to_json(value) for value in values] for name, values in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns}).encode()
        try:
            status, answer = self._post(body, time.monotonic() + timeout)
        except ssl.SSLCertVerificationError as error:
            raise ServerError(f"{self._address.netloc}: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"{self._address.netloc} cannot be reached: {reason}") from error
        if status != 200:
            kind = UnavailableError if status in RETRIED_HTTP else ServerError
            raise kind(f"{self._address.netloc} answers {status}: {_said(answer)}")
        try:
            outputs = json.loads(answer)["outputs"]
            return {name: _from_json(name, values) for name, values in outputs.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerError(f"{self._address.netloc} answers no prediction: {error}") from error

    def _post(self, body, end):
        """HTTP status and body, until a time of the monotonic clock."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            return self._post_over(self._connection(), body, end)
        try:
            return self._post_over(connection, body, end)
        except ConnectionError:  # the server has closed what was idle for long
            return self._post_over(self._connection(), body, end)

    def _post_over(self, connection, body, end):
        def hurry():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            connection.timeout = left
            if connection.sock:
                connection.sock.settimeout(left)

        try:
            hurry()
            if connection.sock is None:
                connection.connect()
                hurry()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # A server that refuses a body may answer, and close, before it has all of it.
                connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            hurry()
            response, parts = connection.getresponse(), []
            while part := response.read1(CHUNK):
                parts.append(part)
                hurry()
            response.read()  # nothing is left, but so the connection knows
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return response.status, b"".join(parts)

    def _connection(self):
        host, port = self._address.hostname, self._address.port
        if self._context:
            return http.client.HTTPSConnection(host, port, context=self._context)
        return http.client.HTTPConnection(host, port)

    def close(self):
        while not self._idle.empty():
            self._idle.get_nowait().close()


def _to_json(value):
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(name, values):
    return [base64.b64decode(v["b64"]) for v in values] if name.endswith("_bytes") else values


def _said(answer):
    """What the body of an error says."""
    try:
        return json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace").strip() or "nothing"


class _Grpc:
    """gRPC, over one channel."""

    def __init__(self, address, model, version, certificate):
        try:
            import grpc
            import tensorflow as tf
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            needed = "gRPC needs the package tensorflow-serving-api, or use http://"
            raise ImportError(f"{needed}: {error}") from error
        self._grpc, self._tf = grpc, tf
        host = f"[{address.hostname}]" if ":" in address.hostname else address.hostname
        self._place = f"{host}:{address.port or 8500}"
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
        if address.scheme == "grpcs":
            authority = None
            if certificate:
                with open(certificate, "rb") as file:
                    authority = file.read()
            credentials = grpc.ssl_channel_credentials(authority)
            self._channel = grpc.secure_channel(self._place, credentials, options)
        else:
            self._channel = grpc.insecure_channel(self._place, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._request = predict_pb2.PredictRequest()
        self._request.model_spec.name = model
        if version is not None:
            self._request.model_spec.version.value = version

    def predict(self, signature, inputs, timeout):
        request = type(self._request)()
        request.CopyFrom(self._request)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            kind = self._tf.string if isinstance(values[0], bytes) else self._tf.int32
            request.inputs[name].CopyFrom(self._tf.make_tensor_proto(values, kind))
        try:
            outputs = self._stub.Predict(request, timeout=timeout).outputs
        except self._grpc.RpcError as error:
            code = self._grpc.StatusCode
            away = error.code() in (code.UNAVAILABLE, code.RESOURCE_EXHAUSTED)
            # That is RESOURCE_EXHAUSTED too, and will be so again.
            away &= "larger than max" not in (error.details() or "")
            kind = UnavailableError if away else ServerError
            raise kind(f"{self._place} answers {error.code().name}: {error.details()}") from error
        return {name: self._values(name, proto) for name, proto in outputs.items()}

    def _values(self, name, proto):
        values = self._tf.make_ndarray(proto).tolist()
        texts = proto.dtype == self._tf.string.as_datatype_enum and not name.endswith("_bytes")
        return [value.decode() for value in values] if texts else values

    def close(self):
        self._channel.close()


TRANSPORTS = {"http": _Rest, "https": _Rest, "grpc": _Grpc, "grpcs": _Grpc}
