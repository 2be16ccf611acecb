"""Which qualities and pictures each model serves: `--ranges` and `--handovers` of export.

    python benchmarks/quality_scale.py --models=runs/half,runs/full DATA/train/*

The models, the largest scale first, code what training held out, and further photographs, along
the JPEG's quality. From a first guess, numbers of the scale are then moved at random, as long as
that raises the curve of means over 0.05 to 1 bpp, or brings the scale nearer to one in which bytes
and PSNR rise by a margin wherever a photograph changes from one model to the next, and mean bytes
by like shares from each quality to the next.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("models", None, "as for export", required=True)
flags.DEFINE_list("ends", "4,97", "lowest JPEG quality of the first model, highest of the last")
flags.DEFINE_integer("held_out", 16, "as in training")
flags.DEFINE_integer("more", 32, "photographs beside those held out")
flags.DEFINE_integer("moves", 30000, "that are tried")
flags.DEFINE_float("bytes_margin", 0.08, "share that bytes must rise by where models change")
flags.DEFINE_float("psnr_margin", 0.1, "dB that PSNR must rise by where models change")
flags.DEFINE_string("curves", None, "file to keep what was measured in, for another search")
# Shares by which mean bytes may rise from one quality to the next.
LEAST, MOST = 0.03, 0.08
MEASURED = (2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 24, 28, 33, 39, 46, 54, 63, 72, 82, 90, 95, 98)
LOW, HIGH = 0.05, 1.0
# Decibels that a scale loses for each decibel, or each tenth of the bytes, that a margin lacks.
PENALTY = 20.0
# The same for each tenth that steps of the mean bytes are too small or too large.
UNEVENNESS = 3.0


def measure(codecs, images):
    """log bpp and PSNR in dB, `[photographs, models, 2, 100]`, by the JPEG's quality."""
    from cnn_compression.evaluation import code

    curves = np.zeros((len(images), len(codecs), 2, 100))
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
    model = (detail[:, :, None] >= limits).sum(axis=1)
    quality = jpeg_quality[model, np.arange(100)]
    photo = np.arange(len(curves))[:, None]
    return np.stack([curves[photo, model, kind, quality - 1] for kind in (0, 1)], axis=1), model


def lacking(values, model):
    """What bytes (in tenths) and PSNR (in dB) lack to their margins at changes of the model."""
    changes = np.diff(model, axis=1) > 0
    more = np.diff(values, axis=2)
    bytes_lack = np.log1p(FLAGS.bytes_margin) - more[:, 0][changes]
    psnr_lack = FLAGS.psnr_margin - more[:, 1][changes]
    return float(np.maximum(10 * bytes_lack, 0).sum() + np.maximum(psnr_lack, 0).sum())


def uneven(values):
    """What steps of mean bytes lack to the least or have above the most, in tenths."""
    steps = np.diff(np.log(np.exp(values[:, 0]).mean(axis=0)))
    excess = np.maximum(np.log1p(LEAST) - steps, 0) + np.maximum(steps - np.log1p(MOST), 0)
    return float(10 * excess.sum())


def height(values):
    """Mean PSNR over log bpp of the curve of means."""
    rates = np.geomspace(LOW, HIGH, 400)
    x, y = np.log(np.exp(values[:, 0]).mean(axis=0)), values[:, 1].mean(axis=0)
    return float(np.interp(np.log(rates), x, y).mean())


def score(curves, detail, scale):
    """What is to be raised, in dB."""
    try:
        values, model = along(curves, detail, *scale)
    except ValueError:  # the move has left what a scale can be
        return -np.inf
    return height(values) - PENALTY * lacking(values, model) - UNEVENNESS * uneven(values)


def first_guess(models, low, high):
    """Equal shares of the qualities, each overlapping the next by a tenth of them all."""
    ends = np.linspace(0, 100, models + 1).astype(int)
    ranges = [
        [max(1, int(start) - 9), int(end), low if number == 0 else 10, 50]
        for number, (start, end) in enumerate(itertools.pairwise(ends))
    ]
    ranges[-1][3] = high
    return ranges, [[300.0, 50.0] for _ in range(models - 1)]


def moved(scale, random):
    """A scale that differs in one to three numbers, or where two models meet; its ends stay."""
    ranges, handovers = ([list(row) for row in part] for part in scale)
    if handovers and random.random() < 0.5:
        row, step = random.integers(len(handovers)), int(random.choice([-5, -2, -1, 1, 2, 5]))
        ranges[row][1] += step
        ranges[row + 1][0] += step
    ends = {(0, 0), (0, 2), (len(ranges) - 1, 1), (len(ranges) - 1, 3)}
    inner = [place for place in np.ndindex(len(ranges), 4) if place not in ends]
    for _ in range(random.integers(1, 4)):
        place = random.integers(len(inner) + 2 * len(handovers))
        if place < len(inner):
            row, column = inner[place]
            ranges[row][column] += int(random.choice([-5, -2, -1, 1, 2, 5]))
        else:
            row, column = divmod(place - len(inner), 2)
            factor = random.uniform(0.7, 1.4)
            handovers[row][column] = float(f"{handovers[row][column] * factor:.3g}")
    return ranges, handovers


def climb(curves, detail, scale):
    """Random moves, each kept where it is no worse."""
    random, best = np.random.default_rng(1), score(curves, detail, scale)
    for _ in range(FLAGS.moves):
        candidate = moved(scale, random)
        value = score(curves, detail, candidate)
        if value >= best:
            best, scale = value, candidate
    return scale


def main(arguments):
    from cnn_compression.codec import Codec
    from cnn_compression.data import ImageReader, list_images, split_held_out
    from cnn_compression.evaluation import HeldOutEvaluation
    from cnn_compression.model_files import load_model
    from cnn_compression.ops import block_variance, to_unit

    train, held_out = split_held_out(list_images(arguments[1:]), FLAGS.held_out)
    spread = np.linspace(0, len(train) - 1, FLAGS.more).astype(int)
    files = [*held_out, *(train[number] for number in spread)]
    images = HeldOutEvaluation(ImageReader(files), channels=3).images
    models = [load_model(model) for model in FLAGS.models]
    detail = np.array(
        [
            [255**2 * float(block_variance(to_unit(i[None]), m.scale)[0]) for m in models[:-1]]
            for i in images
        ]
    )
    if FLAGS.curves and Path(FLAGS.curves).is_file():
        curves = np.load(FLAGS.curves)
    else:
        curves = measure([Codec(model) for model in models], images)
        if FLAGS.curves:
            np.save(FLAGS.curves, curves)
    ranges, handovers = climb(curves, detail, first_guess(len(models), *map(int, FLAGS.ends)))
    values, model = along(curves, detail, ranges, handovers)
    print(f"{height(values):.3f} dB; margins lack {lacking(values, model):.3f}")
    print(f"steps of mean bytes are {uneven(values):.3f} tenths outside of their limits")
    items = [f"{first}-{last}:{low}-{high}" for first, last, low, high in ranges]
    limits = [f"{first:g}-{last:g}" for first, last in handovers]
    print(f"--ranges={','.join(items)} --handovers={','.join(limits)}")


if __name__ == "__main__":
    app.run(main)
