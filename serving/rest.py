"""TensorFlow Serving's REST interface as a WSGI application.

    GET  /v1/models/NAME[/versions/N]             state of the versions
    GET  /v1/models/NAME[/versions/N]/metadata    signatures
    POST /v1/models/NAME[/versions/N]:predict     {"signature_name": ..., "inputs" or "instances"}
    GET  /monitoring/prometheus/metrics
    GET  /                                        the page

`inputs` holds the batch of each input (the column form), `instances` a list of items (the row
form); a signature's only input or output may stand without its name. Bytes are {"b64": "..."} in
the standard alphabet. Errors are {"error": "..."}. There are no labels of versions.
"""

import base64
import functools
import json
import mimetypes
import re
from http import HTTPStatus
from pathlib import Path

import numpy as np
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from cnn_compression.serving import answers
from cnn_compression.serving.servables import NotFoundError

WEB = Path(__file__).parent / "web"
METRICS = "/monitoring/prometheus/metrics"
MODEL = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18}))?(?P<verb>/metadata|:predict)?"
)
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
CORS = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
    ("Access-Control-Allow-Headers", "Content-Type"),
]


class Rest:
    """The application.

    Args:
        servables: `Servables`.
        limited: function of a model's name, a function and its arguments, which runs that within
            the server's limits.
        metrics: function of nothing to bytes, what Prometheus reads.
        cors: whether pages of other sites may call.
    """

    def __init__(self, servables, limited, metrics, cors=False):
        self.servables, self.limited, self.metrics, self.cors = servables, limited, metrics, cors

    def __call__(self, environ, start_response):
        try:
            status, kind, body = self._answer(environ)
        except Exception as error:  # a client is told of whatever goes wrong
            code, words = answers.answer_to(error)
            status, kind, body = answers.HTTP[code], JSON, _error(words)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        headers += CORS if self.cors else []
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def _answer(self, environ):
        """HTTP status, content type and body."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method == "OPTIONS" and self.cors:
            return 204, TEXT, b""
        match = MODEL.fullmatch(path)
        wanted = "POST" if match and match["verb"] == ":predict" else "GET"
        if method != wanted and (match or method != "HEAD"):
            return 405, JSON, _error(f"expected {wanted}. Received: {method}")
        if match:
            handle = {None: self._states, "/metadata": self._metadata, ":predict": self._predict}
            version = int(match["version"]) if match["version"] else None
            call = functools.partial(handle[match["verb"]], match["name"], version, environ)
            return 200, JSON, self.limited(match["name"], call) if wanted == "POST" else call()
        if path == METRICS:
            return 200, TEXT, self.metrics()
        return self._page(path)

    def _states(self, name, version, environ):
        states = [s for s in self.servables.states(name) if version in (None, s.version)]
        if not states:
            raise NotFoundError(f"expected a version of {name!r}. Received: {version}")
        described = [
            {
                "version": str(state.version),
                "state": state.state,
                "status": {
                    "error_code": answers.UNKNOWN if state.error else answers.OK,
                    "error_message": state.error,
                },
            }
            for state in states
        ]
        return _json({"model_version_status": described})

    def _metadata(self, name, version, environ):
        servable = self.servables.get(name, version)
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        described = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
        spec = {"name": name, "signature_name": "", "version": str(servable.version)}
        return _json({"model_spec": spec, "metadata": {"signature_def": described}})

    def _predict(self, name, version, environ):
        try:
            request = json.loads(environ["wsgi.input"].read())
        except ValueError as error:
            raise ValueError(f"expected JSON: {error}") from error
        forms = {"inputs", "instances"} & set(request if isinstance(request, dict) else ())
        if len(forms) != 1:
            raise ValueError('expected an object with either "inputs" or "instances"')
        signature = request.get("signature_name", "")
        if not isinstance(signature, str):
            raise ValueError(f"expected a string as signature_name. Received: {signature!r}")
        servable = self.servables.get(name, version)
        expected = servable.inputs_of(signature)
        by_rows = forms == {"instances"}
        batches = (_of_rows if by_rows else _of_columns)(*map(request.get, forms), expected)
        if batches.keys() != expected.keys():
            raise ValueError(f"expected inputs {sorted(expected)}. Received: {sorted(batches)}")
        inputs = {key: _array(key, value, *expected[key]) for key, value in batches.items()}
        outputs = servable.run(signature, inputs)
        lists = {key: _plain(key, value) for key, value in outputs.items()}
        if by_rows:
            return _json({"predictions": _rows(lists)})
        return _json({"outputs": lists if len(lists) > 1 else next(iter(lists.values()))})

    def _page(self, path):
        name = "index.html" if path == "/" else path[1:]
        file = WEB / name
        if Path(name).name != name or not file.is_file():
            raise NotFoundError(f"nothing at {path}")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return 200, kind, file.read_bytes()


def _json(value):
    return json.dumps(value).encode()


def _error(words):
    return _json({"error": words})


def _of_columns(value, expected):
    """The column form as a dict of input's name to batch."""
    if isinstance(value, dict) and value.keys() != {"b64"}:
        return value
    if len(expected) > 1:
        raise ValueError(f"expected inputs as an object of {sorted(expected)}")
    return {name: value for name in expected}


def _of_rows(items, expected):
    """The row form as a dict of input's name to batch."""
    if not isinstance(items, list) or not items:
        raise ValueError("expected instances as a list that is not empty")
    items = [_of_columns(item, expected) for item in items]
    if any(item.keys() != items[0].keys() for item in items):
        raise ValueError(f"expected instances with the same inputs: {sorted(expected)}")
    return {name: [item[name] for item in items] for name in items[0]}


def _array(name, value, dtype, rank):
    """A batch in JSON as an array of the kind that an input takes."""
    try:
        array = _strings(value) if dtype.kind == "O" else _integers(value, dtype)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if array.ndim != rank:
        raise ValueError(f"{name}: expected {rank} dimensions. Received: {array.ndim}")
    return array


def _strings(value):
    if not isinstance(value, list):
        raise ValueError("expected a list")
    array = np.empty(len(value), object)
    for number, item in enumerate(value):
        text = item.get("b64") if isinstance(item, dict) and item.keys() == {"b64"} else None
        if isinstance(item, str):
            array[number] = item.encode()
        elif isinstance(text, str):
            array[number] = base64.b64decode(text, validate=True)
        else:
            raise ValueError('expected strings or {"b64": "..."}')
    return array


def _integers(value, dtype):
    array, limits = np.asarray(value), np.iinfo(dtype)
    inside = array.size == 0 or (
        array.dtype.kind in "iu" and limits.min <= array.min() and array.max() <= limits.max
    )
    if not inside:
        raise ValueError(f"expected integers from {limits.min} to {limits.max}")
    return array.astype(dtype)


def _plain(name, values):
    """An output as JSON knows it: a name that ends in `_bytes` means base64."""
    if values.dtype.kind != "O":
        return values.tolist()
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(value).decode()} for value in values]
    return [value.decode() for value in values]


def _rows(columns):
    """A dict of batches as a list of items; an only output stands without its name."""
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, item, strict=True)) for item in zip(*columns.values(), strict=True)]
