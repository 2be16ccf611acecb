"""Datasets that are kept as payloads: nothing but the images changes."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.training.data import from_payload_records, to_payload_records

LABEL = {"label": tf.io.FixedLenFeature([], tf.int64)}


def write(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for features in examples:
            writer.write(example(**features).SerializeToString())
    return path


def example(encoded, label):
    def bytes_of(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image/encoded": bytes_of(encoded),
        "image/format": bytes_of(b"png"),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


@pytest.fixture
def records(tmp_path, photos):
    """Two files with three photographs, colour and grey."""
    files = [tf.io.encode_png(photos[name]).numpy() for name in ("coffee", "camera", "rocket")]
    return [
        write(
            tmp_path / "a", [{"encoded": files[0], "label": 7}, {"encoded": files[1], "label": 8}]
        ),
        write(tmp_path / "b", [{"encoded": files[2], "label": 9}]),
    ]


def test_images_become_payloads_and_come_back(records, tmp_path, photos, codec):
    output = tmp_path / "payloads"
    assert to_payload_records(records, output, codec, quality=60) == 3
    dataset = from_payload_records([output], codec, LABEL)
    items = list(dataset.as_numpy_iterator())
    assert [int(item["label"]) for item in items] == [7, 8, 9]
    for item, name in zip(items, ("coffee", "camera", "rocket"), strict=True):
        restored = codec.decode(codec.encode(photos[name], 60))
        # Graphs are optimised as wholes: what is rounded may differ in its last bit before.
        np.testing.assert_allclose(item["image"].astype(int), restored, atol=1)
    stored = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(output))]
    assert [e.features.feature["image/format"].bytes_list.value[0] for e in stored] == [
        b"cnn.jpg"
    ] * 3
    sizes = [path.stat().st_size for path in (*records, output)]
    assert sizes[2] < sum(sizes[:2]) / 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "payloads"]


def test_payloads_are_not_taken_for_images(records, tmp_path, codec):
    """Their previews, a half or a quarter as large, would take the pictures' places."""
    to_payload_records(records, tmp_path / "payloads", codec)
    with pytest.raises(ValueError, match="payloads, example 0: is a payload already"):
        to_payload_records([tmp_path / "payloads"], tmp_path / "again", codec)
    assert not (tmp_path / "again").exists()


def test_what_cannot_be_coded_is_named(records, tmp_path):
    def encode(*_):
        raise tf.errors.InvalidArgumentError(None, None, "a JPEG of at most")

    with pytest.raises(ValueError, match="a, example 0: a JPEG of at most"):
        to_payload_records(records, tmp_path / "payloads", SimpleNamespace(encode=encode))


def test_it_is_a_pipeline_like_any_other(records, tmp_path, codec):
    output = tmp_path / "payloads"
    to_payload_records(records[1:], output, codec)
    dataset = from_payload_records([output], codec).repeat(3)
    batch = next(iter(dataset.map(lambda item: item["image"]).batch(3)))
    assert batch.shape == (3, 192, 256, 3) and batch.dtype == tf.uint8


@pytest.mark.parametrize(
    "encoded, reason", [(b"text", "example 1: "), (b"", "example 1: empty file")]
)
def test_a_bad_image_is_named_and_nothing_is_written(records, tmp_path, codec, encoded, reason):
    png = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy()
    bad = write(tmp_path / "bad", [{"encoded": png, "label": 0}, {"encoded": encoded, "label": 1}])
    output = tmp_path / "payloads"
    output.write_bytes(b"before")
    with pytest.raises(ValueError, match=f"bad, {reason}"):
        to_payload_records([*records, bad], output, codec)
    assert output.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "bad", "payloads"]


def test_examples_without_an_image_are_named(tmp_path, codec):
    with tf.io.TFRecordWriter(str(tmp_path / "empty")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(ValueError, match="expected one image under image/encoded"):
        to_payload_records([tmp_path / "empty"], tmp_path / "out", codec)


def test_records_that_are_no_examples_are_named(tmp_path, codec):
    with tf.io.TFRecordWriter(str(tmp_path / "text")) as writer:
        writer.write(b"no example")
    with pytest.raises(ValueError, match="text, example 0: "):
        to_payload_records([tmp_path / "text"], tmp_path / "out", codec)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.slow
def test_pixels_have_a_limit_both_ways(records, tmp_path, codec):
    output, pixels = tmp_path / "payloads", 192 * 256
    with pytest.raises(ValueError, match=f"at most {pixels - 1} are taken"):
        to_payload_records(records, output, codec, max_pixels=pixels - 1)
    to_payload_records(records, output, codec, max_pixels=pixels)
    assert len(list(from_payload_records([output], codec, max_pixels=pixels))) == 3
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {pixels - 1} are taken"):
        next(iter(from_payload_records([output], codec, max_pixels=pixels - 1)))
