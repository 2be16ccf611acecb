"""RGB, and the luma and chroma of JFIF."""

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


def rgb_to_ycc(rgb):
    """`[..., 3]` RGB to full-range Y, Cb, Cr around 128 (JFIF), in the units of [0, 255]."""
    return ops.matmul(rgb, RGB_TO_YCC) + np.array([0, 128, 128], np.float32)


def ycc_to_rgb(ycc):
    """Inverse of `rgb_to_ycc`; not clipped."""
    return ops.matmul(ycc - np.array([0, 128, 128], np.float32), YCC_TO_RGB)


def luma(rgb):
    """`[..., 3]` RGB to its BT.601 luma `[..., 1]`, in the same units."""
    return ops.sum(rgb * RGB_TO_YCC[:, 0], axis=-1, keepdims=True)
