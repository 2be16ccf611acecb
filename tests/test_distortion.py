"""What models keep small: limits, a reference by plain NumPy, what eyes mind and what not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from cnn_compression.models.com_rec import ComRec
from cnn_compression.tensors.colour import rgb_to_ycc
from cnn_compression.tensors.distortion import DISTORTIONS, eyes


def levels(photos, *names, channels=3):
    """float32 `[N, 96, 128, C]` in [0, 1]."""
    images = np.stack([photos[name][:96, :128] for name in names]) / np.float32(255)
    return images if channels == 3 else images.mean(-1, keepdims=True, dtype=np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", DISTORTIONS)
def test_of_no_difference_there_is_none_and_it_grows_with_noise(photos, name, channels):
    image = levels(photos, "coffee", "rocket", channels=channels)
    noise = np.random.default_rng(1).normal(0, 1 / 255, image.shape).astype(np.float32)
    measured = [DISTORTIONS[name](image, image + size * noise).numpy() for size in (0, 1, 4, 16)]
    np.testing.assert_allclose(measured[0], 0, atol=1e-2)
    assert (np.diff(measured, axis=0) > 0).all()
    assert measured[0].shape == (2,) and measured[0].dtype == np.float32


def test_eyes_is_its_definition(photos):
    """Sizes at which every window and every halving is whole, and the corner where they are not."""
    rng = np.random.default_rng(2)
    image = levels(photos, "rocket")[:, :40, :56]
    image_hat = np.float32(np.clip(image + rng.normal(0, 0.05, image.shape), 0, 1))

    def windows(x):
        """The mean in each window of 7 x 7, every second one; of what lies inside the picture."""
        height, width = x.shape
        rows, columns = -(-height // 2), -(-width // 2)
        # TensorFlow's "same": half of what is missing goes before, the larger half behind.
        above, left = (
            max(2 * (n - 1) + 7 - s, 0) // 2 for n, s in ((rows, height), (columns, width))
        )
        means = np.empty((rows, columns))
        for row in range(rows):
            for column in range(columns):
                top, start = 2 * row - above, 2 * column - left
                part = x[max(top, 0) : top + 7, max(start, 0) : start + 7]
                means[row, column] = part.mean()
        return means

    def ssim(x, y):
        mx, my = windows(x), windows(y)
        vx, vy, cov = windows(x * x) - mx**2, windows(y * y) - my**2, windows(x * y) - mx * my
        c1, c2 = 2.55**2, 7.65**2
        return ((2 * mx * my + c1) * (2 * cov + c2) / (mx**2 + my**2 + c1) / (vx + vy + c2)).mean()

    total = 0.0
    x, y = (np.float64(rgb_to_ycc(255 * each[0])) for each in (image, image_hat))
    for _ in range(4):
        for channel, weight in enumerate((0.8, 0.1, 0.1)):
            total += weight * (1 - ssim(x[..., channel], y[..., channel])) / 4
        x, y = (np.stack([halved(each[..., c]) for c in range(3)], -1) for each in (x, y))
    expected = 0.15 * np.mean((255 * (image - image_hat)) ** 2) + 800 * total
    np.testing.assert_allclose(eyes(image, image_hat), [expected], rtol=1e-3)


def halved(x):
    """Means of 2 x 2, at odd edges of what is there."""
    rows, columns = (np.arange(0, side, 2) for side in x.shape)
    sums = np.add.reduceat(np.add.reduceat(x, rows, 0), columns, 1)
    ones = np.ones_like(x)
    return sums / np.add.reduceat(np.add.reduceat(ones, rows, 0), columns, 1)


def test_eyes_mind_washed_out_texture_more_than_its_squared_error_says(photos):
    """The same squared error: as texture that is gone, and as noise where there is texture."""
    image = levels(photos, "coffee")
    blurred = ops.average_pool(image, 3, 1, "same").numpy()
    lost = image - blurred
    exchanged = image + lost[:, ::-1, ::-1]
    brighter = image + np.sqrt((lost**2).mean())
    errors = [float(DISTORTIONS["mse"](image, other)[0]) for other in (blurred, brighter)]
    np.testing.assert_allclose(*errors, rtol=1e-3)
    assert eyes(image, blurred) > 3 * eyes(image, np.float32(brighter))
    assert eyes(image, np.float32(exchanged)) > eyes(image, blurred)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (17, 33)])
def test_eyes_have_a_gradient_at_every_size(size):
    rng = np.random.default_rng(3)
    image = tf.constant(rng.random((2, *size, 3), np.float32))
    image_hat = tf.Variable(rng.random((2, *size, 3), np.float32))
    with tf.GradientTape() as tape:
        distortion = eyes(image, image_hat)
    gradient = tape.gradient(distortion, image_hat)
    assert np.isfinite(distortion).all() and np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_flat_pictures_have_a_gradient():
    flat = tf.Variable(np.full((1, 16, 16, 3), 0.5, np.float32))
    with tf.GradientTape() as tape:
        distortion = eyes(tf.constant(flat), flat)
    assert np.isfinite(tape.gradient(distortion, flat)).all()


def test_a_model_keeps_its_distortion_and_refuses_what_is_none():
    model = ComRec.from_preset(rec={"inner_blocks": 1}, distortion="eyes")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert again.distortion is eyes and ComRec.from_preset().distortion is DISTORTIONS["mse"]
    assert model.in_precision("float32").distortion is eyes
    with pytest.raises(ValueError, match="distortion must be one of .*Received: 'ears'"):
        ComRec.from_preset(distortion="ears")
