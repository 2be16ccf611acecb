"""The predicting network in integers; `kernels` computes it.

Weights are integers of 16 bits, activations of 14, sums of 32, and no sum can leave its bits
(`checked`): so they are exact in any order, on any machine, and packing and unpacking see
the same numbers. Real numbers r stand as round(ONE * r) in features, activations and logits, and
as round(2^SHIFT * r) in weights.

A block's coefficients are coded in this order: `last`, the zigzag index of the last AC coefficient
that is not zero (0 if none is); the AC coefficients 1..last; the DC coefficient, as what is left
of its prediction. Each is a row of binary decisions: zero? (not asked of the last one), sign,
more than 1, 2, .. UNARY - 1?, and beyond that which power of two, and its bits.

The network: a trunk of two layers sees the neighbouring blocks and makes features of a block; for
each coefficient a small network of its own sees these, the coefficients of the block that are
coded already, `last`, and a linear prediction in pixels' units from blocks around and the block
itself. First layers add up what is not zero alone.
"""

from collections import namedtuple
from typing import NamedTuple

import numpy as np

from cnn_compression.packing.exact import log2_steps
from cnn_compression.packing.kernels import (
    ACTIVATION_LIMIT,
    DEQUANTISED_LIMIT,
    ONE,
)


class Predictor(NamedTuple):
    """The network's integers. C blocks are its context, of which P take part in predictions.

    Attributes:
        trunk1_positive, trunk1_negative: int16 [64 C, W]: of a coefficient above and below zero.
        trunk1_bias: int32 [W].
        steps: int16 [64, W]: of the logarithms of the quantisation steps.
        kinds: int32 [K, W]: of what is true of a block: see `KINDS`.
        trunk2, trunk2_bias: int16 [1, T, W], int32 [1, T].
        last1, last1_bias: int16 [1, L, T], int32 [1, L].
        last2, last2_bias: int16 [1, 63, L], int32 [1, 63].
        features, features_bias: int16 [64, G, T], int32 [64, G].
        own_positive, own_negative: int16 [64, 64 G]: of a coefficient, for each that comes later.
        of_last: int32 [64, 64 G]: of `last`, for each coefficient.
        predicted: int16 [64, G, 4]: of a prediction: see `kernels._prediction`.
        hidden, hidden_bias: int16 [64, H, G], int32 [64, H].
        decisions, decisions_bias: int16 [64, DECISIONS, H], int32 [64, DECISIONS].
        around: int16 [64 P, 64]; itself: int16 [64, 64]: linear predictions.
        log1p: int16 [2048], probabilities: int32 [odd]: tables; see `exact`.
    """

    trunk1_positive: np.ndarray
    trunk1_negative: np.ndarray
    trunk1_bias: np.ndarray
    steps: np.ndarray
    kinds: np.ndarray
    trunk2: np.ndarray
    trunk2_bias: np.ndarray
    last1: np.ndarray
    last1_bias: np.ndarray
    last2: np.ndarray
    last2_bias: np.ndarray
    features: np.ndarray
    features_bias: np.ndarray
    own_positive: np.ndarray
    own_negative: np.ndarray
    of_last: np.ndarray
    predicted: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray
    decisions: np.ndarray
    decisions_bias: np.ndarray
    around: np.ndarray
    itself: np.ndarray
    log1p: np.ndarray
    probabilities: np.ndarray


# Rows of `Predictor.kinds`: at the picture's left, upper, right, lower edge; of a payload, scale 1,
# 2, 4; of another JPEG in colour, luma's blocks to one of chroma's, 1, 2, 4; Cr.
KINDS = 9
AT_SCALE = AT_RATIO = {1: 4, 2: 5, 4: 6}
IS_CR = 8


_MERGED = ("trunk1", "own")
_SUMMED_BEFORE = ("trunk1_bias", "steps")  # by `base`
Arranged = namedtuple(
    "Arranged",
    [*_MERGED]
    + [
        name
        for name in Predictor._fields
        if name not in _SUMMED_BEFORE and not name.endswith(("_positive", "_negative"))
    ],
)
Arranged.__doc__ = """A predictor as `kernels.code_plane` takes it; what differs from `Predictor`:

Matrices from one layer to the next are int16 [.., M / 2, N, 2] in place of [.., N, M]; where N does
not divide by 8 zeros follow, as in the bias. `trunk1` is `trunk1_positive` and below it
`trunk1_negative`, `own` likewise.
"""


def arranged(net: Predictor) -> Arranged:
    """The predictor as `kernels.code_plane` takes it."""
    changed = {
        name: np.concatenate([getattr(net, f"{name}_positive"), getattr(net, f"{name}_negative")])
        for name in _MERGED
    }
    for name in ("trunk2", "last1", "last2", "features", "predicted", "hidden", "decisions"):
        matrix = getattr(net, name)
        outputs = [(0, 0), (0, -matrix.shape[1] % 8)]
        matrix = np.pad(matrix, [*outputs, (0, 0)])
        pairs = matrix.reshape(*matrix.shape[:2], -1, 2).swapaxes(1, 2)
        changed[name] = np.ascontiguousarray(pairs)
        if name != "predicted":
            changed[f"{name}_bias"] = np.pad(getattr(net, f"{name}_bias"), outputs)
    return Arranged(*((net._asdict() | changed)[name] for name in Arranged._fields))


def working_room(net: Predictor) -> tuple:
    """Arrays for `kernels.code_plane` to work in, one set for each thread."""
    trunk2, last1, hidden = (matrix.shape[1:] for matrix in (net.trunk2, net.last1, net.hidden))
    widths = (
        (trunk2[1], np.int32),
        (trunk2[1], np.int16),
        (trunk2[0], np.int16),
        (last1[0], np.int16),
        (64 * hidden[1], np.int32),
        (hidden[1], np.int16),
        (hidden[0], np.int16),
        (4, np.int16),
        (64, np.int32),
        (max(64, *trunk2, *last1, *hidden), np.int32),
    )
    around = len(net.trunk1_positive) + 1
    lists = tuple(np.zeros(around, kind) for kind in (np.int32, np.int16, np.int32, np.int16))
    return *(np.zeros(shape, kind) for shape, kind in widths), lists


def base(net, steps, kinds):
    """int32 [W]: what the first layer starts with.

    Args:
        net: `Predictor`.
        steps: integers [64], quantisation steps in zigzag order.
        kinds: which of `KINDS` are true of every block.
    """
    total = net.trunk1_bias + log2_steps(steps) @ net.steps.astype(np.int64)
    return (total + net.kinds[list(kinds)].sum(0)).astype(np.int32)


def checked(net):
    """The predictor, of which no sum can leave 32 bits whatever comes; raises ValueError.

    A sum is at most that of its weights' sizes times the largest inputs.
    """
    log, limit = int(net.log1p[-1]), ACTIVATION_LIMIT

    def sizes(array):
        return np.abs(array.astype(np.int64))

    def size(array, axis):
        return sizes(array).sum(axis)

    for name in ("trunk2", "last1", "features", "hidden"):
        *_, outputs, inputs = getattr(net, name).shape
        if outputs % 16 or inputs % 16:
            raise ValueError(f"{name}: widths must divide by 16. Received: {outputs}, {inputs}")
    step = 16 * ONE  # of the logarithm of a step of 16 bits
    either = np.maximum(sizes(net.trunk1_positive), sizes(net.trunk1_negative))
    own = np.maximum(sizes(net.own_positive), sizes(net.own_negative))
    of_block = (log * own.sum(0) + sizes(net.of_last).max(0)).reshape(64, -1)
    sums = {
        "trunk1": log * either.sum(0)
        + sizes(net.trunk1_bias)
        + step * size(net.steps, 0)
        + size(net.kinds, 0),
        "trunk2": limit * size(net.trunk2, 2) + sizes(net.trunk2_bias),
        "last1": limit * size(net.last1, 2) + sizes(net.last1_bias),
        "last2": limit * size(net.last2, 2) + sizes(net.last2_bias),
        "features": limit * size(net.features, 2)
        + sizes(net.features_bias)
        + of_block
        + log * size(net.predicted, 2),
        "hidden": limit * size(net.hidden, 2) + sizes(net.hidden_bias),
        "decisions": limit * size(net.decisions, 2) + sizes(net.decisions_bias),
        "predictions": DEQUANTISED_LIMIT * (size(net.around, 0) + size(net.itself, 0)),
    }
    for name, largest in sums.items():
        if largest.max() >= 2**31:
            raise ValueError(f"{name}: sums up to {largest.max():.3g} leave 32 bits")
    return net
