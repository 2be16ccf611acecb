"""JPEG's differentiable twin: what `coding` does to an image, in `keras.ops`.

The steps and tables are those of ITU-T T.81 (JPEG) and JFIF 1.02 as libjpeg takes them: full-range
YCbCr, chroma 4:2:0 by 2x2 means (or 4:4:4), 8x8 DCT, the tables of T.81 Annex K scaled by quality,
rounding, and back with "fancy" (triangle) chroma upsampling. Wherever libjpeg keeps integers the
twin rounds straight through, and where libjpeg clips it clips, so that no gradient passes outside
the range. The bits are estimated from the coefficients before rounding: their gradient draws small
ones to 0.
"""

import numpy as np
from keras import ops

from cnn_compression.jpeg.tables import CHROMA_TABLE, LUMA_TABLE
from cnn_compression.tensors.colour import rgb_to_ycc, ycc_to_rgb
from cnn_compression.tensors.dct import block_dct, block_idct
from cnn_compression.tensors.levels import straight_through_round
from cnn_compression.tensors.resampling import downsample, upsample_triangle
from cnn_compression.tensors.shapes import crop, pad_to_multiple

# Luma samples per chroma sample along each side.
CHROMA_FACTORS = {"4:2:0": 2, "4:4:4": 1}


def quantisation_steps(quality, table=LUMA_TABLE):
    """libjpeg's quantisation table at a quality (`jpeg_set_quality`, baseline).

    Args:
        quality: int or float `[N]`, 1..100.
        table: float32 `[8, 8]`, the table at quality 50.

    Returns:
        float32 `[N, 64]`, integers 1..255, rows of (v, u).
    """
    quality = ops.cast(quality, "float32")
    percent = ops.where(quality < 50, ops.floor(5000.0 / quality), 200.0 - 2.0 * quality)
    steps = ops.floor((table.reshape(1, 64) * percent[:, None] + 50.0) / 100.0)
    return ops.clip(steps, 1.0, 255.0)


# Rounded: of quality 50, whose table is T.81's own.
STEP_OF_QUALITY_50 = 58.0


def mean_luma_step(quality):
    """Mean of the luma table at each quality: int or float `[N]` in 1..100 to float32 `[N]`."""
    return ops.mean(quantisation_steps(quality), axis=-1)


# Bits of the files of `jpeg.encode`, fitted by least squares: what a level costs, to 60 photographs
# at 13 qualities; what is left for headers and code tables, to 40 of 100 to 900 pixels at 11 (mean
# relative error 6 %; at quality 5, 15 to 25 % too many).
_HEADER_BITS = {1: 600.0, 3: 1500.0}
_AC_BITS, _DC_BITS = 2.41, 4.05


def _round_levels(levels):
    """Quantised DCT coefficients, straight through."""
    # The DCT's whole eighths make ties common: libjpeg takes them away from zero.
    nearest = ops.sign(levels) * ops.floor(ops.abs(levels) + 0.5)
    return levels + ops.stop_gradient(nearest - levels)


def _code_plane(plane, steps):
    """One component through DCT, quantisation and back.

    Args:
        plane: float32 `[N, H, W, 1]` of levels, H and W multiples of 8.
        steps: float32 `[N, 64]`.

    Returns:
        The decoded plane in [0, 255], and estimated bits float32 `[N]`, headers left out.
    """
    steps = steps[:, None, None, :]
    levels = block_dct(plane - 128.0) / steps
    decoded = block_idct(_round_levels(levels) * steps) + 128.0
    # The first difference of a row is taken to zero, which is close to what a long row costs.
    dc = levels[..., 0]
    dc_bits = ops.sum(ops.log2(1.0 + ops.abs(dc[:, :, 1:] - dc[:, :, :-1])), axis=(1, 2))
    ac_bits = ops.sum(ops.log2(1.0 + ops.abs(levels[..., 1:])), axis=(1, 2, 3))
    bits = _AC_BITS * ac_bits + _DC_BITS * dc_bits
    return straight_through_round(ops.clip(decoded, 0.0, 255.0)), bits


# What libjpeg adds before it rounds down: to chroma, just too little to take a tie up (jccolor.c);
# in even and in odd columns, to 2x2 means (jcsample.c) and to upsampled chroma (jdsample.c).
_YCC_BIAS = np.array([0.5, 0.5 - 2.0**-16, 0.5 - 2.0**-16], np.float32)
_DOWN_BIAS, _UP_BIAS = (1 / 4, 2 / 4), (8 / 16, 7 / 16)


def _round_alternately(x, biases):
    """Rounds `[N, H, W, C]` straight through, with one bias in even columns, another in odd."""
    odd = ops.cast(ops.arange(ops.shape(x)[2]) % 2, "float32")[None, None, :, None]
    return straight_through_round(x, biases[0] + (biases[1] - biases[0]) * odd)


def _halve_chroma(plane, height):
    """2x2 means `[N, H/2, W/2, 1]` as libjpeg takes them, padded to whole blocks.

    It repeats the last row after the means, the last column before them.
    """
    plane = _round_alternately(downsample(plane, 2), _DOWN_BIAS)
    return pad_to_multiple(crop(plane, -(-height // 2), None), 8)


def _double_chroma(plane_hat, height, width):
    """`[N, H, W, 1]` from half the size, of whose last blocks the padding stays outside."""
    plane_hat = crop(plane_hat, -(-height // 2), -(-width // 2))
    return _round_alternately(upsample_triangle(plane_hat), _UP_BIAS)


def jpeg_twin(compact, quality, grey=None, chroma="4:2:0"):
    """Codes and decodes images as `jpeg.encode` and `jpeg.decode` would, differentiably.

    Args:
        compact: float32 `[N, H, W, C]` in [0, 1] (what lies outside is clipped), C = 1 or 3.
        quality: int `[N]`, 1..100.
        grey: optional bool `[N]`, for C = 3: true where the codec carries luma alone.
        chroma: `4:2:0`, or `4:4:4` for chroma at full size.

    Returns:
        compact_hat: float32 `[N, H, W, C]` in [0, 1]: the real decoded pixels, but for a few in ten
            thousand that are a level or two away (and colour images up to 4 pixels wide, whose
            chroma libjpeg repeats).
        bits: float32 `[N]`, the estimated size of the JPEG in bits.
    """
    height, width, channels = ops.shape(compact)[1:]
    levels = straight_through_round(ops.clip(compact, 0.0, 1.0) * 255.0)
    if channels == 1:
        padded = pad_to_multiple(levels, 8)
        luma_hat, bits = _code_plane(padded, quantisation_steps(quality))
        return crop(luma_hat, height, width) / 255.0, bits + _HEADER_BITS[1]

    factor = CHROMA_FACTORS[chroma]
    ycc = straight_through_round(rgb_to_ycc(pad_to_multiple(levels, 8 * factor)), _YCC_BIAS)
    luma_hat, bits = _code_plane(ycc[..., :1], quantisation_steps(quality))
    chroma_steps = quantisation_steps(quality, CHROMA_TABLE)
    colourful = 1.0 - ops.cast(grey, "float32") if grey is not None else ops.ones_like(bits)
    bits = bits + _HEADER_BITS[1] + colourful * (_HEADER_BITS[3] - _HEADER_BITS[1])
    planes = [crop(luma_hat, height, width)]
    for channel in (1, 2):
        plane = ycc[..., channel : channel + 1]
        if factor == 2:
            plane = _halve_chroma(plane, height)
        plane = 128.0 + (plane - 128.0) * colourful[:, None, None, None]
        plane_hat, plane_bits = _code_plane(plane, chroma_steps)
        bits = bits + plane_bits * colourful
        if factor == 2:
            plane_hat = _double_chroma(plane_hat, height, width)
        planes.append(crop(plane_hat, height, width))
    rgb = straight_through_round(ycc_to_rgb(ops.concatenate(planes, axis=-1)))
    return ops.clip(rgb, 0.0, 255.0) / 255.0, bits
