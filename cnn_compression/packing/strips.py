"""A JPEG's coefficients <-> strips of coded bits, each for itself, so that each core has one.

Strips are rows of MCUs. In a strip come all of luma's blocks, then Cb's, then Cr's.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from cnn_compression.jpeg import coefficients
from cnn_compression.packing import kernels, predictor, range_coder
from cnn_compression.packing.layout import PackedError
from cnn_compression.packing.predictors import Predictors

# A strip's blocks of luma, about: enough for one core to be quick, and for what a strip does not
# know of the one above it not to count.
_BLOCKS = 4096


class Planes(NamedTuple):
    """What is coded, but for the coefficients.

    Attributes:
        shapes: rows and columns of each component's blocks.
        starts: rows of MCUs where each strip starts, and where the last one ends.
        vertical: of each component, how many rows of blocks a row of MCUs has.
        ratio: luma's blocks to one of chroma's, down and across.
        steps: int32 `[64]` of each component, quantisation steps in zigzag order.
        kinds: which of `predictor.KINDS` are true of every block.
    """

    shapes: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]
    vertical: tuple[int, ...]
    ratio: tuple[int, int]
    steps: tuple[np.ndarray, ...]
    kinds: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """How many there are."""
        return sum(rows * columns for rows, columns in self.shapes)

    @property
    def strips(self) -> int:
        """How many there are."""
        return len(self.starts) - 1


def planes(
    frame: coefficients.Frame,
    shapes: Sequence[tuple[int, int]],
    steps: Sequence[np.ndarray],
    kinds: Sequence[int],
) -> Planes:
    """How a frame is coded.

    Args:
        frame: grey or YCbCr, of `coefficients.ratio`.
        shapes: rows and columns of each component's blocks: `coefficients.block_shape` or
            `padded_shape`.
        steps, kinds: as of `Planes`.
    """
    vertical = tuple(component.vertical for component in frame.components)
    if len(vertical) == 1:  # its MCU is a block, whatever its sampling factors
        vertical = (1,)
    rows, columns = coefficients.padded_shape(frame, 0)
    count = max(1, (rows * columns + _BLOCKS // 2) // _BLOCKS)
    starts = tuple(number * (rows // vertical[0]) // count for number in range(count + 1))
    steps = tuple(one.astype(np.int32) for one in steps)
    ratio = coefficients.ratio(frame)
    return Planes(tuple(shapes), starts, vertical, ratio, steps, tuple(kinds))


def write(of: Planes, networks: Predictors, blocks: Sequence[np.ndarray]) -> list[bytes]:
    """The bytes of each strip.

    Args:
        of: what is coded.
        networks: the predicting ones.
        blocks: int16 `[rows, columns, 64]` of each component, in zigzag order.

    Raises:
        OverflowError: of coefficients that no picture has.
    """

    def one(number):
        rows = _rows(of, number)
        parts = [part[there] for part, there in zip(blocks, rows, strict=True)]
        coder = range_coder.writer(256 + 4 * sum(part.size for part in parts))
        padded = [np.pad(part, ((2, 0), (2, 1), (0, 0))) for part in parts]
        _code(of, networks, coder, padded)
        return range_coder.finish(*coder)

    return _in_threads(one, of.strips)


def read(of: Planes, networks: Predictors, strips: Sequence[bytes]) -> tuple[np.ndarray, ...]:
    """The coefficients of each component; raises PackedError."""

    def one(number):
        coder, padded = range_coder.reader(strips[number]), []
        for rows, (_, columns) in zip(_rows(of, number), of.shapes, strict=True):
            padded.append(np.zeros((rows.stop - rows.start + 2, columns + 3, 64), np.int16))
        _code(of, networks, coder, padded)
        if not range_coder.is_finished(*coder):
            raise PackedError("damaged: its coded bits do not end where they should")
        return [plane[2:, 2:-1] for plane in padded]

    parts = _in_threads(one, len(strips))
    return tuple(np.concatenate(component) for component in zip(*parts, strict=True))


def _rows(of, number):
    """The rows of blocks of each component that a strip has."""
    first, last = of.starts[number : number + 2]
    return [
        slice(first * vertical, min(last * vertical, rows))
        for vertical, (rows, _) in zip(of.vertical, of.shapes, strict=True)
    ]


def _in_threads(function, count):
    """[function(0), ...]: after the first that fails no other is begun."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        futures = [threads.submit(function, number) for number in range(count)]
        try:
            return [future.result() for future in futures]
        finally:
            threads.shutdown(cancel_futures=True)


def _code(of, networks, coder, padded):
    """Codes a strip's planes, or fills them from what the coder reads."""
    ratio = np.array(of.ratio, np.int32)
    three = tuple(padded) if len(padded) == 3 else tuple(padded) * 3  # grey has no Cb and Cr
    for own, steps in enumerate(of.steps):
        net = networks.chroma if own else networks.luma
        kinds = [*of.kinds] + [predictor.IS_CR] * (own == 2)
        base, room = predictor.base(net, steps, kinds), predictor.working_room(net)
        arranged = networks.arranged[own > 0]
        kernels.code_plane(arranged, *coder, base, three, own, steps, ratio, room)
