"""Which qualities and pictures each of two models serves: `--ranges` and `--handovers` of export.

    python benchmarks/quality_scale.py runs/half runs/full DATA/train/*

Both models code what training held out, and further photographs, along the JPEG's quality. Then all
scales are tried in which bytes and PSNR rise with quality on each photograph, with a margin; the
one is taken whose curve of means lies highest over 0.05 to 2 bpp.
"""

import itertools
import sys

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("first", "4,97", "lowest JPEG quality of the first model, highest of the second")
flags.DEFINE_integer("held_out", 16, "as in training")
flags.DEFINE_integer("more", 32, "photographs beside those held out")
flags.DEFINE_float("bytes_margin", 0.02, "share that bytes must rise by where models change")
flags.DEFINE_float("psnr_margin", 0.0, "dB that PSNR must rise by where models change")
MEASURED = (3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 24, 28, 33, 39, 46, 54, 63, 72, 82, 90, 95, 98)
LOW, HIGH = 0.05, 2.0


def measure(models, images):
    """log bpp and PSNR in dB, `[photographs, models, 2, 100]`, by the JPEG's quality."""
    from cnn_compression.codec import Codec
    from cnn_compression.evaluation import code
    from cnn_compression.model_files import load_model

    codecs = [Codec(load_model(model)) for model in models]
    curves = np.zeros((len(images), 2, 2, 100))
    for row, image in enumerate(images):
        for number, codec in enumerate(codecs):
            coded = [code(codec, image, quality) for quality in MEASURED]
            for kind, values in enumerate(
                ([np.log(one.bpp) for one in coded], [one.psnr for one in coded])
            ):
                curves[row, number, kind] = np.interp(range(1, 101), MEASURED, values)
        print(f"{row + 1} of {len(images)}", end="\r", file=sys.stderr)
    return curves


def along(curves, detail, ranges, handovers):
    """log bpp and PSNR `[photographs, 2, 100]` by the codec's quality, and the model in use."""
    from cnn_compression.models.multi_scale import quality_tables

    jpeg_quality, limits = quality_tables(ranges, handovers)
    model = (detail[:, None] >= limits[0]).astype(int)
    quality = jpeg_quality[model, np.arange(100)]
    photo = np.arange(len(curves))[:, None]
    return np.stack([curves[photo, model, kind, quality - 1] for kind in (0, 1)], axis=1), model


def rises(values, model):
    """Whether bytes and PSNR rise with a margin where the model changes, on every photograph."""
    changes = np.diff(model, axis=1) > 0
    more = np.diff(values, axis=2)
    return (more[:, 0][changes] >= np.log1p(FLAGS.bytes_margin)).all() and (
        more[:, 1][changes] >= FLAGS.psnr_margin
    ).all()


def height(values):
    """Mean PSNR over log bpp of the curve of means."""
    rates = np.geomspace(LOW, HIGH, 400)
    x, y = np.log(np.exp(values[:, 0]).mean(axis=0)), values[:, 1].mean(axis=0)
    return np.interp(np.log(rates), x, y).mean()


def candidates(low, high):
    for last, overlap in itertools.product(range(34, 67, 4), range(8, 29, 4)):
        for half_high, full_low in itertools.product((32, 40, 48, 56, 64), (7, 8, 9, 10, 12)):
            ranges = [[1, last, low, half_high], [last - overlap + 1, 100, full_low, high]]
            for first_limit, fall in itertools.product(
                (100, 150, 200, 270, 360, 480), (2, 4, 8, 16)
            ):
                yield ranges, [[first_limit, first_limit / fall]]


def main(arguments):
    from cnn_compression.data import ImageReader, list_images, split_held_out
    from cnn_compression.evaluation import HeldOutEvaluation
    from cnn_compression.ops import block_variance, to_unit

    models, folders = arguments[1:3], arguments[3:]
    train, held_out = split_held_out(list_images(folders), FLAGS.held_out)
    files = [*held_out, *train[:: len(train) // FLAGS.more][: FLAGS.more]]
    images = HeldOutEvaluation(ImageReader(files), channels=3).images
    detail = np.array([float(block_variance(to_unit(i[None]), 2)[0]) * 255**2 for i in images])
    curves = measure(models, images)
    best = None
    for ranges, handovers in candidates(*map(int, FLAGS.first)):
        values, model = along(curves, detail, ranges, handovers)
        if not rises(values, model):
            continue
        score = height(values)
        if best is None or score > best[0]:
            best = score, ranges, handovers
            items = [f"{first}-{last}:{low}-{high}" for first, last, low, high in ranges]
            limits = "-".join(f"{limit:g}" for limit in handovers[0])
            print(f"{score:.3f} dB: --ranges={','.join(items)} --handovers={limits}", flush=True)
    if best is None:
        print("none rises on every photograph")


if __name__ == "__main__":
    app.run(main)
