"""What a setting of training is worth: trials of one budget, scored on held-out photographs.

    python benchmarks/trials.py --output=runs/trials --base="scale=1;steps=1200;batch_size=8" \
        --trial=adam: --trial=muon:optimizer=muon DATA/train/*

Each trial trains in its own folder with the settings of `--base` and its own (fields of
`TrainConfig`), and goes on where it was stopped. The held-out photographs of training are then
coded by real bytes at several qualities, and PSNR at fixed rates is printed as a Markdown table.
"""

import logging
import sys
from pathlib import Path
from typing import get_type_hints

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "folder of the runs", required=True)
flags.DEFINE_string("base", "", "settings of all trials, FIELD=VALUE;...")
flags.DEFINE_multi_string("trial", [], "NAME:FIELD=VALUE;...")
flags.DEFINE_list("qualities", "8,15,25,40,55,70,85,95", "of the JPEG, to code at")
flags.DEFINE_list("rates", "0.1,0.15,0.25,0.38,0.5,0.75,1,1.5", "bits a pixel, to interpolate at")


def settings(text):
    from cnn_compression.config import TrainConfig

    types = get_type_hints(TrainConfig)
    pairs = [item.split("=", 1) for item in text.split(";") if item]
    return {name: types[name](value) for name, value in pairs}


def score(model, config, qualities, rates):
    """Mean PSNR in dB at each rate, linear in log bpp between qualities; NaN outside of them."""
    from cnn_compression.codec import Codec
    from cnn_compression.data import ImageReader, list_images, split_held_out
    from cnn_compression.evaluation import HeldOutEvaluation, code

    _, held_out = split_held_out(list_images(config.data), config.held_out)
    images = HeldOutEvaluation(ImageReader(held_out), config.channels).images
    codec = Codec(model)
    points = []
    for quality in qualities:
        coded = [code(codec, image, quality) for image in images]
        points.append(np.mean([[one.bpp, one.psnr] for one in coded], axis=0))
    x, y = np.array(points).T
    return np.interp(np.log(rates), np.log(x), y, left=np.nan, right=np.nan)


def main(arguments):
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cnn_compression").setLevel(logging.INFO)
    from cnn_compression.config import TrainConfig
    from cnn_compression.training import train

    qualities, rates = [int(q) for q in FLAGS.qualities], [float(r) for r in FLAGS.rates]
    print(f"| PSNR, dB, at bpp | {' | '.join(FLAGS.rates)} |\n{'|---' * (len(rates) + 1)}|")
    for trial in FLAGS.trial:
        name, _, own = trial.partition(":")
        config = TrainConfig(
            data=tuple(arguments[1:]),
            output=str(Path(FLAGS.output, name)),
            **{"eval_steps": 10**6} | settings(FLAGS.base) | settings(own),
        )
        values = score(train(config), config, qualities, rates)
        cells = ["–" if np.isnan(value) else f"{value:.2f}" for value in values]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
