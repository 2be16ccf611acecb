"""TensorFlow Serving's gRPC services: Predict, GetModelMetadata and GetModelStatus."""

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.any_pb2 import Any
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from cnn_compression.serving import answers
from cnn_compression.serving.servables import NotFoundError


def _answered(method):
    """A method of a service whose errors become gRPC's."""

    def answer(self, request, context):
        try:
            return method(self, request, context)
        except Exception as error:  # a client is told of whatever goes wrong
            code, words = answers.answer_to(error)
            context.abort(grpc.StatusCode[code], words)

    return answer


def _version(spec):
    """Of a `ModelSpec`: int or None."""
    if spec.WhichOneof("version_choice") == "version_label":
        raise NotFoundError(f"expected no label. Received: {spec.version_label!r}")
    return spec.version.value if spec.HasField("version") else None


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; arguments as of `rest.Rest`."""

    def __init__(self, servables, limited):
        self.servables, self.limited = servables, limited

    @_answered
    def Predict(self, request, context):
        name, seconds = request.model_spec.name, context.time_remaining()
        return self.limited(name, self._predict, request, timeout=seconds)

    def _predict(self, request):
        spec = request.model_spec
        servable = self.servables.get(spec.name, _version(spec))
        inputs = {name: _array(name, proto) for name, proto in request.inputs.items()}
        outputs = servable.run(spec.signature_name, inputs)
        unknown = set(request.output_filter) - outputs.keys()
        if unknown:
            raise ValueError(f"expected outputs of {sorted(outputs)}. Received: {sorted(unknown)}")
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(spec)
        response.model_spec.version.value = servable.version
        for name in request.output_filter or outputs:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    @_answered
    def GetModelMetadata(self, request, context):
        if list(request.metadata_field) != ["signature_def"]:
            received = list(request.metadata_field)
            raise ValueError(f"expected the field signature_def. Received: {received}")
        spec = request.model_spec
        servable = self.servables.get(spec.name, _version(spec))
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = servable.version
        packed = Any()
        packed.Pack(signatures)
        response.metadata["signature_def"].CopyFrom(packed)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, servables):
        self.servables = servables

    @_answered
    def GetModelStatus(self, request, context):
        version = _version(request.model_spec)
        response = get_model_status_pb2.GetModelStatusResponse()
        for state in self.servables.states(request.model_spec.name):
            if version in (None, state.version):
                entry = response.model_version_status.add()
                entry.version = state.version
                entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(state.state)
                entry.status.error_message = state.error
                entry.status.error_code = 2 if state.error else 0  # UNKNOWN, OK
        if not response.model_version_status:
            raise NotFoundError(f"expected a version that is there. Received: {version}")
        return response


def _array(name, proto):
    """A `TensorProto` as an array: one value may stand for many there, but not here."""
    count = int(np.prod([dim.size for dim in proto.tensor_shape.dim], dtype=object))
    written = max(proto.ByteSize(), 0)
    if not 0 <= count <= written:
        raise ValueError(f"{name}: expected its values written out. Received: {count} of them")
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
