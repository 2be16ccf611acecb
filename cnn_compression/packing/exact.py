"""Logarithms and probabilities as integers, the same on every machine, whatever its floats do."""

import decimal
import functools

import numpy as np

from cnn_compression.packing.kernels import ONE

GREATEST = 2047  # of a coefficient's size, as far as features tell
LOGIT_LIMIT = 12 * ONE
# Of 65536: a decision costs at least 0.0028 bits, so the bytes bound how many blocks they may hold.
LEAST = 128


@functools.cache
def log1p_table():
    """int16 [GREATEST + 1]: round(128 log2(1 + m)) of m = 0, 1, .."""
    return np.array([_log2(1 + size) for size in range(GREATEST + 1)], np.int16)


@functools.cache
def probability_table():
    """int32 [2 LOGIT_LIMIT + 1]: of a one, in 65536ths, at logits from -LOGIT_LIMIT on."""
    logits = range(-LOGIT_LIMIT, LOGIT_LIMIT + 1)
    return np.array([_probability(logit) for logit in logits], np.int32)


def log2_steps(steps):
    """Quantisation steps, integers 1..65535 of any shape -> int64, round(128 log2 step)."""
    steps = np.asarray(steps)
    return np.array([_log2(step) for step in steps.ravel()], np.int64).reshape(steps.shape)


def _log2(number):
    """round(128 log2 n) of an integer n >= 1, exactly: 2^(2r - 1) <= n^256 for the greatest r."""
    return (int(number) ** (2 * ONE)).bit_length() // 2


def _probability(logit):
    exact = decimal.Context(prec=20, rounding=decimal.ROUND_HALF_EVEN)
    with decimal.localcontext(exact):  # in which exp is rounded correctly, everywhere
        odds = (decimal.Decimal(-logit) / ONE).exp()
        probability = (decimal.Decimal(65536) / (1 + odds)).to_integral_value()
    return min(max(int(probability), LEAST), 65536 - LEAST)
