"""Pictures larger and smaller, by fixed filters."""

import numpy as np
from keras import ops

from cnn_compression.tensors.shapes import depth_to_space, mirror_edges


def downsample(x, factor):
    """Mean of each `factor` x `factor` square of `[N, H, W, C]`; H and W divide by it."""
    return ops.average_pool(x, factor, factor, padding="valid", data_format="channels_last")


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


def upsample_bicubic_mirrored(x, size=None):
    """`upsample_bicubic` as MATLAB's `imresize(x, 2, "bicubic")`: edges are mirrored.

    Args:
        x: `[N, H, W, C]`.
        size: height and width of a picture on a canvas; see `canvas`.

    Returns:
        `[N, 2 H, 2 W, C]`.
    """
    return depth_to_space(_phases(mirror_edges(x, 2, size)), 2)


def bicubic_phases(x):
    """`upsample_bicubic` before its depth-to-space: `[N, H, W, C]` to `[N, H, W, 4 C]`."""
    for axis in (1, 2):
        before = (slice(None),) * axis
        first, last = x[*before, :1], x[*before, -1:]
        x = ops.concatenate([first, first, x, last, last], axis)
    return _phases(x)


def _phases(x):
    """`[N, H + 4, W + 4, C]` to `[N, H, W, 4 C]`."""
    channels = x.shape[-1]
    even = np.array([_keys_cubic(k + 0.25) for k in range(-2, 3)])
    phases = np.stack([even, even[::-1]])  # of even and of odd pixels
    weights = np.einsum("iv,ju,cd->vucijd", phases, phases, np.eye(channels))
    kernel = weights.reshape(5, 5, channels, 4 * channels).astype(np.float32)
    return ops.conv(x, kernel, padding="valid", data_format="channels_last")


def _keys_cubic(t, a=-0.5):
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0
