"""Pictures of any size through networks that see a neighbourhood: memory stays that of a tile.

Tiles overlap by what the network sees beyond a pixel, and start where its blocks do, so that what
is kept of each is what the whole picture would have given.
"""

import tensorflow as tf

# Cells between the places where a tile may start: JPEG's units of 16 x 16 pixels at 4:2:0, and with
# them the blocks of its DCT, lie in a tile as they lie in the picture.
ALIGNMENT = 16
_PIXELS_TILE = 512  # a side: what is made of so many pixels on the way is a few megabytes


def map_tiles(
    function, x, sides, cell_in, cell_out, overlap, tile, depth=None, dtype=tf.uint8, report=None
):
    """What a function of neighbourhoods makes of a picture, one tile after the other.

    What goes in and what comes out consist of the same cells, `cell_in` and `cell_out` pixels a
    side; those at the right and lower edge may be cut. Tiles are as equal as `ALIGNMENT` allows.

    Args:
        function: of a part of x, `[1, h, w, C]`, to as many cells, `[1, .., .., D]`, whole or cut
            as they came.
        x: `[H, W, C]`.
        sides: height and width of what comes out, int32 scalars.
        cell_in, cell_out: ints.
        overlap: int: cells that `function` looks at beyond a cell, on each side.
        tile: int: cells of a tile's side at most, besides the overlap; divides by `ALIGNMENT`.
        depth: D, where it is not C.
        dtype: of what comes out.
        report: None, or called after each tile with how many are done, and of how many.

    Returns:
        `[*sides, D]`.
    """
    overlap = _aligned(overlap)
    lengths = [-(-side // cell_out) for side in sides]
    steps = [_aligned(-(-length // -(-length // tile))) for length in lengths]
    counts = [-(-length // step) for length, step in zip(lengths, steps, strict=True)]

    def one_tile(*place):
        taken, kept = [], []
        for number, step, length, side in zip(place, steps, lengths, sides, strict=True):
            start, end = number * step, tf.minimum((number + 1) * step, length)
            first, last = tf.maximum(start - overlap, 0), tf.minimum(end + overlap, length)
            taken.append(slice(first * cell_in, last * cell_in))
            pixels = start * cell_out, tf.minimum(end * cell_out, side)
            kept.append(slice(*(pixel - first * cell_out for pixel in pixels)))
        y = function(x[None, taken[0], taken[1]])[0, kept[0], kept[1]]
        if report is not None:
            with tf.control_dependencies([y]):
                done = place[0] * counts[1] + place[1] + 1
                tf.numpy_function(report, [done, counts[0] * counts[1]], [])
        return y

    def one_row(row):
        """The tiles of a row side by side: columns come first until they are joined."""
        tiles = tf.TensorArray(dtype, counts[1], infer_shape=False, element_shape=[None] * 3)
        tiles = _loop(
            lambda column, tiles: tiles.write(
                column, tf.transpose(one_tile(row, column), (1, 0, 2))
            ),
            counts[1],
            tiles,
        )
        return tf.transpose(tiles.concat(), (1, 0, 2))

    def put_row(row, whole):
        strip = one_row(row)
        first = row * steps[0] * cell_out
        rows = tf.range(first, first + tf.shape(strip)[0])
        # In place: the ops of TensorFlow that copy would take the memory of the picture once more.
        return tf.raw_ops.InplaceUpdate(x=whole, i=rows, v=strip)

    shape = tf.stack([*sides, tf.shape(x)[-1] if depth is None else depth])
    # Floats are cleared: what happens to lie in memory may be a NaN, for which a host can have
    # TensorFlow look (`tf.debugging.enable_check_numerics`).
    empty = tf.raw_ops.Empty(shape=shape, dtype=dtype, init=dtype.is_floating)
    return _loop(put_row, counts[0], empty)


def map_pixels(function, x, depth=None):
    """What a function of single pixels makes of a picture, tile by tile, as `map_tiles`.

    Args:
        function: of a part of x, `[1, h, w, C]`, to uint8 `[1, h, w, D]`.
        x: `[H, W, C]`, neither side 0.
        depth: D, where it is not C.

    Returns:
        uint8 `[H, W, D]`.
    """
    return map_tiles(function, x, tf.unstack(tf.shape(x)[:2]), 1, 1, 0, _PIXELS_TILE, depth)


def _aligned(cells):
    return -(-cells // ALIGNMENT) * ALIGNMENT


def _loop(step, count, state):
    """`state` after `step(number, state)` for each number below `count`."""
    _, state = tf.while_loop(
        lambda number, _: number < count,
        lambda number, state: (number + 1, step(number, state)),
        (tf.constant(0), state),
        parallel_iterations=1,
    )
    return state
