"""What moves pixels and leaves them as they are: padding, cropping, squares to channels."""

from keras import ops


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
            before = (slice(None),) * axis
            part, last = x[*before, :end], x[*before, end - 1 : end]
            # Not a gather of rows or pixels, which takes three times as long.
            shape = list(ops.shape(part))
            shape[axis] = side - end
            x = ops.concatenate([part, ops.broadcast_to(last, shape)], axis)
    return x


def mirror_edges(x, pixels, size=None):
    """Puts the mirror image of `[N, H, W, C]` around it, its edge doubled: NumPy's "symmetric".

    Args:
        x: of any height and width, mirrored as often as it takes.
        pixels: int: how much of it.
        size: height and width of the upper left part that is mirrored, where it is not all of x.
            What lies below and right of its mirror image is anything.

    Returns:
        `[N, H + 2 pixels, W + 2 pixels, C]`.
    """
    for axis, end in zip((1, 2), size or ops.shape(x)[1:3], strict=True):
        place = ops.arange(-pixels, ops.shape(x)[axis] + pixels)
        # Nothing below zero is divided: ONNX would round the other way.
        place = ops.maximum(place, -1 - place) % (2 * end)
        x = ops.take(x, ops.minimum(place, 2 * end - 1 - place), axis=axis)
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
