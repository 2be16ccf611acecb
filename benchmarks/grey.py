"""Grey pictures at the bytes of JPEG's quality 10, as papers on JPEG's artefacts compare.

    python benchmarks/grey.py [--model=default] [--quality=10] [--share=1] DATA/set5 ...

Of colour pictures luma is taken. The limit of an image is the size of its plain JPEG, without
optimised tables, at that quality, or a share of it; `Codec.encode_to` keeps it, and JPEG with its
tables optimised, the stronger rival, takes its highest quality within it. PSNR in dB, and SSIM, are
means over the images.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags

from cnn_compression import images, load
from cnn_compression.jpeg import coding
from cnn_compression.tensors import metrics
from cnn_compression.training.data import as_channels, list_images

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "default", "a name in saved_models, or a folder")
flags.DEFINE_integer("quality", 10, "of the JPEG whose bytes are the limit")
flags.DEFINE_float("share", 1.0, "of these bytes that are allowed")
DIGITS = (3, 3, 2, 4, 3, 2, 4)  # of a row's figures


def best_jpeg(image, limit):
    """The JPEG of the highest quality with no more bytes."""
    for quality in range(100, 0, -1):
        file = coding.encode(image, quality)
        if len(file.numpy()) <= limit:
            return file
    raise ValueError(f"expected a JPEG of {limit} bytes at most. Received: {len(file.numpy())}")


def main(arguments):
    codec = load(FLAGS.model)
    print("| set | limit, bpp | JPEG: bpp | PSNR | SSIM | model: bpp | PSNR | SSIM | least gain |")
    print("|---" * 9 + "|")
    for folder in map(Path, arguments[1:]):
        rows = []
        for file in list_images([folder]):
            image = as_channels(tf.constant(images.read(file)[0]), 1)
            plain = tf.io.encode_jpeg(image, quality=FLAGS.quality)
            limit = int(FLAGS.share * len(plain.numpy()))
            payload = codec.encode_to(image, target_bytes=limit)
            row = [limit]
            rival = best_jpeg(image, limit)
            for data, image_hat in (
                (rival, coding.decode(rival)),
                (payload, codec.decode(payload)),
            ):
                row += [
                    len(data.numpy()),
                    float(metrics.psnr(image, image_hat)),
                    float(metrics.ssim(image, image_hat)),
                ]
            row = np.array(row)
            row[[0, 1, 4]] *= 8 / (image.shape[0] * image.shape[1])
            rows.append((row[5] - row[2], file.stem, row))
        gain, name, _ = min(rows, key=lambda row: row[0])
        means = np.mean([row for _, _, row in rows], axis=0)
        cells = [f"{mean:.{digits}f}" for mean, digits in zip(means, DIGITS, strict=True)]
        print(f"| {folder.name} | {' | '.join(cells)} | {gain:+.2f}, {name} |", flush=True)


if __name__ == "__main__":
    app.run(main)
