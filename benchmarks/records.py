"""A dataset kept as payloads beside one of PNG and of JPEG: bytes, and images a second.

    python benchmarks/records.py [--model=default] [--count=64] [--quality=50] [--size=256]

TFRecord files of square crops of scikit-image's photographs, read by the same `tf.data` pipeline:
decode, batch, prefetch. The JPEG is libjpeg's at the quality whose PSNR comes nearest to the
payloads'.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags

from cnn_compression import load
from cnn_compression.tensors import metrics
from cnn_compression.training.data import from_payload_records, to_payload_records

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "default", "a name in saved_models, or a folder")
flags.DEFINE_integer("count", 64, "images")
flags.DEFINE_integer("quality", 50, "of the payloads")
flags.DEFINE_integer("size", 256, "pixels of a side")


def photographs():
    """uint8 `[size, size, 3]`."""
    from skimage import data

    scenes = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    random = np.random.default_rng(1)
    for number in range(FLAGS.count):
        scene = scenes[number % len(scenes)]
        top, left = (random.integers(side - FLAGS.size + 1) for side in scene.shape[:2])
        yield scene[top : top + FLAGS.size, left : left + FLAGS.size]


def write(path, files):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for file in files:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file.numpy()]))
            features = tf.train.Features(feature={"image/encoded": feature})
            writer.write(tf.train.Example(features=features).SerializeToString())


def from_records(path, decode):
    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}

    def restore(record):
        image = decode(tf.io.parse_single_example(record, features)["image/encoded"], channels=3)
        return {"image": tf.ensure_shape(image, [FLAGS.size, FLAGS.size, 3])}

    return tf.data.TFRecordDataset(str(path)).map(restore, tf.data.AUTOTUNE)


def rate(dataset, seconds=5.0):
    """Images a second, after the first pass."""
    batches = dataset.batch(8).prefetch(tf.data.AUTOTUNE)
    for _ in batches:
        pass
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for batch in batches:
            count += batch["image"].shape[0]
    return count / (time.perf_counter() - start)


def mean_psnr(images, dataset):
    restored = (item["image"] for item in dataset)
    return float(np.mean([metrics.psnr(a, b) for a, b in zip(images, restored, strict=True)]))


def main(_):
    codec, images = load(FLAGS.model), list(photographs())
    with tempfile.TemporaryDirectory() as folder:
        png, payloads = Path(folder, "png"), Path(folder, "payloads")
        write(png, [tf.io.encode_png(image) for image in images])
        to_payload_records([png], payloads, codec, FLAGS.quality)
        datasets = {
            "PNG": (png, from_records(png, tf.io.decode_png)),
            "payloads": (payloads, from_payload_records([payloads], codec)),
        }
        goal = mean_psnr(images, datasets["payloads"][1])
        best = float("inf")
        for quality in range(2, 100, 2):
            path = Path(folder, f"jpeg{quality}")
            write(path, [tf.io.encode_jpeg(x, quality=quality) for x in images])
            dataset = from_records(path, tf.io.decode_jpeg)
            if abs(mean_psnr(images, dataset) - goal) < best:
                best = abs(mean_psnr(images, dataset) - goal)
                datasets["JPEG"] = path, dataset
        print("| | bytes an image | PSNR, dB | images/s |\n|---|---|---|---|")
        for name, (path, dataset) in datasets.items():
            size, value = path.stat().st_size / len(images), mean_psnr(images, dataset)
            print(f"| {name} | {size:.0f} | {value:.2f} | {rate(dataset):.0f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
