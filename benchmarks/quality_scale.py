"""Which qualities and pictures each model serves: `--ranges` and `--handovers` of export.

    python benchmarks/quality_scale.py --models=runs/half,runs/full DATA/train/*

The models, the largest scale first, code what training held out, and further photographs, along
the JPEG's quality. From several first guesses, numbers of the scale are then moved at random, as
long as that raises PSNR over 0.05 to 1 bpp (half that of the curve of means, half what each
photograph gets for a given number of bytes, which gaps in its own bytes lower), or brings the scale
nearer to one in which bytes and PSNR rise by a margin wherever a photograph changes from one model
to the next, and mean bytes by like shares from each quality to the next. With
`--metric=ssimulacra2` its points take PSNR's place, 7.7 for a decibel.
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
flags.DEFINE_integer("more", 84, "photographs beside those held out")
flags.DEFINE_integer("moves", 10000, "that are tried from each start")
flags.DEFINE_integer("starts", 6, "first guesses")
flags.DEFINE_float("bytes_margin", 0.08, "share that bytes must rise by where models change")
flags.DEFINE_float("psnr_margin", 0.1, "dB that PSNR must rise by where models change")
flags.DEFINE_enum("metric", "psnr", ["psnr", "ssimulacra2"], "that is to be high")
flags.DEFINE_string("curves", None, "file to keep what was measured in, for another search")
# From .25 to 1 bit a pixel PSNR grows by 6.6 dB and SSIMULACRA2 by 51 points: `default`, Kodak.
DECIBEL = {"psnr": 1.0, "ssimulacra2": 7.7}
# Shares by which mean bytes may rise from one quality to the next.
LEAST, MOST = 0.03, 0.08
MEASURED = (3, 5, 8, 11, 15, 20, 27, 36, 47, 58, 69, 80, 89, 95, 98)
LOW, HIGH = 0.05, 1.0
# Decibels that a scale loses for each decibel, or each tenth of the bytes, that a margin lacks.
PENALTY = 20.0
# The same for each tenth that steps of the mean bytes are too small or too large.
UNEVENNESS = 0.3


def measure(codecs, images):
    """log bpp and PSNR in dB, `[photographs, models, 2, 100]`, by the JPEG's quality."""
    from cnn_compression.models.multi_scale import table_factor
    from cnn_compression.training.evaluation import MEASURES, code

    measure = MEASURES[FLAGS.metric]
    curves = np.zeros((len(images), len(codecs), 2, 100))
    every, measured = (-np.log(table_factor(np.array(q))) for q in (range(1, 101), MEASURED))
    for row, image in enumerate(images):
        for number, codec in enumerate(codecs):
            coded = [code(codec, image, quality) for quality in MEASURED]
            worth = [float(measure(image, one.image_hat)) / DECIBEL[FLAGS.metric] for one in coded]
            for kind, values in enumerate(([np.log(one.bpp) for one in coded], worth)):
                curves[row, number, kind] = np.interp(every, measured, values)
        print(f"{row + 1} of {len(images)}", end="\r", file=sys.stderr)
    return curves


def along(curves, texture, ranges, handovers):
    """log bpp and PSNR `[photographs, 2, 100]` by the codec's quality, and the model in use."""
    from cnn_compression.models.multi_scale import quality_tables

    jpeg_quality, limits = quality_tables(ranges, handovers)
    model = (texture[:, :, None] >= limits).sum(axis=1)
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


def fitted(values):
    """Mean PSNR over log bpp of the highest quality that fits, mean over the photographs."""
    # A quality with more bytes than a higher one fits nowhere: that one does, and earlier.
    edges = np.minimum.accumulate(values[:, 0, ::-1], axis=1)[:, ::-1]
    edges = np.clip(edges, np.log(LOW), np.log(HIGH))
    widths = np.diff(edges, axis=1, append=np.log(HIGH))
    return float(((widths * values[:, 1]).sum(axis=1) / widths.sum(axis=1)).mean())


def score(curves, texture, scale):
    """What is to be raised, in dB."""
    try:
        values, model = along(curves, texture, *scale)
    except ValueError:  # the move has left what a scale can be
        return -np.inf
    worth = (height(values) + fitted(values)) / 2
    return worth - PENALTY * lacking(values, model) - UNEVENNESS * uneven(values)


def first_guess(texture, low, high, random):
    """About equal shares of the qualities, overlapping; most photographs change in there."""
    models = texture.shape[1] + 1
    ends = np.linspace(0, 100, models + 1).astype(int)
    ranges = []
    for start, end in itertools.pairwise(ends):
        earlier, later = (int(shift) for shift in random.integers(5, 15, 2))
        first, last = max(1, int(start) - earlier), min(100, int(end) + later)
        jpegs_own = (int(random.integers(*bounds)) for bounds in ((6, 16), (50, 90)))
        ranges.append([first, last, *jpegs_own])
    ranges[0][2], ranges[-1][3] = low, high
    limits = np.quantile(texture, [random.uniform(0.8, 1), random.uniform(0, 0.2)], axis=0)
    return ranges, [[float(f"{value:.3g}") for value in row] for row in limits.T]


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


def climb(curves, texture, scale, random):
    """Random moves, each kept where it is no worse: the score, and the scale."""
    best = score(curves, texture, scale)
    for _ in range(FLAGS.moves):
        candidate = moved(scale, random)
        value = score(curves, texture, candidate)
        if value >= best:
            best, scale = value, candidate
    return best, scale


def photographs(folders):
    """uint8 images: what training holds out, and others from all over the training set."""
    from cnn_compression.training.data import ImageReader, list_images, split_held_out
    from cnn_compression.training.evaluation import HeldOutEvaluation

    train, held_out = split_held_out(list_images(folders), FLAGS.held_out)
    spread = np.linspace(0, len(train) - 1, FLAGS.more).astype(int)
    files = [*held_out, *(train[number] for number in spread)]
    return HeldOutEvaluation(ImageReader(files), channels=3).images


def report(values, model):
    """Prints what a scale is worth."""
    gaps = np.expm1(np.diff(values[:, 0], axis=1)[np.diff(model, axis=1) > 0])
    print(f"{height(values):.3f} dB on the curve of means, {fitted(values):.3f} dB by what fits")
    if gaps.size:
        gap, largest = np.median(gaps), gaps.max()
        print(f"bytes rise by {gap:.0%} (median; at most {largest:.0%}) between models")
    print(f"margins lack {lacking(values, model):.3f}")
    print(f"steps of mean bytes are {uneven(values):.3f} tenths outside of their limits")


def main(arguments):
    from cnn_compression.codec import Codec
    from cnn_compression.codec.model_files import load_model
    from cnn_compression.tensors.levels import to_unit
    from cnn_compression.tensors.texture import fine_texture, texture_squares

    images = photographs(arguments[1:])
    models = [load_model(model) for model in FLAGS.models]
    squares = [texture_squares(to_unit(image[None])) for image in images]
    texture = np.array(
        [[255 * float(fine_texture(x, m.scale)[0]) for m in models[:-1]] for x in squares]
    )
    if FLAGS.curves and Path(FLAGS.curves).is_file():
        curves = np.load(FLAGS.curves)
        if curves.shape[:2] != (len(images), len(models)):
            raise ValueError(f"{FLAGS.curves} is of other models or photographs: {curves.shape}")
    else:
        curves = measure([Codec(model) for model in models], images)
        if FLAGS.curves:
            np.save(FLAGS.curves, curves)
    random, (low, high) = np.random.default_rng(1), map(int, FLAGS.ends)
    starts = [first_guess(texture, low, high, random) for _ in range(FLAGS.starts)]
    _, (ranges, handovers) = max(climb(curves, texture, start, random) for start in starts)
    report(*along(curves, texture, ranges, handovers))
    items = [f"{first}-{last}:{low}-{high}" for first, last, low, high in ranges]
    limits = [f"{first:g}-{last:g}" for first, last in handovers]
    print(f"--ranges={','.join(items)} --handovers={','.join(limits)}")


if __name__ == "__main__":
    app.run(main)
