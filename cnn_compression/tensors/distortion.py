"""How far a restored image is from its original: what a model is trained to keep small.

Every distortion takes two float images `[N, H, W, C]` in [0, 1] and gives float32 `[N]` in squared
levels of [0, 255], or in what stands for them, so that one lambda weighs bits against any of them.
"""

from keras import ops

from cnn_compression.tensors.colour import rgb_to_ycc
from cnn_compression.tensors.levels import mean_squared_error

# SSIM's windows: pixels a side, every second one along each side; and its constants K1, K2.
_WINDOW, _STRIDE, _K1, _K2 = 7, 2, 0.01, 0.03
_SCALES = 4
# Of luma and of both chroma together.
_WEIGHTS = (0.8, 0.1, 0.1)
_SQUARED_ERROR, _UNLIKENESS = 0.15, 800.0


def eyes(image, image_hat):
    """What eyes see: squared error, and how unlike the structure is at several sizes.

    1 - SSIM (Wang et al., IEEE TIP 13(4), 2004, eq. 13) of luma and chroma over windows of 7 x 7,
    at full size and at a half, a quarter and an eighth, mean of the sizes. Errors hide in texture,
    and texture that is washed out counts, which squared error does not see.
    """
    unlikeness = 0.0
    x, y = (_channels(each) for each in (image, image_hat))
    for _ in range(_SCALES):
        unlikeness += ops.mean(1.0 - _ssim(x, y), axis=(1, 2)) / _SCALES
        x, y = (ops.average_pool(each, 2, 2, "same") for each in (x, y))
    weights = _WEIGHTS if image.shape[-1] == 3 else _WEIGHTS[:1]
    unlikeness = ops.sum(unlikeness * ops.convert_to_tensor(weights, "float32"), axis=-1)
    return _SQUARED_ERROR * mean_squared_error(image, image_hat) + _UNLIKENESS * unlikeness


def absolute(image, image_hat):
    """Mean absolute error, in levels; times 10, which is about their square where errors matter."""
    return 10.0 * 255.0 * ops.mean(ops.abs(image - image_hat), axis=(1, 2, 3))


DISTORTIONS = {"mse": mean_squared_error, "absolute": absolute, "eyes": eyes}


def _channels(image):
    """Y, Cb and Cr around zero, or luma, in levels."""
    levels = 255.0 * ops.cast(image, "float32")
    return rgb_to_ycc(levels) - 128.0 if image.shape[-1] == 3 else levels - 128.0


def _ssim(x, y):
    """Of each channel in each window."""

    def mean(z):
        return ops.average_pool(z, _WINDOW, _STRIDE, "same")

    x_mean, y_mean = mean(x), mean(y)
    x_variance, y_variance = mean(x * x) - x_mean**2, mean(y * y) - y_mean**2
    covariance = mean(x * y) - x_mean * y_mean
    c1, c2 = (_K1 * 255.0) ** 2, (_K2 * 255.0) ** 2
    structure = (2.0 * covariance + c2) / (x_variance + y_variance + c2)
    x_mean, y_mean = x_mean + 128.0, y_mean + 128.0
    return structure * (2.0 * x_mean * y_mean + c1) / (x_mean**2 + y_mean**2 + c1)
