"""JPEG's 8x8 DCT, and what else is done to blocks of 8x8."""

import numpy as np
from keras import ops

from cnn_compression.tensors.levels import straight_through_round
from cnn_compression.tensors.shapes import depth_to_space, space_to_depth

# The 8-point DCT-II (T.81, A.3.3) times sqrt(8) in 13-bit fixed point, what the flow graph of
# libjpeg's `jfdctint.c` amounts to: rows are frequencies, and the right half mirrors the left, with
# odd rows negated.
_DCT_LEFT = (
    np.array(
        [
            [8192, 8192, 8192, 8192],
            [11363, 9633, 6437, 2260],
            [10703, 4433, -4433, -10703],
            [9633, -2259, -11362, -6436],
            [8192, -8192, -8192, 8192],
            [6437, -11362, 2261, 9633],
            [4433, -10704, 10704, -4433],
            [2260, -6436, 9633, -11363],
        ]
    )
    / 2**13
)
_DCT = np.hstack([_DCT_LEFT, _DCT_LEFT[:, ::-1] * np.array([1, -1] * 4)[:, None]])
# 64x64 matrices for blocks flattened by rows: the DCT of each row, and that of each column.
_DCT_ROWS = np.kron(np.eye(8), _DCT).T.astype(np.float32)
_DCT_COLUMNS = np.kron(_DCT, np.eye(8)).T.astype(np.float32)

_FREQUENCY, _SAMPLE = np.arange(8)[:, None], np.arange(8)[None, :]
_ORTHONORMAL = np.cos(np.pi * _FREQUENCY * (2 * _SAMPLE + 1) / 16) / 2
_ORTHONORMAL[0] /= np.sqrt(2)
# Orthonormal 8x8 DCT of a block's pixels by rows: rows of (v, u).
BLOCK_DCT = np.kron(_ORTHONORMAL, _ORTHONORMAL).astype(np.float32)


def block_dct(plane):
    """8x8 DCT of `[N, H, W, 1]` (H, W multiples of 8) to `[N, H/8, W/8, 64]`, rows of (v, u).

    Rows and then columns are rounded, straight through, where libjpeg's integers are
    (`jfdctint.c`): the orthonormal coefficients in whole eighths.
    """
    rows = straight_through_round(4.0 * ops.matmul(space_to_depth(plane, 8), _DCT_ROWS))
    return straight_through_round(ops.matmul(rows, _DCT_COLUMNS) / 4.0) / 8.0


def block_idct(coefficients):
    """Inverse of `block_dct`, rounded after the columns (`jidctint.c`) but not after the rows."""
    columns = straight_through_round(4.0 * ops.matmul(coefficients, _DCT_COLUMNS.T))
    return depth_to_space(ops.matmul(columns, _DCT_ROWS.T) / 32.0, 8)


def map_blocks(x, matrices, offset=0.0, size=None):
    """Multiplies each 8x8 block, its values by rows, by its item's matrix.

    Blocks at the right and lower edge that are not whole stay as they are.

    Args:
        x: `[N, H, W, C]`.
        matrices: `[N, 64 C, 64 C]`, rows of what comes out.
        offset: what is added: a number, or `[N, 1, 1]`.
        size: height and width of the picture in x's upper left, where it does not fill it.

    Returns:
        `[N, H, W, C]`.
    """
    number, height, width, channels = ops.shape(x)
    whole_height, whole_width = (side // 8 * 8 for side in size or (height, width))
    blocks = space_to_depth(x[:, :whole_height, :whole_width], 8)
    _, rows, columns, depth = ops.shape(blocks)
    flat = ops.reshape(blocks, (number, rows * columns, depth))
    matrices = ops.transpose(matrices, (0, 2, 1))
    if x.shape[0] == 1:
        # oneDNN keeps something for each shape that it multiplies batches of.
        mapped = (ops.matmul(flat[0], matrices[0]) + offset)[None]
    else:
        mapped = ops.matmul(flat, matrices) + offset
    mapped = depth_to_space(ops.reshape(mapped, (number, rows, columns, depth)), 8)
    upper = ops.concatenate([mapped, x[:, :whole_height, whole_width:]], axis=2)
    return ops.concatenate([upper, x[:, whole_height:]], axis=1)
