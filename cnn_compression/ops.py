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
    sides = ops.shape(x)[1:3]
    return repeat_edges(x, sides, [-(-side // multiple) * multiple for side in sides])


def repeat_edges(x, size, sides):
    """The upper left part of `[N, .., .., C]`, its last row and column repeated.

    Args:
        x: at least as large as `size`.
        size: height and width of the part.
        sides: height and width of what comes out.

    Returns:
        `[N, *sides, C]`.
    """
    for axis, end, side in zip((1, 2), size, sides, strict=True):
        if not (isinstance(end, int) and end == side == x.shape[axis]):
            inside = crop(x, end, None) if axis == 1 else crop(x, None, end)
            # Taken are only the pixels that repeat: `take` copies them one by one.
            last = ops.take(x, ops.full((side - end,), end - 1, "int32"), axis=axis)
            x = ops.concatenate([inside, last], axis=axis)
    return x


def crop(x, height, width):
    """The upper left `height` x `width` pixels of `[N, H, W, C]`."""
    return x[:, :height, :width, :]


def space_to_depth(x, size):
    """The squares of `[N, H, W, C]`, each by rows: `[N, H/size, W/size, size**2 C]`.

    By transposition, which takes all cores: TensorFlow's own op takes one.
    """
    number, height, width, channels = ops.shape(x)
    rows, columns = height // size, width // size
    squares = ops.reshape(x, (number, rows, size, columns, size, channels))
    return ops.reshape(
        ops.transpose(squares, (0, 1, 3, 2, 4, 5)), (number, rows, columns, size**2 * channels)
    )


def depth_to_space(x, size):
    """Inverse of `space_to_depth`: `[N, H, W, C]` to `[N, size H, size W, C/size**2]`."""
    number, rows, columns, depth = ops.shape(x)
    channels = depth // size**2
    squares = ops.reshape(x, (number, rows, columns, size, size, channels))
    return ops.reshape(
        ops.transpose(squares, (0, 1, 3, 2, 4, 5)), (number, size * rows, size * columns, channels)
    )


def rgb_to_ycc(rgb):
    """`[..., 3]` RGB to full-range Y, Cb, Cr around 128 (JFIF), in the units of [0, 255]."""
    return ops.matmul(rgb, RGB_TO_YCC) + np.array([0, 128, 128], np.float32)


def ycc_to_rgb(ycc):
    """Inverse of `rgb_to_ycc`; not clipped."""
    return ops.matmul(ycc - np.array([0, 128, 128], np.float32), YCC_TO_RGB)


def downsample(x, factor):
    """Mean of each `factor` x `factor` square of `[N, H, W, C]`; H and W divide by it."""
    return ops.average_pool(x, factor, factor, padding="valid")


def texture_squares(image):
    """Detail and contrast of each whole square of 16 x 16, of which `fine_texture` is made.

    Args:
        image: float `[N, H, W, C]` in [0, 1]; sides below 16 are filled up by repetition.

    Returns:
        float32 `[N, max(H // 16, 1), max(W // 16, 1), 3]`: the variance that goes where the square
        is reduced to 1/2 and from there to 1/4, and its standard deviation at 1/2.
    """
    whole = [ops.maximum(side // 16, 1) * 16 for side in ops.shape(image)[1:3]]
    finest = pad_to_multiple(crop(image, *whole), 16) - 0.5  # near 0, squares keep more digits
    halved, quartered = downsample(finest, 2), downsample(finest, 4)
    at_once = ((finest, 16), (halved, 8), (quartered, 4))
    power, halved_power, quartered_power = (downsample(x**2, side) for x, side in at_once)
    variance = ops.maximum(halved_power - downsample(halved, 8) ** 2, 0.0)
    squares = [power - halved_power, halved_power - quartered_power, ops.sqrt(variance)]
    return ops.concatenate([ops.mean(x, axis=-1, keepdims=True) for x in squares], axis=-1)


def fine_texture(squares, size):
    """How much texture a picture has that goes where it is reduced to 1/`size` of its size.

    It is the detail that goes from 2/`size` to 1/`size`, over the contrast inside squares of the
    picture at half size. Sharp edges, which a network can draw again from the smaller picture, have
    much of both; texture, which it cannot, has more of the first.

    Args:
        squares: what `texture_squares` makes of `N` pictures.
        size: 2 or 4.

    Returns:
        float32 `[N]`: variance over standard deviation, of [0, 1]; 0 for flat pictures.
    """
    to_half, to_quarter, contrast = ops.unstack(ops.mean(squares, (1, 2)), 3, axis=-1)
    detail = to_half if size == 2 else to_quarter
    return ops.maximum(detail, 0.0) / ops.maximum(contrast, 1 / 255)


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
    return depth_to_space(bicubic_phases(x), 2)


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


def log2(x):
    """Base-2 logarithm."""
    return ops.log(x) * (1 / np.log(2.0))


def luma(rgb):
    """`[..., 3]` RGB to its BT.601 luma `[..., 1]`, in the same units."""
    return ops.sum(rgb * RGB_TO_YCC[:, 0], axis=-1, keepdims=True)
