"""How close a restored image is to its original, and what it cost.

PSNR, SSIM and MS-SSIM of uint8 images, `[H, W, C]` or a batch `[N, H, W, C]`, C of 1 or 3, as
float32: a scalar or `[N]`. The channels weigh the same; for the figures that papers give on luma,
pass `luma(image)`. All work eagerly and in a graph, at static or unknown sizes.

An image too small for the window of SSIM (11 pixels a side) or MS-SSIM (161) has no value: it gets
NaN, not an error, so that one thumbnail does not stop a benchmark over a folder. `numpy.nanmean` is
then the mean of those that have one.
"""

import tensorflow as tf
from keras import ops

from cnn_compression.tensors import colour, levels

MAXIMUM = 255
WINDOW = {"filter_size": 11, "filter_sigma": 1.5, "k1": 0.01, "k2": 0.03}
SMALLEST_SSIM = 11
# Four halvings, odd sides rounded up, must leave a side of the window's 11 pixels.
SMALLEST_MS_SSIM = 161
# Rows of images that are floats at a time where the sum does not need them all.
_ROWS = 256


def mse(a, b):
    """Mean squared error, in squared levels of [0, 255].

    Args:
        a, b: uint8 `[H, W, C]` or `[N, H, W, C]`, of the same shape.

    Returns:
        float32 scalar or `[N]`.

    Raises:
        ValueError: they are not uint8, or their shapes are known and differ.
        tf.errors.InvalidArgumentError: their shapes differ, which shows only in the graph.
    """
    a, b = _pair(a, b)
    same = tf.debugging.assert_equal(tf.shape(a), tf.shape(b), "expected images of the same shape")
    with tf.control_dependencies([same]):
        a, b = tf.identity(a), tf.identity(b)

    def strip(number):
        rows = slice(number * _ROWS, (number + 1) * _ROWS)
        x, y = (tf.cast(image[..., rows, :, :], tf.float32) for image in (a, b))
        return tf.cast(tf.reduce_sum(tf.math.squared_difference(x, y), (-3, -2, -1)), tf.float64)

    strips = tf.range(-(-tf.shape(a)[-3] // _ROWS))
    total = tf.reduce_sum(tf.map_fn(strip, strips, fn_output_signature=tf.float64), axis=0)
    pixels = tf.reduce_prod(tf.shape(a, tf.int64)[-3:])
    return tf.cast(total / tf.cast(pixels, tf.float64), tf.float32)


def psnr(a, b, least_error=0.0):
    """Peak signal-to-noise ratio in dB, the peak being 255.

    Args:
        a, b: uint8 `[H, W, C]` or `[N, H, W, C]`, 0..255, of the same shape.
        least_error: what a smaller mean squared error is taken for, squared levels.

    Returns:
        float32 scalar or `[N]`; +inf where the images are identical and `least_error` is 0.

    Raises:
        ValueError: they are not uint8, or their shapes are known and differ.
    """
    return 10 * ops.log10(MAXIMUM**2 / tf.maximum(mse(a, b), least_error))


def ssim(a, b):
    """Structural similarity, over windows that lie wholly inside the image.

    A Gaussian window of 11×11 and sigma 1.5, K1 = 0.01, K2 = 0.03, the mean over windows and
    channels: Wang et al., *Image quality assessment: from error visibility to structural
    similarity*, IEEE TIP 13(4), 2004, eq. 13.

    Args:
        a, b: uint8 `[H, W, C]` or `[N, H, W, C]`, 0..255, of the same shape.

    Returns:
        float32 scalar or `[N]`, -1..1, 1 where the images are identical; NaN where H or W is
        under 11.

    Raises:
        ValueError: they are not uint8, or their shapes are known and differ.
    """
    a, b = _pair(a, b)
    return _nan_if_smaller(SMALLEST_SSIM, a, lambda: tf.image.ssim(a, b, MAXIMUM, **WINDOW))


def ms_ssim(a, b):
    """Structural similarity over five scales, weighted by how the eye weighs them.

    Contrast and structure at each of five scales, luminance at the coarsest, with the constants of
    `ssim`; a negative factor counts as 0: Wang, Simoncelli & Bovik, *Multi-scale structural
    similarity for image quality assessment*, Asilomar 2003, eq. 7 and section 3.2.

    Args:
        a, b: uint8 `[H, W, C]` or `[N, H, W, C]`, 0..255, of the same shape.

    Returns:
        float32 scalar or `[N]`, 0..1, 1 where the images are identical; NaN where H or W is
        under 161.

    Raises:
        ValueError: they are not uint8, or their shapes are known and differ.
    """
    a, b = _pair(a, b)
    return _nan_if_smaller(
        SMALLEST_MS_SSIM, a, lambda: tf.image.ssim_multiscale(a, b, MAXIMUM, **WINDOW)
    )


def luma(image):
    """The luma of JPEG: Y = 0.299 R + 0.587 G + 0.114 B, full range (JFIF 1.02; ITU-R BT.601).

    The luma of MATLAB's `rgb2ycbcr`, which super-resolution papers measure on, spans 16..235
    instead: its PSNR is 1.32 dB higher for the same error.

    Args:
        image: uint8 `[..., H, W, 3]`, or `[..., H, W, 1]`, which is luma already.

    Returns:
        uint8 `[..., H, W, 1]`, rounded to the nearest level.

    Raises:
        ValueError: the image is not uint8 or has neither 1 nor 3 channels.
    """
    image = _image(image)
    if image.shape[-1] == 1:
        return image
    if image.shape[-1] != 3:
        raise ValueError(f"Expected an image of 1 or 3 channels. Received: shape {image.shape}")
    return levels.to_uint8(colour.luma(levels.to_unit(image)))


def bpp(num_bytes, height, width):
    """Bits per pixel: every byte of the payload × 8 over the pixels of the original.

    Args:
        num_bytes: size of the payload in bytes.
        height, width: size of the original in pixels. Numbers, or arrays that broadcast.

    Returns:
        float, or an array of them.
    """
    return 8 * num_bytes / (height * width)


def _image(image):
    image = tf.convert_to_tensor(image)
    if image.dtype != tf.uint8:
        raise ValueError(f"Expected a uint8 image. Received: {image.dtype.name}")
    return image


def _pair(a, b):
    a, b = _image(a), _image(b)
    if not a.shape.is_compatible_with(b.shape):
        raise ValueError(
            f"Expected two images of the same shape. Received: {a.shape} and {b.shape}"
        )
    return a, b


def _nan_if_smaller(smallest, image, measure):
    """What `measure()` gives, or NaN of the same shape if a side of `image` is under `smallest`."""

    def missing():
        return tf.fill(tf.shape(image)[:-3], float("nan"))

    sides = image.shape[-3:-1]
    if sides.is_fully_defined():  # TF checks the sizes it knows when it traces, even a dead branch.
        return measure() if min(sides) >= smallest else missing()
    return tf.cond(tf.reduce_min(tf.shape(image)[-3:-1]) >= smallest, measure, missing)
