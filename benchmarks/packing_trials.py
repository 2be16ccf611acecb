"""What each choice in packing's networks is worth: short trainings, scored on held-out photographs.

    python benchmarks/packing_trials.py --output=runs/packing_trials [--trial=NAME] DATA/train/*

Every trial trains one network with the package's own loop, on the same blocks in the same order,
and differs from the network that was chosen in what its name says. Printed as a Markdown table:
bytes that held-out payloads' luma, or chroma, takes by the network, over all bytes of the payload,
where each payload counts alike; and how much more that is than the chosen network's.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import cnn_compression
from cnn_compression.packing import network as network_module
from cnn_compression.packing.network import PredictorNetwork
from cnn_compression.training import packing
from cnn_compression.training.config import PackingConfig
from cnn_compression.training.data import list_images, split_held_out

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "folder of payloads and checkpoints", required=True)
flags.DEFINE_string("model", "default", "name in saved_models, or a folder")
flags.DEFINE_multi_string("trial", None, "which; all by default")
flags.DEFINE_integer("photographs", 120, "to train on, spread evenly over those there are")
flags.DEFINE_integer("held_out", 16, "to score on")
flags.DEFINE_integer("steps", 500, "of a trial")
flags.DEFINE_integer("batch_size", 512, "blocks of a step")

LUMA = ("left", "upper", "upper left", "upper right", "second left", "second upper")
CHROMA = (*LUMA[:4], "Cb", *["luma"] * 4)
SCALES = (4, 5, 6)  # of `predictor.KINDS`
SCORED = 40  # thousands of held-out blocks


class Masked(PredictorNetwork):
    """Sees zeros in place of some of the blocks around, and of some kinds."""

    blind_to, unknown = (), ()

    def call(self, around, kinds, steps, block):
        known = [number not in self.unknown for number in range(kinds.shape[1])]
        return super().call(self._seen(around), kinds * np.float32(known), steps, block)

    def start_predictions(self, around, steps, block):
        super().start_predictions(self._seen(around), steps, block)

    def _seen(self, around):
        names = LUMA if self.contexts == len(LUMA) else CHROMA
        return around * np.int16([name not in self.blind_to for name in names])[:, None]


def without(*blocks, kinds=()):
    """A class of `Masked`."""
    return type("Without", (Masked,), {"blind_to": blocks, "unknown": kinds})


class WithoutPredictions(PredictorNetwork):
    """Its linear predictions are 0."""

    def _predict(self, around, steps, block):
        return 0 * super()._predict(around, steps, block)


class WithoutSteps(PredictorNetwork):
    """Its trunk is not told the quantisation steps."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps.assign(tf.zeros_like(self.steps))
        self.steps.trainable = False


class WithoutLast(PredictorNetwork):
    """Codes a zero flag of each coefficient and no `last`; see `flags_to_the_end`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.of_last.trainable = False  # zeros

    def _bits_of_last(self, trunk, last):
        return 0 * super()._bits_of_last(trunk, last)


def flags_to_the_end(bits_of_levels=network_module._bits_of_levels):
    beyond = 64  # so that all are coded, and none is known not to be zero
    return lambda logits, levels, last: bits_of_levels(
        logits, levels, tf.fill(tf.shape(last), beyond)
    )


class FourSides(packing.Blocks):
    """Blocks with those to the left, above, to the right and below around them."""

    def _around(self, of, row, column, at):
        stride = of.columns + 3
        # After the last plane's last row there is none, and before its end are zeros.
        return [at - 1, at - stride, at + 1, np.minimum(at + stride, len(self._blocks) - 1)]


class Trial(NamedTuple):
    """What differs from the network that was chosen."""

    network: Callable = PredictorNetwork
    settings: dict = {}
    blocks: type = packing.Blocks
    patch: tuple = ()  # of the network's module: an attribute's name, and what replaces it
    seed: int = 0


def widths(factor):
    names = {"trunk1": 256, "trunk2": 128, "last": 64, "features": 32, "hidden": 32}
    return Trial(settings={name: int(factor * width) for name, width in names.items()})


TRIALS = {
    "luma": {
        "chosen": Trial(),
        "chosen, from another seed": Trial(seed=1),
        "without the upper right block": Trial(without("upper right")),
        "without the second blocks": Trial(without("second left", "second upper")),
        "left and upper block alone": Trial(without(*LUMA[2:])),
        "no block around": Trial(without(*LUMA)),
        "left, upper, right and lower block": Trial(settings={"contexts": 4}, blocks=FourSides),
        "without linear predictions": Trial(WithoutPredictions),
        "not told the quantisation steps": Trial(WithoutSteps),
        "not told the model's scale": Trial(without(kinds=SCALES)),
        "zero flags to the end, no `last`": Trial(
            WithoutLast, patch=("_bits_of_levels", flags_to_the_end())
        ),
        "DC before AC": Trial(patch=("_COMES_BEFORE", np.triu(np.ones((64, 64), np.float32), 1))),
        "half as wide": widths(0.5),
        "twice as wide": widths(2),
    },
    "chroma": {
        "chosen": Trial(),
        "without luma": Trial(without("luma")),
        "Cr without Cb": Trial(without("Cb")),
        "luma and Cb alone": Trial(without(*LUMA[:4])),
    },
}


def payloads_of(codec, photographs, folder):
    return [file.read_bytes() for file in packing.make_payloads(codec, photographs, folder)]


def score(network, blocks):
    """Mean share of their payloads' bytes that held-out blocks take."""
    bits_of = tf.function(network.call)
    shares = []
    for number in range(SCORED):
        *batch, weight = blocks.draw(np.random.default_rng(number), 1000)
        bits = bits_of(*map(tf.constant, batch)).numpy().sum(axis=1)
        shares.append((bits / 8 * weight).mean())
    return np.mean(shares)


def run(trial, chroma, training, held_out, folder):
    keras.utils.set_random_seed(trial.seed)
    patch = (
        mock.patch.object(network_module, *trial.patch) if trial.patch else contextlib.nullcontext()
    )
    settings = {"contexts": 9, "predicting": 5} if chroma else {"contexts": 6, "predicting": 4}
    config = PackingConfig(batch_size=FLAGS.batch_size, seed=trial.seed)
    with patch:
        network = trial.network(**(settings | trial.settings))
        blocks = trial.blocks(training, chroma)
        packing.train_network(network, blocks, FLAGS.steps, config, folder)
        return score(network, trial.blocks(held_out, chroma))


def main(arguments):
    codec, output = cnn_compression.load(FLAGS.model), Path(FLAGS.output)
    photographs, held_out = split_held_out(list_images(arguments[1:]), FLAGS.held_out)
    _, photographs = split_held_out(photographs, FLAGS.photographs)
    training = payloads_of(codec, photographs, output / "training")
    held_out = payloads_of(codec, held_out, output / "held_out")
    print("| | share of the payload | against the chosen |\n|---|---|---|", flush=True)
    for part, trials in TRIALS.items():
        chosen = None
        for name, trial in trials.items():
            if FLAGS.trial and name not in (*FLAGS.trial, "chosen"):
                continue
            folder = output / part / name.replace(" ", "_")
            share = run(trial, part == "chroma", training, held_out, folder)
            chosen = chosen or share
            more = "" if share == chosen else f"{100 * (share / chosen - 1):+.1f} %"
            print(f"| {part}: {name} | {share:.4f} | {more} |", flush=True)


if __name__ == "__main__":
    app.run(main)
