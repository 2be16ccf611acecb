"""Which qualities each of two models serves: the `--ranges` of `cnn-compression export`.

    python benchmarks/quality_scale.py runs/half runs/full DATA/train/*

Both models code what training held out along the JPEG's quality. At each place where the half-size
model could hand over to the full-size one, the next quality must take more bytes and give at least
the same PSNR (but for 0.05 dB) on every single photograph; of those places the one is taken that
loses least against the better of the two models, over 0.05 to 2 bpp.
"""

import sys

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("first", "5,98", "lowest JPEG quality of the first model, highest of the second")
flags.DEFINE_integer("step", 3, "of the JPEG's quality")
flags.DEFINE_integer("held_out", 16, "as in training")
TOLERANCE = 0.05
LOW, HIGH = 0.05, 2.0


def curve(codec, images, qualities):
    """bpp and PSNR in dB, float `[images, qualities]`."""
    from cnn_compression.metrics import bpp, psnr

    values = np.zeros((2, len(images), len(qualities)))
    for row, image in enumerate(images):
        for column, quality in enumerate(qualities):
            payload = codec.encode(image, quality)
            values[0, row, column] = bpp(len(payload), *image.shape[:2])
            values[1, row, column] = float(psnr(image, codec.decode(payload)))
        print(f"{row + 1} of {len(images)}", end="\r", file=sys.stderr)
    return values


def handover(half, full, position):
    """First place on the full-size curve that follows a place on the other, or None."""
    more_bytes = (full[0] >= half[0, :, position, None]).all(axis=0)
    better = (full[1] >= half[1, :, position, None] - TOLERANCE).all(axis=0)
    fitting = np.flatnonzero(more_bytes & better)
    return int(fitting[0]) if len(fitting) else None


def area(points):
    """Mean PSNR over log bpp of a curve of (bpp, PSNR), nothing gained between its points."""
    rates = np.geomspace(LOW, HIGH, 400)
    x, y = np.array(sorted(map(tuple, points))).T
    return np.interp(np.log(rates), np.log(x), y).mean()


def main(arguments):
    from cnn_compression.codec import Codec
    from cnn_compression.data import ImageReader, list_images, split_held_out
    from cnn_compression.evaluation import HeldOutEvaluation
    from cnn_compression.model_files import load_model

    _, first, second, *folders = arguments
    low, high = map(int, FLAGS.first)
    qualities = np.arange(low, high + 1, FLAGS.step)
    _, held_out = split_held_out(list_images(folders), FLAGS.held_out)
    images = HeldOutEvaluation(ImageReader(held_out), channels=3).images
    curves = [curve(Codec(load_model(m)), images, qualities.tolist()) for m in (first, second)]
    half, full = (np.array(c) for c in curves)
    means = [c.mean(axis=1).T for c in curves]
    print(
        "| last of half | bpp | PSNR | first of full | bpp | PSNR | area, dB |\n" + "|---" * 7 + "|"
    )
    best = None
    for position, quality in enumerate(qualities):
        follows = handover(half, full, position)
        if follows is None:
            continue
        joined = [*means[0][: position + 1], *means[1][follows:]]
        score = area(joined)
        numbers = [quality, *means[0][position], qualities[follows], *means[1][follows], score]
        print("| " + " | ".join(f"{value:.4g}" for value in numbers) + " |")
        if best is None or score > best[0]:
            best = score, position, follows
    _, position, follows = best
    # As many qualities for each model as its share of the logarithm of the bytes.
    spans = [
        np.log(means[0][position, 0] / means[0][0, 0]),
        np.log(means[1][-1, 0] / means[1][follows, 0]),
    ]
    last = round(100 * spans[0] / sum(spans))
    print(
        f"--ranges=1-{last}:{qualities[0]}-{qualities[position]},"
        f"{last + 1}-100:{qualities[follows]}-{qualities[-1]}"
    )


if __name__ == "__main__":
    app.run(main)
