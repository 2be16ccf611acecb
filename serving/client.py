"""A client of the codec behind TensorFlow Serving, or `cnn-compression serve`.

    client = Client("http://localhost:8501")             # or https://, grpc://, grpcs://
    payload = client.encode(png, quality=50)             # a PNG, JPEG, GIF or BMP file's bytes
    png = client.decode(payload)
    payload = client.encode_pixels(array)                # uint8 [H, W, C] or [H, W]
    array = numpy.asarray(client.decode_pixels(payload))
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
import re
import ssl
import struct
import time
import urllib.parse
import weakref
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MAX_MESSAGE_BYTES = 1 << 30  # gRPC's own limit for answers is 4 MiB
# Codes of answers, HTTP's and gRPC's.
BUSY = (429, 502, 503, "UNAVAILABLE", "RESOURCE_EXHAUSTED")
LATE = (504, "DEADLINE_EXCEEDED")
TOO_LARGE = (413,)
# What the model, TensorFlow Serving's batching and gRPC say of what is too much at any time,
TOO_MANY = re.compile(
    r"Task size \d+ is larger than max|exceeds maximum batch size|message larger than max"
    r"|at most \d+ items"
)
# of one that the queue has no room for: its items, and what an empty queue takes,
FULL = re.compile(
    r"is full; task size is (\d+)"
    r"(?:.*max_enqueued_batches=(\d+).*max_execution_batch_size=(\d+))?"
)
# and of one that came into a batch with another client's.
MIXED = "from different tasks have different shapes"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds, doubled from one attempt to the next
CHUNK = 1 << 20
PIXELS = ("pixels_bytes", "height", "width", "channels")
# How the model's status of an item ends that it has not begun, since the answer is large already.
ASK_AGAIN = "ask again"


class ServerError(OSError):
    """The server cannot be reached, or refuses a request as a whole."""


class UnavailableError(ServerError):
    """The server is away or busy, or another's request was in the way: worth another attempt."""


class TooManyItemsError(ServerError):
    """The server takes fewer items, or bytes, in a request."""


class FullQueueError(TooManyItemsError, UnavailableError):
    """The server's queue has no room for so many items: now, or ever."""


class ItemError(ValueError):
    """What the model's status says of one item."""


class Client:
    """Calls the signatures of one model.

    Args:
        server: `http://host:port`, `https://`, `grpc://` or `grpcs://`; `host:port` is REST.
        model: its name at the server.
        version: int, or None for the server's choice.
        timeout: seconds for a request, all its attempts together.
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
        server: str = "localhost:8501",
        model: str = "default",
        version: int | None = None,
        timeout: float = 60.0,
        attempts: int = 4,
        certificate: str | None = None,
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

    def encode(self, image: bytes, quality: int = 50) -> bytes:
        """An image file's bytes to a payload. Raises `ItemError` or `ServerError`."""
        return self._one("encode", image, quality=quality)

    def encode_to_size(self, image: bytes, max_bytes: int) -> tuple[bytes, int]:
        """An image file's bytes to the payload of the highest quality that fits, and the quality.

        Raises:
            ItemError: where the image cannot be read, or does not fit at any quality.
            ServerError: where the server cannot be reached or refuses.
        """
        return self._one("encode_to_size", image, max_bytes=max_bytes)

    def decode(self, payload: bytes) -> bytes:
        """A payload to a PNG file's bytes. Raises `ItemError` or `ServerError`."""
        return self._one("decode", payload)

    def encode_pixels(self, pixels: Any, quality: int = 50) -> bytes:
        """An image's pixels to a payload.

        Args:
            pixels: unsigned bytes `[H, W, C]`, or `[H, W]` for grey: a NumPy array of uint8 or
                whatever else a `memoryview` can be of, contiguous or not.
            quality: int, 1 to 100.

        Raises:
            ValueError: where `pixels` are not that; nothing is sent then.
            ItemError, ServerError: as ever.
        """
        return self._one("encode_pixels", pixels, quality=quality)

    def decode_pixels(self, payload: bytes) -> memoryview:
        """A payload to pixels: a memoryview of unsigned bytes `[H, W, C]`.

        `numpy.asarray` of it is the array, which cannot be written to. Raises `ItemError` or
        `ServerError`.
        """
        return self._one("decode_pixels", payload)

    def info(self, payload: bytes) -> dict[str, int]:
        """A payload's height, width, channels, scale and quality, as a dict of int."""
        return self._one("info", payload)

    def map(
        self,
        signature: str,
        items: Iterable[Any],
        batch: int = 4,
        concurrency: int = 4,
        **settings: int,
    ) -> Iterator[Any]:
        """Many items, several in a request, several requests at once.

        Args:
            signature: `encode`, `encode_to_size`, `encode_pixels`, `decode`, `decode_pixels` or
                `info`.
            items: iterable of bytes, or of pixels as `encode_pixels` takes them: an array
                `[N, H, W, C]` is one. Read only as far ahead as requests go out.
            batch: items in a request; where the server takes fewer, they are split among several.
            concurrency: requests at once.
            settings: `quality` or `max_bytes`, the same for all items.

        Yields:
            For each item, in their order, what `signature` gives for one, or its `ItemError`.

        Raises:
            ServerError: where the server cannot be reached or refuses a request.
            ValueError: for a `batch` or `concurrency` below 1; in place of a request whose pixels
                are none.
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

    def probe(self) -> None:
        """Encodes and decodes a tiny image: that a server answers says little of its model.

        Raises:
            ItemError, ServerError: where that does not work.
        """
        self.decode(self.encode(_tiny_png()))

    def predict(self, signature: str, inputs: dict[str, list]) -> dict[str, list]:
        """One request, attempted again where that may help: it keeps its items together.

        Args:
            signature: its name.
            inputs: dict of name to list of bytes or int.

        Returns:
            dict of name to list: of bytes where the name ends in `_bytes`, of int, of str.

        Raises:
            TooManyItemsError: where the server takes fewer items in a request.
            ServerError: where the server cannot be reached in time, or refuses.
        """
        return self._attempts(signature, inputs, splits=False)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attempts(self, signature, inputs, splits):
        """`predict`; where the items can be split, a full queue is not asked for all again."""
        end = time.monotonic() + self.timeout
        for attempt in itertools.count(1):
            left = end - time.monotonic()
            try:
                return self._transport.predict(signature, inputs, max(left, 0.001))
            except UnavailableError as error:
                # A random share of the pause keeps many clients from coming back together.
                pause = min(FIRST_PAUSE * 2 ** min(attempt - 1, 9), LONGEST_PAUSE)
                pause *= random.uniform(0.5, 1.5)
                if attempt >= self.attempts or time.monotonic() + pause >= end:
                    raise
                time.sleep(pause)
                if splits and isinstance(error, FullQueueError):
                    raise

    def _one(self, signature, item, **settings):
        [result] = self._many(signature, [item], settings)
        if isinstance(result, ItemError):
            raise result
        return result

    def _many(self, signature, items, settings):
        """List of what the signature gives for each item, or `ItemError`."""
        results, waiting = [], [items]
        while waiting:
            part = waiting.pop()
            try:
                done = self._some(signature, part, settings)
            except TooManyItemsError:
                if len(part) == 1:
                    raise
                half = len(part) // 2
                waiting += part[half:], part[:half]
                continue
            results += done
            if len(done) < len(part):
                waiting.append(part[len(done) :])
        return results

    def _some(self, signature, items, settings):
        """The same, in one request, of the first items, as many as the model has answered."""
        inputs = _columns(signature, items)
        inputs |= {key: [value] * len(items) for key, value in settings.items()}
        outputs = self._attempts(signature, inputs, splits=len(items) > 1)
        if "status" not in outputs:
            raise ServerError(f"expected a status for each item. Received: {sorted(outputs)}")
        statuses = outputs.pop("status")
        rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
        return [
            ItemError(status) if status else RESULTS[signature](row)
            for number, (status, row) in enumerate(zip(statuses, rows, strict=True))
            if number == 0 or not status.endswith(ASK_AGAIN)
        ]


def _columns(signature, items):
    """Items as a signature's inputs."""
    if signature == "encode_pixels":
        columns = zip(*map(_flat, items), strict=True)
        return dict(zip(PIXELS, map(list, columns), strict=True))
    return {"image_bytes" if signature.startswith("encode") else "payload_bytes": items}


def _flat(pixels):
    """The bytes, height, width and channels of `[H, W, C]` or `[H, W]`."""
    try:
        view = memoryview(pixels)
    except (TypeError, ValueError, BufferError):
        received = type(pixels).__name__
    else:
        if view.format.lstrip("@=<>!") == "B" and view.ndim in (2, 3):
            height, width, channels = (*view.shape, 1)[:3]
            return view.tobytes(), height, width, channels
        received = f"{getattr(pixels, 'dtype', view.format)} {view.shape}"
    raise ValueError(f"expected unsigned bytes [H, W, C] or [H, W]. Received: {received}")


def _image(row):
    """Of an item's outputs, the pixels as a memoryview `[H, W, C]`."""
    size = [row[name] for name in PIXELS[1:]]
    try:
        return memoryview(row["pixels_bytes"]).cast("B", size)
    except (TypeError, ValueError) as error:
        received = f"{len(row['pixels_bytes'])} bytes of {size}"
        raise ServerError(
            f"expected height x width x channels bytes. Received: {received}"
        ) from error


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


def _refusal(place, code, said):
    """The exception for an answer that is an error.

    Args:
        place: host and port.
        code: HTTP's, int, or the name of gRPC's.
        said: what the answer says.
    """
    words = f"{place} answers {code}: {said}"
    if code in LATE:
        again = "it is not asked again, as that would only repeat the work"
        return ServerError(f"{words} (it took longer than it may; {again})")
    full = FULL.search(said)
    size, batches, each = map(int, full.groups("0")) if full else (0, 0, 0)
    if code in TOO_LARGE or TOO_MANY.search(said) or size > batches * each > 0:
        return TooManyItemsError(words)
    if full:
        return FullQueueError(words)
    return (UnavailableError if code in BUSY or MIXED in said else ServerError)(words)


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
            raise _refusal(self._address.netloc, status, _said(answer))
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
    """What the body of an error says; of a proxy's page, a line."""
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return " ".join(answer[:200].decode(errors="replace").split()) or "nothing"


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
            said = error.details() or "nothing"
            raise _refusal(self._place, error.code().name, said) from error
        return {name: self._values(name, proto) for name, proto in outputs.items()}

    def _values(self, name, proto):
        values = self._tf.make_ndarray(proto).tolist()
        texts = proto.dtype == self._tf.string.as_datatype_enum and not name.endswith("_bytes")
        return [value.decode() for value in values] if texts else values

    def close(self):
        self._channel.close()


TRANSPORTS = {"http": _Rest, "https": _Rest, "grpc": _Grpc, "grpcs": _Grpc}
# What a signature gives for an item, of the outputs by their names.
RESULTS = {
    "encode": operator.itemgetter("payload_bytes"),
    "encode_to_size": operator.itemgetter("payload_bytes", "quality"),
    "encode_pixels": operator.itemgetter("payload_bytes"),
    "decode": operator.itemgetter("image_bytes"),
    "decode_pixels": _image,
    "info": dict,
}
