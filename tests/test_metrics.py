import numpy as np
import pytest
import skimage.metrics
import tensorflow as tf

from cnn_compression.tensors import metrics


def noisy(image, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def gaussian():
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * 1.5**2))
    return window / window.sum()


def brute_force_ssim(a, b):
    """Mean SSIM and mean contrast-structure, a channel at a time: `[C]` and `[C]`."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    weights = gaussian()[:, :, None]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim, contrast = [], []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = (weights * x).sum((0, 1)), (weights * y).sum((0, 1))
            vx = (weights * (x - mx) ** 2).sum((0, 1))
            vy = (weights * (y - my) ** 2).sum((0, 1))
            cov = (weights * (x - mx) * (y - my)).sum((0, 1))
            contrast.append((2 * cov + c2) / (vx + vy + c2))
            ssim.append((2 * mx * my + c1) / (mx**2 + my**2 + c1) * contrast[-1])
    return np.mean(ssim, 0), np.mean(contrast, 0)


def halved(image):
    """2×2 means, an odd side first repeated at its end."""
    image = np.pad(image, [(0, side % 2) for side in image.shape[:2]] + [(0, 0)], "symmetric")
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def brute_force_ms_ssim(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    product = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        ssim, contrast = brute_force_ssim(a, b)
        product = product * np.maximum(ssim if scale == 4 else contrast, 0) ** weight
        a, b = halved(a), halved(b)
    return product.mean()


@pytest.mark.parametrize("name", ["astronaut", "camera"])
def test_identical_images_are_perfect(photos, name):
    image = photos[name]
    assert metrics.psnr(image, image) == np.inf
    assert metrics.ssim(image, image) == 1
    assert metrics.ms_ssim(image, image) == 1


def test_psnr_is_the_mean_square_error_in_decibels(photos):
    image = photos["coffee"]
    restored = noisy(image, 12)
    error = np.mean((image.astype(float) - restored) ** 2)
    np.testing.assert_allclose(metrics.psnr(image, restored), 10 * np.log10(255**2 / error), 1e-5)


def test_black_against_white_is_zero_decibels():
    black = np.zeros([16, 16, 3], np.uint8)
    assert metrics.psnr(black, 255 - black) == 0


@pytest.mark.parametrize("name", ["chelsea", "camera"])
def test_ssim_is_the_brute_force_one(photos, name):
    image = photos[name][:40, :31]
    restored = noisy(image, 20)
    expected = brute_force_ssim(image, restored)[0].mean()
    np.testing.assert_allclose(metrics.ssim(image, restored), expected, atol=1e-4)


def test_ms_ssim_is_the_brute_force_one(photos):
    image = photos["rocket"][:163, :161, :1]  # odd sides are padded before each halving
    restored = noisy(image, 30)
    expected = brute_force_ms_ssim(image, restored)
    assert expected < 0.95
    np.testing.assert_allclose(metrics.ms_ssim(image, restored), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["astronaut", "camera"])
@pytest.mark.parametrize("sigma", [5, 40])
def test_agrees_with_scikit_image(photos, name, sigma):
    image = photos[name]
    restored = noisy(image, sigma)
    expected, by_window = skimage.metrics.structural_similarity(
        image,
        restored,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    np.testing.assert_allclose(metrics.ssim(image, restored), by_window[5:-5, 5:-5].mean(), 1e-4)
    # Its own mean takes in the 2 to 5 pixels of border where its window hangs over the edge.
    np.testing.assert_allclose(metrics.ssim(image, restored), expected, atol=0.01)
    np.testing.assert_allclose(
        metrics.psnr(image, restored),
        skimage.metrics.peak_signal_noise_ratio(image, restored),
        rtol=1e-5,
    )


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim, metrics.ms_ssim])
def test_more_noise_scores_lower(photos, measure):
    image = photos["coffee"]
    scores = [float(measure(image, noisy(image, sigma))) for sigma in (2, 8, 32, 96)]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim, metrics.ms_ssim])
def test_a_batch_scores_as_its_images_do(photos, measure):
    batch = np.stack([photos["astronaut"], photos["chelsea"]])
    restored = noisy(batch, 25)
    scores = measure(batch, restored)
    assert scores.shape == [2] and scores.dtype == tf.float32
    alone = [measure(*pair) for pair in zip(batch, restored, strict=True)]
    np.testing.assert_allclose(scores, alone, 1e-5)


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim, metrics.ms_ssim])
def test_sizes_unknown_when_traced(photos, measure):
    spec = tf.TensorSpec([None, None, None, None], tf.uint8)
    traced = tf.function(measure, input_signature=[spec, spec])
    batch = photos["astronaut"][None]
    restored = noisy(batch, 25)
    np.testing.assert_allclose(traced(batch, restored), measure(batch, restored), 1e-5)
    small = batch[:, :10]
    np.testing.assert_allclose(
        traced(small, restored[:, :10]), measure(small, restored[:, :10]), 1e-5
    )


@pytest.mark.parametrize(
    "measure, smallest",
    [(metrics.ssim, metrics.SMALLEST_SSIM), (metrics.ms_ssim, metrics.SMALLEST_MS_SSIM)],
)
def test_too_small_an_image_has_no_value(photos, measure, smallest):
    image = photos["astronaut"]
    fits = image[:smallest, :smallest]
    assert np.isfinite(measure(fits, noisy(fits, 9)))
    for too_small in (image[: smallest - 1, :smallest], image[:smallest, : smallest - 1]):
        assert np.isnan(measure(too_small, too_small))
        batch = np.stack([too_small] * 3)
        assert np.isnan(measure(batch, batch)).tolist() == [True] * 3
        in_graph = tf.function(measure)
        assert np.isnan(in_graph(tf.constant(batch), tf.constant(batch))).tolist() == [True] * 3


@pytest.mark.parametrize("other", [(300, 8, 1), (256, 8, 3), (256, 9, 1)])
def test_sizes_that_differ_are_found_in_the_graph_too(other):
    spec = tf.TensorSpec([None, None, None], tf.uint8)
    traced = tf.function(metrics.psnr, input_signature=[spec, spec])
    image = tf.zeros((256, 8, 1), tf.uint8)
    traced(image, image)
    with pytest.raises(tf.errors.InvalidArgumentError, match="images of the same shape"):
        traced(image, tf.zeros(other, tf.uint8))


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim, metrics.ms_ssim])
def test_says_what_it_expected(photos, measure):
    image = photos["astronaut"]
    with pytest.raises(ValueError, match="uint8 image. Received: float32"):
        measure(image, image.astype(np.float32))
    with pytest.raises(ValueError, match=r"same shape. Received: \(192, 256, 3\) and \(191, 256"):
        measure(image, image[:-1])


def test_luma_is_jpegs(photos):
    image = photos["chelsea"]
    expected = np.round(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
    assert np.abs(metrics.luma(image).numpy().astype(int) - expected).max() <= 1
    assert np.mean(metrics.luma(image) != expected) < 0.001  # float32 on a rounding edge
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(metrics.luma(greys), greys[..., :1])
    np.testing.assert_array_equal(metrics.luma(photos["camera"]), photos["camera"])
    with pytest.raises(ValueError, match="1 or 3 channels. Received: .*4"):
        metrics.luma(np.zeros([2, 2, 4], np.uint8))


def test_bpp_counts_bits_over_pixels():
    assert metrics.bpp(1000, 100, 80) == 1
    np.testing.assert_array_equal(metrics.bpp(np.array([10, 20]), 8, np.array([10, 5])), [1, 4])
