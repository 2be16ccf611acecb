"""Functions of tensors against brute force, inverses and TensorFlow's own resampling."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.tensors import colour, dct, levels, resampling, shapes, texture

RNG = np.random.default_rng(0)


def dct_by_definition(block):
    """ITU-T T.81, A.3.3, sum by sum."""
    out = np.zeros((8, 8))
    for v in range(8):
        for u in range(8):
            total = 0.0
            for y in range(8):
                for x in range(8):
                    wave = np.cos((2 * x + 1) * u * np.pi / 16) * np.cos(
                        (2 * y + 1) * v * np.pi / 16
                    )
                    total += block[y, x] * wave
            out[v, u] = total / 4 * np.sqrt(0.5) ** ((u == 0) + (v == 0))
    return out


def grid(height, width, channels=1, batch=1):
    """float32 `[batch, height, width, channels]` of random levels, deterministic."""
    shape = (batch, height, width, channels)
    return np.random.default_rng(height * width).uniform(0, 255, shape).astype(np.float32)


def test_to_unit_and_to_uint8_are_inverse_on_all_levels():
    whole = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    unit = levels.to_unit(whole)
    assert keras.backend.standardize_dtype(unit.dtype) == "float32"
    assert (float(unit[0, 0, 0, 0]), float(unit[0, -1, -1, 0])) == (0.0, 1.0)
    np.testing.assert_array_equal(levels.to_uint8(unit), whole)


def test_to_uint8_rounds_to_the_nearest_level_and_clips():
    values = np.array([-1e9, -0.1, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 1.1, 1e9])
    np.testing.assert_array_equal(levels.to_uint8(values), [0, 0, 0, 1, 254, 255, 255, 255])
    np.testing.assert_array_equal(
        levels.to_uint8(tf.constant([0.5, 2.0], tf.bfloat16)), np.array([128, 255], np.uint8)
    )


@pytest.mark.parametrize("bias", [0.5, 0.25, 7 / 16])
def test_straight_through_round(bias):
    x = tf.constant(np.arange(-4, 4.01, 1 / 16), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = levels.straight_through_round(x, bias)
    np.testing.assert_array_equal(y, np.floor(x.numpy() + bias))
    # Also at integers and half-integers, where rounding itself jumps.
    np.testing.assert_array_equal(tape.gradient(y, x), np.ones_like(x))


def test_straight_through_round_gives_whole_numbers_anywhere_in_the_range():
    x = RNG.uniform(-2000, 2000, 100_000).astype(np.float32)
    y = np.asarray(levels.straight_through_round(x))
    np.testing.assert_array_equal(y, np.round(y))
    assert np.abs(y - x).max() <= 0.5


@pytest.mark.parametrize("height, width", [(1, 1), (1, 7), (3, 2), (8, 16), (9, 17)])
@pytest.mark.parametrize("multiple", [1, 2, 16])
def test_pad_repeats_edges_and_crop_undoes_it(height, width, multiple):
    x = grid(height, width, 3, batch=2)
    padded = np.asarray(shapes.pad_to_multiple(x, multiple))
    down, right = -height % multiple, -width % multiple
    expected = np.pad(x, ((0, 0), (0, down), (0, right), (0, 0)), mode="edge")
    np.testing.assert_array_equal(padded, expected)
    np.testing.assert_array_equal(shapes.crop(padded, height, width), x)


def test_pad_resample_and_crop_with_sizes_known_only_at_run_time():
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def run(x):
        padded = shapes.pad_to_multiple(x, 2)
        small = resampling.downsample(padded, 2)
        height, width = keras.ops.shape(x)[1:3]
        return padded, [
            shapes.crop(up(small), height, width)
            for up in (resampling.upsample_bicubic, resampling.upsample_triangle)
        ]

    for height, width in [(1, 1), (5, 4), (6, 9)]:
        x = grid(height, width, 3)
        padded, upsampled = run(x)
        np.testing.assert_array_equal(padded, shapes.pad_to_multiple(x, 2))
        small = resampling.downsample(shapes.pad_to_multiple(x, 2), 2)
        expected = [resampling.upsample_bicubic(small), resampling.upsample_triangle(small)]
        for got, want in zip(upsampled, expected, strict=True):
            np.testing.assert_allclose(got, want[:, :height, :width], atol=1e-4)


@pytest.mark.parametrize(
    "rgb, ycc",
    [
        ((0, 0, 0), (0, 128, 128)),
        ((255, 255, 255), (255, 128, 128)),
        ((255, 0, 0), (76.245, 84.97, 255.5)),
        ((0, 255, 0), (149.685, 43.53, 21.23)),
        ((0, 0, 255), (29.07, 255.5, 107.27)),
    ],
)
def test_known_colours(rgb, ycc):
    np.testing.assert_allclose(colour.rgb_to_ycc(np.array([rgb], np.float32))[0], ycc, atol=0.01)
    np.testing.assert_allclose(colour.luma(np.array([rgb], np.float32))[0], ycc[:1], atol=0.01)


def test_colour_transforms_are_inverse():
    rgb = grid(40, 50, 3)
    np.testing.assert_allclose(colour.ycc_to_rgb(colour.rgb_to_ycc(rgb)), rgb, atol=0.01)


def test_grey_has_no_chroma_and_its_own_luma_to_the_bit():
    grey = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
    ycc = np.asarray(colour.rgb_to_ycc(grey))
    np.testing.assert_array_equal(ycc, np.stack([grey[:, 0], *[np.full(256, 128.0)] * 2], axis=1))
    np.testing.assert_array_equal(colour.luma(grey), grey[:, :1])


@pytest.mark.parametrize("factor", [2, 4])
def test_downsample_is_the_mean_of_squares(factor):
    x = grid(8, 12, 3, batch=2)
    expected = np.zeros((2, 8 // factor, 12 // factor, 3))
    for i in range(factor):
        for j in range(factor):
            expected += x[:, i::factor, j::factor] / factor**2
    np.testing.assert_allclose(resampling.downsample(x, factor), expected, rtol=1e-5)


def squares(x, size):
    """`[H, W, C]` to its squares, `[H / size, W / size, size, size, C]`."""
    height, width, channels = x.shape
    x = x.reshape(height // size, size, width // size, size, channels)
    return x.swapaxes(1, 2)


def texture_of(images, size):
    return texture.fine_texture(texture.texture_squares(images), size)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size, shape", [(2, (32, 48)), (4, (32, 48)), (2, (21, 3)), (4, (1, 1))])
def test_fine_texture_is_detail_over_contrast(size, shape, channels):
    images = np.random.default_rng(1).random((2, *shape, channels), np.float32)
    images[1] = images[1] ** 2
    expected = []
    for image in images:
        whole = image[: max(shape[0] // 16, 1) * 16, : max(shape[1] // 16, 1) * 16]
        padded = np.pad(whole, [*((0, -side % 16) for side in whole.shape[:2]), (0, 0)], "edge")
        finer = squares(padded, size // 2).mean(axis=(2, 3)) if size > 2 else padded
        detail = squares(finer, 2).var(axis=(2, 3)).mean()
        contrast = squares(squares(padded, 2).mean(axis=(2, 3)), 8).std(axis=(2, 3)).mean()
        expected.append(detail / max(contrast, 1 / 255))
    texture = texture_of(images, size)
    np.testing.assert_allclose(texture, expected, rtol=1e-3, atol=1e-6)
    unknown = tf.function(
        lambda x: texture_of(x, size), [tf.TensorSpec([None] * 3 + [channels], tf.float32)]
    )
    np.testing.assert_allclose(unknown(images), texture, rtol=1e-4)


def test_fine_texture_does_not_hang_on_a_last_row():
    image = np.random.default_rng(1).random((1, 33, 49, 3), np.float32)
    of_all, of_whole = texture.texture_squares(image), texture.texture_squares(image[:, :32, :48])
    np.testing.assert_array_equal(of_all, of_whole)


def test_fine_texture_tells_noise_from_edges():
    random = np.random.default_rng(1)
    edges = np.kron(random.random((8, 8, 1)) > 0.5, np.ones((9, 9, 1)))  # off the grid of 2 x 2
    edges = edges[:64, :64].astype(np.float32)
    lost = squares(edges, 2).std(axis=(2, 3)).mean() ** 0.5
    noise = (0.5 + lost * random.standard_normal((64, 64, 1))).astype(np.float32)
    of_edges, of_noise, of_flat = (
        float(texture_of(x[None], 2)[0]) for x in (edges, noise, np.full_like(edges, 0.7))
    )
    assert 0 <= of_flat < 1e-4 < of_edges < of_noise / 2


UPSAMPLERS = [resampling.upsample_bicubic, resampling.upsample_triangle]


@pytest.mark.parametrize("upsample", UPSAMPLERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (6, 4)])
def test_upsampling_keeps_constants_up_to_the_edges(upsample, size):
    x = np.full((2, *size, 3), 0.7, np.float32)
    y = np.asarray(upsample(x))
    assert y.shape == (2, 2 * size[0], 2 * size[1], 3)
    np.testing.assert_allclose(y, 0.7, atol=1e-6)


@pytest.mark.parametrize("upsample", UPSAMPLERS)
def test_upsampling_keeps_ramps_inside(upsample):
    row, column = np.mgrid[0:12, 0:10].astype(np.float32)
    y = np.asarray(upsample((3 * row - 2 * column)[None, :, :, None]))[0, :, :, 0]
    # The centre of output pixel i lies over input coordinate (i + 1/2) / 2 - 1/2.
    row, column = (np.mgrid[0:24, 0:20] + 0.5) / 2 - 0.5
    inside = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(y[inside], (3 * row - 2 * column)[inside], atol=1e-4)


@pytest.mark.parametrize("upsample", UPSAMPLERS)
def test_upsampling_treats_both_axes_alike(upsample):
    x = grid(7, 5)
    transposed = np.asarray(upsample(x.transpose(0, 2, 1, 3))).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(transposed, upsample(x), atol=1e-3)


def test_bicubic_is_tensorflows_inside():
    x = grid(11, 9, 3, batch=2)
    expected = tf.image.resize(x, (22, 18), "bicubic").numpy()
    ours = np.asarray(resampling.upsample_bicubic(x))
    np.testing.assert_allclose(ours[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-2)


def test_triangle_is_libjpegs_fancy_upsampling():
    x = grid(5, 7)[0, :, :, 0]
    expected = np.zeros((10, 14))
    for i in range(10):
        for j in range(14):
            near, far = (i // 2, j // 2), (i // 2 + (i % 2) * 2 - 1, j // 2 + (j % 2) * 2 - 1)
            far = (min(max(far[0], 0), 4), min(max(far[1], 0), 6))
            expected[i, j] = (
                9 * x[near] + 3 * x[far[0], near[1]] + 3 * x[near[0], far[1]] + x[far]
            ) / 16
    ours = resampling.upsample_triangle(x[None, :, :, None])[0, :, :, 0]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_dct_is_the_definitions_to_the_eighth():
    plane = np.round(grid(16, 24, batch=2)) - 128
    coefficients = np.asarray(dct.block_dct(plane))
    assert coefficients.shape == (2, 2, 3, 64)
    np.testing.assert_array_equal(8 * coefficients, np.round(8 * coefficients))
    for n, i, j in np.ndindex(2, 2, 3):
        block = plane[n, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8, 0]
        expected = dct_by_definition(block)
        # libjpeg rounds twice: to 1 / (4 sqrt(8)) after the rows and to 1/8 in the end.
        np.testing.assert_allclose(coefficients[n, i, j].reshape(8, 8), expected, atol=0.25)


def test_dct_is_nearly_orthonormal():
    """Energies agree, but for the rounding to eighths and 13-bit constants."""
    plane = np.round(grid(64, 64)) - 128
    energy = np.sum(np.asarray(dct.block_dct(plane), np.float64) ** 2)
    np.testing.assert_allclose(energy, np.sum(plane.astype(np.float64) ** 2), rtol=1e-4)


def test_dct_of_a_constant_is_its_first_coefficient():
    coefficients = np.asarray(dct.block_dct(np.full((1, 8, 8, 1), 100, np.float32)))[0, 0, 0]
    np.testing.assert_array_equal(coefficients, [800] + [0] * 63)


def test_idct_is_the_inverse():
    plane = np.round(grid(32, 24, batch=2)) - 128
    restored = np.asarray(dct.block_idct(dct.block_dct(plane)))
    # Below one half: rounded pixels come back as they were.
    np.testing.assert_allclose(restored, plane, atol=0.5)
    assert np.abs(restored - plane).mean() < 0.1


def test_dct_passes_gradients_through_both_roundings():
    x = tf.constant(grid(8, 16) - 128)
    direction = grid(16, 8).reshape(1, 8, 16, 1) - 128
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dct.block_idct(dct.block_dct(x))
        loss = tf.reduce_sum(y * direction)
    np.testing.assert_allclose(tape.gradient(loss, x), direction, rtol=1e-2, atol=0.1)


def test_map_blocks_is_each_block_by_its_items_matrix():
    rng = np.random.default_rng(5)
    plane = rng.normal(size=(2, 16, 24, 1)).astype(np.float32)
    matrices = rng.normal(size=(2, 64, 64)).astype(np.float32)
    mapped = np.asarray(dct.map_blocks(plane, matrices))
    for item, top, left in [(0, 0, 0), (0, 8, 16), (1, 8, 8)]:
        block = plane[item, top : top + 8, left : left + 8].reshape(64)
        expected = (matrices[item] @ block).reshape(8, 8, 1)
        found = mapped[item, top : top + 8, left : left + 8]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_block_dct_matrix_is_orthonormal_and_libjpegs():
    np.testing.assert_allclose(dct.BLOCK_DCT @ dct.BLOCK_DCT.T, np.eye(64), atol=1e-6)
    plane = np.random.default_rng(6).integers(-128, 128, (1, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(
        dct.BLOCK_DCT @ plane.reshape(64), dct.block_dct(plane)[0, 0, 0], atol=0.3
    )
