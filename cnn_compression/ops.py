"""Pure tensor functions in `keras.ops`: rounding, padding, colour, resampling, the 8x8 DCT.

Tensors are float32 and channels last unless a docstring says otherwise.
"""

import numpy as np
from keras import ops

# ITU-R BT.601 luma weights and the full-range chroma scaling of JFIF 1.02, section 7.
_KR, _KG, _KB = 0.299, 0.587, 0.114
_YCC = np.array(
    [
        [_KR, -_KR / (2 * (1 - _KB)), 0.5],
        [_KG, -_KG / (2 * (1 - _KB)), -_KG / (2 * (1 - _KR))],
        [_KB, 0.5, -_KB / (2 * (1 - _KR))],
    ]
)
# Rounded to libjpeg's 16-bit fixed point, in which float32 sums over whole levels are exact.
RGB_TO_YCC = (np.round(_YCC * 2**16) / 2**16).astype(np.float32)
YCC_TO_RGB = (np.round(np.linalg.inv(_YCC) * 2**16) / 2**16).astype(np.float32)


def to_unit(image):
    """uint8 `[..., C]` in [0, 255] to float32 in [0, 1]: the one way into the networks."""
    return ops.cast(image, "float32") / 255.0


def to_uint8(image):
    """float `[..., C]` in [0, 1] to uint8 in [0, 255], rounded and clipped: the one way out."""
    return ops.cast(ops.clip(ops.round(ops.cast(image, "float32") * 255.0), 0, 255), "uint8")


def straight_through_round(x, bias=0.5):
    """floor(x + bias); the gradient is that of the identity (Bengio et al. 1308.3432)."""
    return x + ops.stop_gradient(ops.floor(x + bias) - x)


def pad_to_multiple(x, multiple):
    """Repeats the last row and column of `[N, H, W, C]` until H and W divide by `multiple`."""
    for axis in (1, 2):
        size = ops.shape(x)[axis]
        padded = -(-size // multiple) * multiple
        if isinstance(size, int) and padded == size:
            continue
        x = ops.take(x, ops.minimum(ops.arange(padded), size - 1), axis=axis)
    return x


def crop(x, height, width):
    """The upper left `height` x `width` pixels of `[N, H, W, C]`."""
    return x[:, :height, :width, :]


def rgb_to_ycc(rgb):
    """`[..., 3]` RGB to full-range Y, Cb, Cr around 128 (JFIF), in the units of [0, 255]."""
    return ops.matmul(rgb, RGB_TO_YCC) + np.array([0, 128, 128], np.float32)


def ycc_to_rgb(ycc):
    """Inverse of `rgb_to_ycc`; not clipped."""
    return ops.matmul(ycc - np.array([0, 128, 128], np.float32), YCC_TO_RGB)


def downsample(x, factor):
    """Mean of each `factor` x `factor` square of `[N, H, W, C]`; H and W divide by it."""
    return ops.average_pool(x, factor, factor, padding="valid")


def block_variance(x, size):
    """Mean over the variances of all `size` x `size` squares of `[N, H, W, C]`: float32 `[N]`.

    The squared error of the best picture with one value a square: what a plain mean loses.
    """
    x = pad_to_multiple(x, size) - 0.5
    axes = (1, 2, 3)
    lost = ops.mean(x**2, axes) - ops.mean(downsample(x, size) ** 2, axes)
    return ops.maximum(lost, 0.0)  # of flat pictures rounding leaves less


def upsample_triangle(x):
    """Doubles H and W of `[N, H, W, C]` as libjpeg's "fancy upsampling": 3/4 near, 1/4 far."""
    for axis in (1, 2):
        shape = list(ops.shape(x))
        index = ops.arange(shape[axis])
        before = ops.take(x, ops.maximum(index - 1, 0), axis=axis)
        after = ops.take(x, ops.minimum(index + 1, shape[axis] - 1), axis=axis)
        pairs = ops.stack([0.75 * x + 0.25 * side for side in (before, after)], axis=axis + 1)
        shape[axis] *= 2
        x = ops.reshape(pairs, shape)
    return x


def upsample_bicubic(x):
    """Doubles H and W of `[N, H, W, C]` by Keys' cubic (1981, a = -1/2), pixel centres aligned.

    Output pixels lie a quarter of a pixel beside the input's, so the weights are constants, the
    same as `tf.image.resize(..., "bicubic")` gives inside the picture; edges are repeated.
    """
    return ops.depth_to_space(bicubic_phases(x), 2)


def bicubic_phases(x):
    """`upsample_bicubic` before its depth-to-space: `[N, H, W, C]` to `[N, H, W, 4 C]`."""
    channels = x.shape[-1]
    even = np.array([_keys_cubic(k + 0.25) for k in range(-2, 3)])
    phases = np.stack([even, even[::-1]])  # of even and of odd pixels
    weights = np.einsum("iv,ju,cd->vucijd", phases, phases, np.eye(channels))
    kernel = weights.reshape(5, 5, channels, 4 * channels).astype(np.float32)
    for _ in range(2):  # by two pixels at once it would mirror
        x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "symmetric")
    return ops.conv(x, kernel, padding="valid")


def _keys_cubic(t, a=-0.5):
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


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
    rows = straight_through_round(4.0 * ops.matmul(ops.space_to_depth(plane, 8), _DCT_ROWS))
    return straight_through_round(ops.matmul(rows, _DCT_COLUMNS) / 4.0) / 8.0


def block_idct(coefficients):
    """Inverse of `block_dct`, rounded after the columns (`jidctint.c`) but not after the rows."""
    columns = straight_through_round(4.0 * ops.matmul(coefficients, _DCT_COLUMNS.T))
    return ops.depth_to_space(ops.matmul(columns, _DCT_ROWS.T) / 32.0, 8)


def map_blocks(plane, matrices):
    """Multiplies each 8x8 block, its pixels by rows, by its item's matrix.

    Args:
        plane: `[N, H, W, 1]`, H and W multiples of 8.
        matrices: `[N, 64, 64]`, rows of what comes out.

    Returns:
        `[N, H, W, 1]`.
    """
    blocks = ops.space_to_depth(plane, 8)
    rows, columns = ops.shape(blocks)[1:3]
    flat = ops.reshape(blocks, (-1, rows * columns, 64))
    mapped = ops.matmul(flat, ops.transpose(matrices, (0, 2, 1)))
    return ops.depth_to_space(ops.reshape(mapped, (-1, rows, columns, 64)), 8)


def log2(x):
    """Base-2 logarithm."""
    return ops.log(x) * (1 / np.log(2.0))


def luma(rgb):
    """`[..., 3]` RGB to its BT.601 luma `[..., 1]`, in the same units."""
    return ops.matmul(rgb, RGB_TO_YCC[:, :1])
