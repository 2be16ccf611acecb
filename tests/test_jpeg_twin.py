"""The twin against the real codec: the pixels, the bits, and the gradients that only it has."""

import numpy as np
import pytest
import skimage.data
import tensorflow as tf

from cnn_compression.jpeg import coding
from cnn_compression.jpeg import twin as jpeg_twin
from cnn_compression.tensors.levels import to_unit

# Order in which a JPEG lists coefficients (T.81, figure A.6): by diagonals, up and down in turn.
ZIGZAG = sorted(range(64), key=lambda k: (s := k // 8 + k % 8, k % 8 if s % 2 == 0 else k // 8))

twin = tf.function(jpeg_twin.jpeg_twin, reduce_retracing=True)


def coded(image, quality):
    """uint8 `[H, W, C]` through the twin: uint8 levels as float, and bits."""
    compact_hat, bits = twin(to_unit(image[None]), tf.constant([quality]))
    return compact_hat.numpy()[0] * 255, float(bits[0])


def tables_of(data):
    """The quantisation tables of a JPEG, read from its DQT segments: id -> 64 in zigzag order."""
    tables, position = {}, 2
    while data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == 0xDB:
            segment = data[position + 4 : position + 2 + length]
            for start in range(0, len(segment), 65):
                tables[segment[start]] = np.frombuffer(segment, np.uint8, 64, start + 1)
        position += 2 + length
    return tables


def test_zigzag_starts_and_ends_as_the_standard_prints_it():
    assert ZIGZAG[:10] == [0, 1, 8, 16, 9, 2, 3, 10, 17, 24] and ZIGZAG[-3:] == [55, 62, 63]


def test_quantisation_steps_are_libjpegs_at_every_quality():
    qualities = np.arange(1, 101)
    luma = np.asarray(jpeg_twin.quantisation_steps(qualities))
    chroma = np.asarray(jpeg_twin.quantisation_steps(qualities, jpeg_twin.CHROMA_TABLE))
    for quality in qualities:
        tables = tables_of(coding.encode(np.zeros((1, 1, 3), np.uint8), quality).numpy())
        np.testing.assert_array_equal(luma[quality - 1][ZIGZAG], tables[0], str(quality))
        np.testing.assert_array_equal(chroma[quality - 1][ZIGZAG], tables[1], str(quality))
    means = np.asarray(jpeg_twin.mean_luma_step(qualities))
    np.testing.assert_allclose(means, luma.mean(axis=-1), rtol=1e-6)
    assert (np.diff(means) <= 0).all() and means[-1] == 1


@pytest.mark.parametrize("quality", [5, 10, 20, 35, 50, 65, 80, 95])
@pytest.mark.parametrize("odd", [False, True])
def test_pixels_are_the_real_codecs(photos, quality, odd):
    """The issue allows 0.5 level in the mean and 2 levels on 99 %: the twin is far inside."""
    for name, photo in photos.items():
        image = photo[:-3, :-5] if odd else photo
        real = coding.decode(coding.encode(image, quality)).numpy().astype(np.float32)
        difference = np.abs(np.round(coded(image, quality)[0]) - real)
        assert difference.mean() <= 0.002, name
        assert (difference <= 2).mean() >= 0.9999, name


@pytest.mark.parametrize(
    "height, width", [(1, 5), (2, 6), (7, 8), (9, 5), (15, 16), (17, 31), (18, 33), (34, 50)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_edges_are_the_real_codecs(photos, height, width, channels):
    """Odd, even and tiny sizes: libjpeg pads luma and chroma in ways of its own."""
    image = photos["coffee"][40 : 40 + height, 100 : 100 + width, :channels]
    for quality in (20, 60, 90):
        real = coding.decode(coding.encode(image, quality)).numpy().astype(np.float32)
        difference = np.abs(np.round(coded(image, quality)[0]) - real)
        assert difference.max() <= 2 and difference.mean() <= 0.05


@pytest.mark.parametrize("size", [(192, 256), (7, 9), (1, 3), (17, 31)])
def test_chroma_of_full_size_is_the_real_codecs(photos, size):
    for name in ("coffee", "astronaut"):
        image = photos[name][: size[0], : size[1]]
        for quality in (10, 50, 90):
            file = coding.encode(image, quality, "4:4:4").numpy()
            compact_hat, bits = jpeg_twin.jpeg_twin(
                image[None] / np.float32(255), np.array([quality]), chroma="4:4:4"
            )
            real = coding.decode(file).numpy().astype(np.float32)
            difference = np.abs(np.round(255 * compact_hat[0]) - real)
            assert difference.max() <= 2 and difference.mean() <= 0.002
            if size == (192, 256):
                assert float(bits[0]) == pytest.approx(8 * len(file), rel=0.2)


def test_hard_edges_and_saturated_colours_are_the_real_codecs():
    """Overshoot that the decoder clips, and chroma at both ends of its range."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[10:40, 7:33], image[30:55, 25:60] = (255, 0, 0), (0, 0, 255)
    image[5:20, 40:] = (255, 255, 255)
    for quality in (5, 30, 75, 95):
        real = coding.decode(coding.encode(image, quality)).numpy().astype(np.float32)
        assert np.abs(np.round(coded(image, quality)[0]) - real).mean() <= 0.01


def large_photos():
    """Photographs of about 512 x 512, colour and grey: headers count little in them."""
    data = skimage.data
    colour = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    grey = [data.camera()[..., None], *[image[..., 1:2] for image in colour]]
    return [image[:512, :512] for image in colour + grey]


def test_bits_are_the_real_codecs():
    real, estimated = [], []
    for image in large_photos():
        for quality in (5, 10, 20, 35, 50, 70, 90, 95):
            real.append(8 * len(coding.encode(image, quality).numpy()))
            estimated.append(coded(image, quality)[1])
    real, estimated = np.array(real), np.array(estimated)
    assert np.corrcoef(real, estimated)[0, 1] >= 0.98
    assert np.corrcoef(np.log(real), np.log(estimated))[0, 1] >= 0.98
    assert abs((estimated / real).mean() - 1) <= 0.1
    of_each_quality = (estimated / real).reshape(-1, 8).mean(axis=0)
    assert (abs(of_each_quality - 1) <= [0.25, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_bits_of_small_photographs_are_right_on_average(photos, channels):
    """The size of compact images, where the headers are a good part of the file."""
    ratios = []
    for photo in photos.values():
        for quality in (10, 30, 60, 90):
            image = photo[:, :, :channels] if photo.shape[-1] >= channels else photo.repeat(3, -1)
            real = 8 * len(coding.encode(image, quality).numpy())
            ratios.append(coded(image, quality)[1] / real)
    assert abs(np.mean(ratios) - 1) <= 0.1


def gradient(image, quality, function):
    """d function(compact_hat, bits) / d compact for float `[N, H, W, C]`."""
    compact = tf.constant(image)
    with tf.GradientTape() as tape:
        tape.watch(compact)
        value = function(*twin(compact, tf.fill([len(image)], quality)))
    return tape.gradient(value, compact).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [1, 100])
@pytest.mark.parametrize("value", [0.0, 0.5, 128 / 255, 1.0, None])
def test_gradients_are_finite(channels, quality, value):
    """On flat images too, where every difference and every coefficient is at the kink of |x|."""
    shape = (2, 19, 16, channels)
    image = np.random.default_rng(0).uniform(-0.1, 1.1, shape).astype(np.float32)
    image = image if value is None else np.full(shape, value, np.float32)
    for function in (lambda hat, bits: tf.reduce_sum(hat**2), lambda hat, bits: sum(bits)):
        assert np.isfinite(gradient(image, quality, function)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_no_gradient_outside_the_range(channels):
    image = np.random.default_rng(1).uniform(-0.3, 1.3, (1, 32, 32, channels)).astype(np.float32)
    outside = (image < 0) | (image > 1)
    assert 0.2 < outside.mean() < 0.6
    for function in (lambda hat, bits: tf.reduce_sum(hat**2), lambda hat, bits: sum(bits)):
        slopes = gradient(image, 90, function)
        assert (slopes[outside] == 0).all()
        assert (slopes[~outside] != 0).mean() > 0.9


def test_what_the_decoder_clips_passes_no_gradient_either():
    """A bright checkerboard at low quality overshoots: there the output is 255 whatever we do."""
    image = np.tile(np.float32([[0, 1], [1, 0]]), (8, 8))[None, :, :, None] * 0.999
    hat = twin(tf.constant(image), [95])[0].numpy()
    saturated = float((hat == 1).mean())
    assert saturated > 0.1
    slopes = gradient(image, 95, lambda hat, bits: tf.reduce_sum(hat))
    assert slopes.sum() < 0.95 * image.size


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [20, 75])
def test_inside_the_range_the_gradient_is_nearly_that_of_the_identity(channels, quality):
    """Rounding is straight through; smooth chroma survives its subsampling."""
    rows, columns = np.mgrid[0:64, 0:64] / 64
    waves = [np.sin(2 * np.pi * (rows + k * columns)) for k in range(channels)]
    direction = np.stack(waves, axis=-1)[None].astype(np.float32)
    image = 0.5 + 0.15 * direction
    slopes = gradient(image, quality, lambda hat, bits: tf.reduce_sum(hat * direction))
    cosine = np.sum(slopes * direction) / np.linalg.norm(slopes) / np.linalg.norm(direction)
    assert cosine > 0.98
    assert np.sum(slopes * direction) / np.sum(direction**2) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_bits_gradient_points_to_fewer_real_bits(photos, quality):
    """A step of about one level against it makes the real file smaller, not only the estimate."""
    image = photos["chelsea"][:128, :128]
    compact = to_unit(image[None]).numpy()
    slopes = gradient(compact, quality, lambda hat, bits: bits[0])
    smaller = np.clip(compact[0] - 0.005 * slopes[0] / np.sqrt((slopes**2).mean()), 0, 1)
    smaller = np.round(smaller * 255).astype(np.uint8)
    before, after = (len(coding.encode(x, quality).numpy()) for x in (image, smaller))
    assert after < 0.98 * before


def test_more_quality_costs_more_bits_and_errs_less(photos):
    image = photos["chelsea"]
    qualities = (1, 10, 30, 50, 70, 90, 100)
    results = [coded(image, quality) for quality in qualities]
    bits = [bits for _, bits in results]
    errors = [np.mean((hat - image) ** 2) for hat, _ in results]
    assert bits == sorted(bits) and errors == sorted(errors, reverse=True)


def test_grey_items_are_what_the_one_channel_twin_makes_of_their_luma(photos):
    grey = to_unit(photos["camera"][None]).numpy()
    colour = to_unit(photos["coffee"][None]).numpy()
    batch = np.concatenate([grey.repeat(3, axis=-1), colour])
    hats, bits = twin(batch, [40, 40], tf.constant([True, False]))
    for item, image in ((0, grey), (1, colour)):
        hat, size = twin(image, [40])
        np.testing.assert_allclose(hats[item], np.broadcast_to(hat[0], hats[item].shape), atol=1e-6)
        np.testing.assert_allclose(bits[item], size[0], rtol=1e-5)


def test_a_coloured_item_marked_grey_loses_its_colour_and_their_gradient(photos):
    image = to_unit(photos["rocket"][None, :64, :64]).numpy()
    with tf.GradientTape() as tape:
        compact = tf.constant(image)
        tape.watch(compact)
        hat, bits = twin(compact, [60], tf.constant([True]))
        red_minus_blue = tf.reduce_sum(hat[..., 0] - hat[..., 2])
    hat = hat.numpy()
    np.testing.assert_array_equal(hat[..., 0], hat[..., 2])
    np.testing.assert_allclose(tape.gradient(red_minus_blue, compact), 0, atol=1e-5)
    luma = np.round(image @ [[0.299], [0.587], [0.114]] * 255) / 255
    one_channel, size = twin(luma.astype(np.float32), [60])
    assert np.abs(hat[..., :1] - one_channel).mean() < 0.5 / 255
    np.testing.assert_allclose(bits, size, rtol=0.01)


def test_items_of_a_batch_do_not_touch_each_other(photos):
    batch = to_unit(np.stack([photos["coffee"], photos["rocket"], photos["chelsea"]]))
    hats, bits = twin(batch, [10, 50, 90])
    for item, quality in enumerate((10, 50, 90)):
        hat, size = twin(batch[item : item + 1], [quality])
        np.testing.assert_allclose(hats[item], hat[0], atol=1e-6)
        np.testing.assert_allclose(bits[item], size[0], rtol=1e-5)


def test_sizes_known_only_at_run_time(photos):
    run = tf.function(
        jpeg_twin.jpeg_twin,
        input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None,), tf.int32)],
    )
    for height, width in ((33, 47), (64, 16)):
        image = to_unit(photos["coffee"][None, :height, :width])
        hat, bits = run(image, [50])
        want, size = jpeg_twin.jpeg_twin(image, np.array([50]))
        np.testing.assert_allclose(hat, want, atol=1e-6)
        np.testing.assert_allclose(bits, size, rtol=1e-5)
