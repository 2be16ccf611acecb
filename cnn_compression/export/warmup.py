"""What TensorFlow Serving reads beside a SavedModel: warm-up requests."""

import importlib.util

import numpy as np
import tensorflow as tf

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
# Small, and as a photograph on a page. A server runs these before it calls a version available.
SIZES = ((192, 256), (576, 768))


def has_serving_api():
    """Whether tensorflow-serving-api is installed, without which there are no warm-up requests."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def write(codec, name, folder):
    """Writes the requests, where there is what it needs.

    Args:
        codec: `Codec`, whose payloads the requests carry.
        name: of the model.
        folder: `Path` of the SavedModel. Warm-up requests need tensorflow-serving-api.
    """
    if has_serving_api():
        with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
            for signature, inputs in warmup_requests(codec):
                writer.write(_prediction_log(name, signature, inputs))


def warmup_requests(codec):
    """Requests for each signature: pairs of its name and dict of input's name to array."""
    for height, width in SIZES:
        image = _scene(height, width)
        quality = np.array([50], np.int32)
        files = np.array([tf.io.encode_png(image).numpy()], object)
        payloads = np.array([codec.encode(image, 50)], object)
        yield "encode", {"image_bytes": files, "quality": quality}
        limit = np.array([len(payloads[0])], np.int32)
        yield "encode_to_size", {"image_bytes": files, "max_bytes": limit}
        if (height, width) == SIZES[0]:  # raw pixels make a large file
            named = zip(("height", "width", "channels"), image.shape, strict=True)
            sizes = {key: np.array([side], np.int32) for key, side in named}
            pixels = np.array([image.tobytes()], object)
            yield "encode_pixels", {"pixels_bytes": pixels, "quality": quality} | sizes
        for signature in ("serving_default", "decode", "decode_pixels", "info"):
            yield signature, {"payload_bytes": payloads}


def _scene(height, width):
    """Colour gradients and rings: uint8 `[height, width, 3]`, a small file."""
    y, x = np.mgrid[:height, :width]
    rings = 40 * np.sin(np.hypot(x - width / 3, y - height / 2) / 9)
    scene = np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], axis=-1) + rings[..., None]
    return np.clip(np.round(scene / 32) * 32, 0, 255).astype(np.uint8)


def _prediction_log(name, signature, inputs):
    """A record, as tensorflow_serving/apis/prediction_log.proto has it."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    log = prediction_log_pb2.PredictLog(request=request)
    return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()
