"""Pictures on canvases of few sizes, since TensorFlow keeps something of each that it meets.

A canvas is larger than its picture, which lies in its upper left; beyond it the picture's last row
and column repeat. Convolutions are to see zeros around the picture all the same, as they do without
a canvas: so a frame of zeros, one pixel wide, is laid around it before each of them, and what comes
out inside is what the picture alone would have given, to the rounding of sums.
"""

import keras
from keras import ops

from cnn_compression.tensors.shapes import repeat_edges

# Sides of canvases are multiples of the step, in pixels of the image, or what pictures often have:
# with tiles of 1024 and what they overlap by, 42 of them. oneDNN keeps a quarter of a megabyte for
# each picture's size that networks like ours meet, and so few sizes are soon all met.
STEP = 32
COMMON_SIDES = (400, 500, 600, 720, 900, 1000)  # multiples of 4, the largest cell


def on_canvas(x, cell=1):
    """Lays a picture on a canvas.

    Args:
        x: `[1, h, w, C]`.
        cell: int: pixels of the image that one of x's is wide and high.

    Returns:
        `[1, .., .., C]`, and x's own height and width.
    """
    size = ops.shape(x)[1:3]
    return repeat_edges(x, size, [_canvas_side(side * cell) // cell for side in size]), size


def _canvas_side(side):
    """The least of the canvases' sides that is not less than one in pixels of the image."""
    least = -(-side // STEP) * STEP
    for common in COMMON_SIDES:
        least = ops.where(side <= common, ops.minimum(least, common), least)
    return least


class Frame:
    """Zeros around a picture on a canvas, at one level of a network.

    Args:
        size: height and width of the picture.
        sides: height and width of the canvas.
    """

    def __init__(self, size, sides):
        (height, width), (rows, columns) = size, sides
        row_end, column_end = ops.minimum(height + 1, rows), ops.minimum(width + 1, columns)
        below = ops.arange(height, row_end)[:, None] * columns + ops.arange(0, column_end)
        beside = ops.arange(0, height)[:, None] * columns + ops.arange(width, column_end)
        # The row below the picture and the column right of it, as far as the canvas reaches.
        self.pixels = ops.concatenate([ops.reshape(n, (-1,)) for n in (below, beside)])
        self._zeros = {}

    def __call__(self, x):
        """`[1, H, W, C]` to the same with zeros around the picture.

        With TensorFlow x is changed in place: for inference in a graph, and where nothing else
        reads what lies around the picture in x.
        """
        depth = x.shape[-1]
        if (depth, x.dtype) not in self._zeros:
            self._zeros[depth, x.dtype] = ops.zeros((ops.shape(self.pixels)[0], depth), x.dtype)
        zeros = self._zeros[depth, x.dtype]
        pixels = ops.reshape(x, (-1, depth))
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # `scatter_update` would copy x, which takes 5 % of the time of a convolution.
            pixels = tf.raw_ops.InplaceUpdate(x=pixels, i=self.pixels, v=zeros)
            # Of one tensor, and not side by side as `ops.shape`: so Grappler knows that the shape
            # stays, and makes convolutions and the sums after them one.
            return tf.reshape(pixels, tf.shape(x))
        return ops.reshape(ops.scatter_update(pixels, self.pixels[:, None], zeros), ops.shape(x))


def no_frame(x):
    """What fills its canvas stays as it is."""
    return x


def frame_at(size, sides, up=1, down=1):
    """The frame at a level of a network where a picture is `up / down` times as large.

    Args:
        size: height and width of the picture, or None where it fills its canvas.
        sides: height and width of the canvas at this level.
        up, down: ints: sides are divided by `down`, rounded up, and multiplied by `up`.

    Returns:
        `Frame` or `no_frame`.
    """
    return Frame([up * -(-side // down) for side in size], sides) if size else no_frame
