"""One request to a server, in each of TensorFlow Serving's three forms, without our client."""

import base64
import json
import socket
import urllib.error
import urllib.request


class Refused(Exception):
    """The request as a whole; `code` is HTTP's or gRPC's."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def http(url, body=None, timeout=120):
    """The JSON that a GET or a POST is answered with."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=timeout) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read().decode(errors="replace")) from error


def to_json(value):
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def from_json(name, value):
    return base64.b64decode(value["b64"]) if name.endswith("_bytes") else value


def rest_columns(server, signature, **inputs):
    columns = {name: [to_json(value) for value in values] for name, values in inputs.items()}
    body = {"signature_name": signature, "inputs": columns}
    outputs = http(f"{server.rest}/v1/models/{server.model}:predict", body)["outputs"]
    return {name: [from_json(name, value) for value in values] for name, values in outputs.items()}


def rest_rows(server, signature, **inputs):
    rows = [
        {name: to_json(value) for name, value in zip(inputs, row, strict=True)}
        for row in zip(*inputs.values(), strict=True)
    ]
    body = {"signature_name": signature, "instances": rows}
    items = http(f"{server.rest}/v1/models/{server.model}:predict", body)["predictions"]
    return {name: [from_json(name, item[name]) for item in items] for name in items[0]}


def grpc_predict(server, signature, version=None, only=(), **inputs):
    """`only`: names of the outputs that are asked for, where not all."""
    import grpc
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest(output_filter=only)
    request.model_spec.name, request.model_spec.signature_name = server.model, signature
    if version is not None:
        request.model_spec.version.value = version
    for name, values in inputs.items():
        first = np.asarray(values, object).flat[0]
        values = np.asarray(values, object if isinstance(first, bytes) else np.int32)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    limit = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc, limit) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            outputs = stub.Predict(request, timeout=120).outputs
        except grpc.RpcError as error:
            raise Refused(error.code().name, error.details()) from error
    arrays = {name: tf.make_ndarray(proto).tolist() for name, proto in outputs.items()}
    if "status" in arrays:
        arrays["status"] = [status.decode() for status in arrays["status"]]
    return arrays


FORMS = {"rest columns": rest_columns, "rest rows": rest_rows, "grpc": grpc_predict}
