"""Another codec between the two networks than JPEG: is it worth more than that codec alone?

    python benchmarks/middle_codecs.py --output=runs/middle [--codecs=webp,jp2,avif,heic] \
        --train=DATA/train DATA/kodak

The half-size pair of `default` is trained on for each codec: both networks through JPEG's twin,
which stands in for what has no gradient, then RecCNN on what the real codec gives. The quality that
the networks are told is the codec's own. Photographs are then coded by real bytes, those of the
header counted; PSNR at fixed rates is printed as a Markdown table beside the codec alone, as the
curve of means over the images. What was measured is kept in the output folder, and gone on from.
"""

import functools
import logging
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf
from absl import app, flags

from cnn_compression import images
from cnn_compression.benchmark.codecs import Jpeg
from cnn_compression.benchmark.curves import at_bpp, curves
from cnn_compression.benchmark.registry import CODECS
from cnn_compression.benchmark.report import table
from cnn_compression.benchmark.rows import cell
from cnn_compression.benchmark.run import collect
from cnn_compression.benchmark.store import Store
from cnn_compression.codec.pair import PairCodec
from cnn_compression.payload import layout
from cnn_compression.tensors.levels import to_uint8, to_unit
from cnn_compression.training.config import TrainConfig
from cnn_compression.training.data import list_images
from cnn_compression.training.loop import train

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "folder of the runs and of what was measured", required=True)
flags.DEFINE_list("codecs", "webp,jp2,avif,heic", "to put between the networks")
flags.DEFINE_list("train", None, "folders of photographs to train on", required=True)
flags.DEFINE_list("qualities", "4,8,14,20,28,38,50,65,80", "of the codec in the middle")
flags.DEFINE_list("rates", "0.05,0.075,0.1,0.15,0.2,0.25,0.35,0.5", "bits a pixel")
flags.DEFINE_integer("steps", 600, "of training for each codec")
flags.DEFINE_integer("finish_steps", 400, "of these, by RecCNN alone on the real codec")

# Of another kind of file: what holds our header, be it a chunk of RIFF or a box of ISOBMFF.
FRAME_SIZE = 8


def round_trip(middle, compact, quality, grey, chroma="4:2:0"):
    """A codec as `RestoreObjective` wants it: float `[N, h, w, C]` in and out."""

    def through(levels, qualities):
        coded = [
            middle.decode(middle.encode(one, int(q)))
            for one, q in zip(levels, qualities, strict=True)
        ]
        return np.stack(coded)

    compact_hat = tf.numpy_function(through, [to_uint8(compact), quality], tf.uint8)
    return to_unit(tf.ensure_shape(compact_hat, compact.shape))


class Around:
    """A pair of networks around a codec, as the benchmark measures it.

    Args:
        pair: `ComRec`.
        middle: `cnn_compression.benchmark.codecs.Codec`.
        qualities: of the codec.
    """

    def __init__(self, pair, middle, qualities):
        self.pair, self.middle, self.qualities = PairCodec(pair), middle, qualities
        self.name, self.library = f"ComRec around {middle.name}", middle.library
        weights = np.concatenate([np.ravel(weight) for weight in pair.get_weights()])
        self.settings = f"{middle.settings}, weights of mean {np.abs(weights).mean():.8f}"

    def encode(self, image, quality):
        self.size, self.quality = image.shape[:2], quality
        compact = self.pair._compacted(tf.constant(image), tf.constant(quality), 0)
        return self.middle.encode(compact.numpy(), quality) + bytes(
            layout.SEGMENT_SIZE + FRAME_SIZE
        )

    def decode(self, payload):
        compact_hat = self.middle.decode(payload[: -layout.SEGMENT_SIZE - FRAME_SIZE])
        quality = tf.constant(self.quality)
        return self.pair.restore(tf.constant(compact_hat), quality, *self.size).numpy()


def trained(name, middle):
    """The half-size pair of `default`, trained on for a codec: `ComRec`."""
    config = TrainConfig(
        data=tuple(FLAGS.train),
        output=str(Path(FLAGS.output, name)),
        init="default",
        scale=2,
        steps=FLAGS.steps,
        finish_steps=FLAGS.finish_steps,
        optimizer="muon",
        learning_rate=7e-4,
        loss_power=0.8,
        warmup_steps=50,
        ema_decay=0.99,
        rate_weight=16.0,
        min_quality=4,
        max_quality=80,
        preview_psnr=22.0,
        grey_fraction=0.0,
        batch_size=8,
        crop_size=128,
        eval_steps=10**6,
        log_steps=50,
        strategy="one_device",
    )
    real = functools.partial(round_trip, middle)
    with mock.patch("cnn_compression.training.recipes.com_rec.real_codec", real):
        return train(config)


def main(arguments):
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cnn_compression").setLevel(logging.INFO)
    qualities = tuple(int(quality) for quality in FLAGS.qualities)
    plain = {name: CODECS[name]() for name in FLAGS.codecs}
    codecs = [Jpeg()]
    for name, middle in plain.items():
        codecs += [middle, Around(trained(name, middle), middle, qualities)]
    rows, store = [], Store(Path(FLAGS.output, "rows.jsonl"))
    for file in list_images(arguments[1:]):
        rows += collect(codecs, file.name, images.read(file)[0], [1], store)
    found, rates = curves(rows), [float(rate) for rate in FLAGS.rates]
    body = [
        [name, *(cell(at_bpp(curve, rate), 2) for rate in rates)] for name, curve in found.items()
    ]
    print("\n".join(table(["PSNR, dB, at bpp", *FLAGS.rates], body)))


if __name__ == "__main__":
    app.run(main)
