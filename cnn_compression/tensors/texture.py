"""How much of a picture's texture goes where it is reduced."""

from keras import ops

from cnn_compression.tensors.resampling import downsample
from cnn_compression.tensors.shapes import crop, pad_to_multiple


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
