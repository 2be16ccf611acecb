"""Tiles cover a picture once, overlap by what a function sees, and change nothing it gives."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.tensors.tiles import ALIGNMENT, map_pixels, map_tiles

SIZES = [(1, 1), (15, 70), (16, 32), (33, 31), (64, 64), (65, 129), (100, 37)]


def picture(height, width, channels=3):
    random = np.random.default_rng(1)
    return tf.constant(random.integers(0, 256, (height, width, channels), np.uint8))


def local_maximum(x, reach):
    """Of all pixels up to `reach` away, inside the picture."""
    side = 2 * reach + 1
    return tf.cast(tf.nn.max_pool2d(tf.cast(x, tf.float32), side, 1, "SAME"), tf.uint8)


@pytest.mark.parametrize("reach", [0, 1, 16, 20])
@pytest.mark.parametrize("size", SIZES)
def test_a_neighbourhood_is_seen_as_far_as_the_overlap(size, reach):
    x = picture(*size)
    tiled = map_tiles(lambda part: local_maximum(part, reach), x, size, 1, 1, reach, 32)
    np.testing.assert_array_equal(tiled, local_maximum(x[None], reach)[0])


def test_what_lies_beyond_the_overlap_is_not_seen():
    x = tf.cast(tf.reshape(tf.range(64 * 64) // 64, [64, 64, 1]), tf.uint8)  # rows' numbers
    tiled = map_tiles(lambda part: local_maximum(part, 40), x, (64, 64), 1, 1, 1, 32)
    rows = tiled.numpy()[:, 0, 0].tolist()
    assert rows == [min(row + 40, 47) for row in range(32)] + [63] * 32


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", SIZES)
def test_sides_shrink_and_grow_by_cells(size, scale):
    """Every `scale`-th pixel, and each pixel `scale` times: the last cells are cut."""
    x = picture(*size)
    cells = [-(-side // scale) for side in size]
    shrunk = map_tiles(lambda part: part[:, ::scale, ::scale], x, cells, scale, 1, 3, 32)
    np.testing.assert_array_equal(shrunk, x[::scale, ::scale])

    def grow(part):
        return tf.repeat(tf.repeat(part, scale, axis=1), scale, axis=2)

    grown = map_tiles(grow, shrunk, size, 1, scale, 3, 32)
    np.testing.assert_array_equal(grown, grow(shrunk[None])[0, : size[0], : size[1]])


@pytest.mark.parametrize("size", SIZES)
def test_tiles_are_aligned_bounded_and_reported_in_turn(size):
    places, reports = [], []
    height, width = size
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width, 1)

    def look(part):
        def note(first, rows, columns):
            places.append((*divmod(int(first), width), int(rows), int(columns)))

        tf.numpy_function(note, [part[0, 0, 0, 0], *tf.unstack(tf.shape(part)[1:3])], [])
        return part

    def report(done, count):
        reports.append((int(done), int(count)))

    @tf.function
    def run(x):
        return map_tiles(look, x, size, 1, 1, 0, 32, dtype=tf.int32, report=report)

    np.testing.assert_array_equal(run(tf.constant(numbers)), numbers)
    count = -(-height // 32) * -(-width // 32)
    assert reports == [(number + 1, count) for number in range(count)]
    assert (
        len(places) == count and sum(rows * columns for *_, rows, columns in places) == numbers.size
    )
    for top, left, rows, columns in places:
        assert top % ALIGNMENT == left % ALIGNMENT == 0
        assert max(rows, columns) <= 32


def test_of_unknown_sizes_in_a_graph():
    x = picture(70, 40)
    run = tf.function(
        lambda x: map_tiles(
            lambda part: local_maximum(part, 2), x, tf.unstack(tf.shape(x)[:2]), 1, 1, 2, 16
        ),
        [tf.TensorSpec([None] * 3, tf.uint8)],
    )
    np.testing.assert_array_equal(run(x), local_maximum(x[None], 2)[0])


@pytest.mark.parametrize("size", [(1, 1), (3, 1700), (513, 512), (1025, 700)])
def test_pixels_are_mapped_a_tile_at_a_time(size):
    x = tf.cast(picture(*size), tf.uint16) * 257
    parts = []

    def with_sum(part):
        tf.numpy_function(lambda height, width: parts.append((height, width)),
                          tf.unstack(tf.shape(part)[1:3]), [])  # fmt: skip
        total = tf.reduce_sum(tf.cast(part, tf.int32), axis=-1, keepdims=True)
        return tf.cast(tf.concat([part // 257, tf.cast(total // 771, tf.uint16)], -1), tf.uint8)

    mapped = tf.function(lambda x: map_pixels(with_sum, x, depth=4))(x)
    assert mapped.dtype == tf.uint8
    np.testing.assert_array_equal(mapped[..., :3], x // 257)
    np.testing.assert_array_equal(mapped[..., 3], x.numpy().sum(-1, dtype=int) // 771)
    assert max(max(part) for part in parts) <= 512
    assert sum(height * width for height, width in parts) == size[0] * size[1]
