"""Training the predicting networks of packing: photographs -> JPEGs -> `Predictors`.

The JPEGs are payloads, or such as cameras write. A step takes blocks of them, each JPEG as often as
any other, and makes smaller what their bits take of their JPEGs' bytes. So every quality counts
alike, whatever its files weigh.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnn_compression.process import start_tensorflow

start_tensorflow()  # before what follows imports it

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from cnn_compression import images  # noqa: E402
from cnn_compression.codec import Codec  # noqa: E402
from cnn_compression.files import write_atomically  # noqa: E402
from cnn_compression.jpeg import coefficients, reading, segments, structure  # noqa: E402
from cnn_compression.packing import predictor  # noqa: E402
from cnn_compression.packing.network import PredictorNetwork  # noqa: E402
from cnn_compression.packing.predictors import Predictors  # noqa: E402
from cnn_compression.payload import layout  # noqa: E402
from cnn_compression.payload.layout import MAX_PIXELS, PAYLOAD_SUFFIX  # noqa: E402
from cnn_compression.training import camera_jpegs  # noqa: E402
from cnn_compression.training.config import PackingConfig  # noqa: E402

_log = logging.getLogger(__name__)

_BLOCKS_FOR_PREDICTIONS = 60_000
_WARM_UP = 200  # steps
_FRAMES = (structure.BASELINE, structure.PROGRESSIVE)


class _Kind(NamedTuple):
    """Of JPEGs: pixels of what is cut out of larger photographs, qualities, ending of names."""

    side: int
    first: int
    last: int
    suffix: str


_PAYLOADS = _Kind(768, 3, 96, PAYLOAD_SUFFIX)
_JPEGS = _Kind(512, 50, 97, ".jpg")


def make_payloads(codec: Codec, files: Sequence[Path], folder: Path, each: int = 4) -> list[Path]:
    """Writes payloads of photographs at qualities that are spread evenly, but for those there are.

    Args:
        codec: makes them.
        files: photographs; those that cannot be read are left out and said in the log.
        folder: Path, made if need be.
        each: how many payloads of a photograph.

    Returns:
        Their files, in order.
    """
    return _make(
        _PAYLOADS, lambda cut, quality, draw: codec.encode(cut, quality), *(files, folder, each)
    )


def make_jpegs(files: Sequence[Path], folder: Path, each: int = 4) -> list[Path]:
    """Writes JPEGs of photographs, as `camera_jpegs` says; else as `make_payloads`."""
    return _make(_JPEGS, camera_jpegs.code, files, folder, each)


def _make(kind, code, files, folder, each):
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, file in enumerate(files):
        draw = random.Random(number)
        targets = [folder / f"{number:05d}_{turn}{kind.suffix}" for turn in range(each)]
        made += targets
        if all(target.exists() for target in targets):
            continue
        try:
            image, _ = images.read(file)
        except (ValueError, OSError) as error:
            _log.warning("left out %s: %s", file, error)
            del made[-each:]
            continue
        first, span = draw.random(), kind.last + 1 - kind.first
        for turn, target in enumerate(targets):
            top, left = (draw.randint(0, max(side - kind.side, 0)) for side in image.shape[:2])
            cut = np.ascontiguousarray(image[top : top + kind.side, left : left + kind.side])
            quality = kind.first + int(span * ((first + turn / each) % 1))
            write_atomically(target, code(cut, quality, draw))
    return made


class Batch(NamedTuple):
    """What `PredictorNetwork.call` takes, and `weight`, float32 `[N]`: blocks over bytes of each
    block's JPEG."""

    around: np.ndarray
    kinds: np.ndarray
    steps: np.ndarray
    block: np.ndarray
    weight: np.ndarray


class _Components(NamedTuple):
    """Of each component an entry in each array."""

    start: np.ndarray  # where its plane starts among all planes' blocks
    rows: np.ndarray
    columns: np.ndarray
    steps: np.ndarray  # [.., 64]
    luma: np.ndarray  # where its JPEG's luma starts, and that one's rows and columns
    luma_rows: np.ndarray
    luma_columns: np.ndarray
    down: np.ndarray  # luma's blocks to one of it
    across: np.ndarray
    blue: np.ndarray  # where its JPEG's Cb starts; -1 but of Cr
    kind: np.ndarray  # its row of `AT_SCALE` or `AT_RATIO`, -1 if none
    num_bytes: np.ndarray


class Blocks:
    """The blocks of JPEGs, of luma or of chroma, with those around them.

    Args:
        jpegs: their bytes, grey, or of chroma 4:2:0, 4:2:2 or 4:4:4.
        chroma: bool.
        are_payloads: bool: whether a block's kind is its payload's scale, or the sampling.
    """

    def __init__(self, jpegs: Sequence[bytes], chroma: bool, are_payloads: bool = True):
        self.chroma = chroma
        planes, components, start = [], [], 0
        for jpeg in jpegs:
            structure = reading.read(jpeg, MAX_PIXELS)
            parts = coefficients.cropped(structure.frame, structure.coefficients)
            ratio = coefficients.ratio(structure.frame)
            if are_payloads:
                kind = predictor.AT_SCALE[layout.read_header(jpeg).scale]
            else:
                kind = predictor.AT_RATIO[ratio[0] * ratio[1]] if len(parts) == 3 else -1
            parts = parts if chroma else parts[:1]
            starts = []
            for part in parts:
                # As `kernels.code_plane` has them.
                planes.append(np.pad(part, ((2, 0), (2, 1), (0, 0))).reshape(-1, 64))
                starts.append(start)
                start += len(planes[-1])
            for index in range(1, len(parts)) if chroma else range(1):
                own = (starts[index], *parts[index].shape[:2])
                steps = structure.quantisation[index].astype(np.int32)
                luma = (starts[0], *parts[0].shape[:2])
                blue = starts[1] if index == 2 else -1
                components.append((*own, steps, *luma, *ratio, blue, kind, len(jpeg)))
        self._components = _Components(*map(np.array, zip(*components, strict=True)))
        self._blocks = np.concatenate(planes)

    def draw(self, generator: np.random.Generator, count: int) -> Batch:
        """Blocks of which each JPEG has as many, on average."""
        chosen = generator.integers(0, len(self._components.start), count)
        of = _Components(*(entries[chosen] for entries in self._components))
        place = (generator.random(count) * of.rows * of.columns).astype(np.int64)
        row, column = place // of.columns, place % of.columns
        at = of.start + (row + 2) * (of.columns + 3) + column + 2
        around = self._blocks[np.stack(self._around(of, row, column, at), 1)]
        kinds = np.zeros((count, predictor.KINDS), np.float32)
        edges = (column == 0, row == 0, column == of.columns - 1, row == of.rows - 1)
        kinds[:, :4] = np.stack(edges, 1)
        for kind in predictor.AT_SCALE.values():
            kinds[:, kind] = of.kind == kind
        kinds[:, predictor.IS_CR] = of.blue >= 0
        weight = of.rows * of.columns / of.num_bytes
        return Batch(around, kinds, of.steps, self._blocks[at], weight.astype(np.float32))

    def _around(self, of, row, column, at):
        """Where the blocks around lie; 0, where zeros are, for none."""
        stride = of.columns + 3
        index = [at - 1, at - stride, at - stride - 1, at - stride + 1]
        if not self.chroma:
            return [*index, at - 2, at - 2 * stride]
        blue = np.where(of.blue >= 0, at - of.start + of.blue, 0)
        return [*index, blue, *_luma(of, row, column)]


def _luma(of, row, column):
    """Where the four blocks of luma are that lie where a block of chroma does, or the nearest."""
    return [
        of.luma
        + (np.minimum(of.down * row + np.minimum(below, of.down - 1), of.luma_rows - 1) + 2)
        * (of.luma_columns + 3)
        + np.minimum(of.across * column + np.minimum(right, of.across - 1), of.luma_columns - 1)
        + 2
        for below in (0, 1)
        for right in (0, 1)
    ]


def train_network(
    network: PredictorNetwork,
    blocks: Blocks,
    steps: int,
    config: PackingConfig,
    folder: Path,
    report: Callable[[int, float], None] = lambda step, share: None,
    init: predictor.Predictor | None = None,
) -> None:
    """Trains a network, or goes on where the last checkpoint in a folder stands.

    Args:
        network: fresh; changed.
        blocks: of the kind that the network is for.
        steps: how many; config: the rest.
        folder: of its checkpoints.
        report: told every 100 steps how many are done, and the share of their JPEGs' bytes that
            the blocks took.
        init: what to start from, in place of random weights.

    Raises:
        FloatingPointError: the loss is not finite; names the step.
    """
    if init:
        network.start_from(init)
    else:
        first = blocks.draw(np.random.default_rng(config.seed), _BLOCKS_FOR_PREDICTIONS)
        network.start_predictions(first.around, first.steps, first.block)
    optimizer = keras.optimizers.Adam(config.learning_rate, beta_2=0.99)
    optimizer.build(network.trainable_variables)
    done = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(network=network, optimizer=optimizer, done=done)
    manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=1)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint)

    @tf.function
    def step(around, kinds, steps, block, weight):
        with tf.GradientTape() as tape:
            bits = tf.reduce_sum(network(around, kinds, steps, block), axis=-1)
            share = tf.reduce_mean(bits / 8 * weight)
        gradients = tape.gradient(share, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return share

    shares, saved = [], time.monotonic()
    for number in range(int(done.numpy()), steps):
        optimizer.learning_rate = config.learning_rate * _share_of_rate(number, steps)
        # Each step draws its own blocks, whether the run was stopped before it or not.
        batch = blocks.draw(np.random.default_rng([config.seed, number]), config.batch_size)
        shares.append(float(step(*map(tf.constant, batch))))
        if not np.isfinite(shares[-1]):
            raise FloatingPointError(f"step {number}: the loss is {shares[-1]}")
        done.assign(number + 1)
        if (number + 1) % 100 == 0:
            report(number + 1, float(np.mean(shares[-100:])))
        if time.monotonic() - saved > 60 * config.checkpoint_minutes or number + 1 == steps:
            manager.save()
            saved = time.monotonic()


def _share_of_rate(number, steps):
    """Of the highest learning rate at a step: warm-up, then half a cosine down to 0."""
    return (0.5 + 0.5 * np.cos(np.pi * number / steps)) * min(1, (number + 1) / _WARM_UP)


def train_predictors(
    jpegs: Sequence[bytes],
    model: str,
    config: PackingConfig,
    folder: Path,
    init: Predictors | None = None,
) -> Predictors:
    """Trains both networks.

    Args:
        jpegs: payloads of one model, at 4:2:0 or grey; or any, as of `Blocks`.
        model: 16 hexadecimal digits: its fingerprint; or "".
        folder: of the checkpoints.
        init: what to start from, in place of random weights.
    """
    heads = (segment for jpeg in jpegs for segment in segments.head(jpeg))
    if not any(one.marker in _FRAMES and one.body[5:6] == b"\3" for one in heads):
        raise ValueError("expected photographs in colour, which networks for chroma are trained on")
    parts = []
    for name, steps, contexts, predicting in (
        ("luma", config.luma_steps, 6, 4),
        ("chroma", config.chroma_steps, 9, 5),
    ):
        keras.utils.set_random_seed(config.seed)
        network = PredictorNetwork(contexts, predicting)
        blocks = Blocks(jpegs, name == "chroma", are_payloads=bool(model))

        def report(step, share, name=name):
            _log.info("%s step %d share of JPEGs %.4f", name, step, share)

        start = init and getattr(init, name)
        train_network(network, blocks, steps, config, folder / name, report, start)
        parts.append(network.integers())
    return Predictors(*parts, model)
