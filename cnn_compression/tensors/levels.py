"""Whole levels of [0, 255] at every edge, float32 in [0, 1] inside: from one to the other."""

from keras import ops


def to_unit(image):
    """uint8 `[..., C]` in [0, 255] to float32 in [0, 1]: the one way into the networks."""
    return ops.cast(image, "float32") / 255.0


def to_uint8(image):
    """float `[..., C]` in [0, 1] to uint8 in [0, 255], rounded and clipped: the one way out."""
    return ops.cast(ops.clip(ops.round(ops.cast(image, "float32") * 255.0), 0, 255), "uint8")


def straight_through_round(x, bias=0.5):
    """floor(x + bias); the gradient is that of the identity (Bengio et al. 1308.3432)."""
    return x + ops.stop_gradient(ops.floor(x + bias) - x)


def mean_squared_error(image, image_hat):
    """Two float `[N, H, W, C]` in [0, 1] to float32 `[N]`, in squared levels of [0, 255]."""
    return ops.mean(ops.square(255.0 * (image - image_hat)), axis=(1, 2, 3))
