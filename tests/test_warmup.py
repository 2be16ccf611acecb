"""What lies beside an exported model for TensorFlow Serving."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from cnn_compression.codec.model_files import find_model
from cnn_compression.export import warmup

INSTALLED = find_model("default").parents[1]


@pytest.fixture(scope="module")
def requests():
    """Of the model that ships: (signature, dict of name to array)."""
    file = INSTALLED / warmup.WARMUP_FILE
    logs = map(
        prediction_log_pb2.PredictionLog.FromString,
        tf.data.TFRecordDataset(str(file)).as_numpy_iterator(),
    )
    return [
        (
            log.predict_log.request.model_spec.signature_name,
            {key: tf.make_ndarray(v) for key, v in log.predict_log.request.inputs.items()},
        )
        for log in logs
    ]


def test_warm_up_requests_that_ship_are_answered(requests, default_server):
    servable = default_server.servables.get("default")
    assert {signature for signature, _ in requests} == set(servable.signature_defs)
    for signature, inputs in requests:
        assert servable.run(signature, inputs)["status"].tolist() == [b""], signature


def test_warm_up_requests_are_of_the_sizes_and_in_a_small_file(requests):
    files = [inputs["image_bytes"][0] for name, inputs in requests if name == "encode"]
    shapes = [tf.io.decode_png(file).shape[:2] for file in files]
    assert shapes == list(warmup.SIZES)
    assert (INSTALLED / warmup.WARMUP_FILE).stat().st_size < 500_000


def test_without_the_serving_api_there_are_no_requests(codec, tmp_path, monkeypatch):
    monkeypatch.setattr(warmup, "has_serving_api", lambda: False)
    warmup.write(codec, "mine", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_scenes_are_pictures_in_small_files():
    image = warmup._scene(192, 256)
    assert (image.shape, image.dtype) == ((192, 256, 3), np.uint8)
    assert image.std() > 40
    assert len(tf.io.encode_png(image).numpy()) < 100_000
