"""Effort: encoder time for bytes. The compact image of one picture is tuned for this picture.

ComCNN's compact image is where gradient descent starts; distortion + lambda x rate, through JPEG's
twin and RecCNN, is what it lowers. Payloads, decoder and quality scale stay the same.
"""

import tensorflow as tf
from keras import ops

from cnn_compression.jpeg.twin import jpeg_twin

# Gradient steps at each effort. 128 of them were measured to buy nothing over 32.
EFFORT_STEPS = (0, 8, 32)
# Levels that a pixel may move in the first steps, times the root of their number; the rate falls to
# nothing along a cosine. Longer steps end where the twin is most favourable, not the codec.
_STEP_SIZE = 1.4
_MOMENTUM, _SCALE_DECAY, _EPSILON = 0.9, 0.95, 1e-8


def refine(pair, image, compact, quality, grey, steps):
    """Adam (1412.6980) on the pixels of the compact image.

    Args:
        pair: `ComRec`.
        image: float32 `[N, H, W, C]` in [0, 1].
        compact: float32 `[N, h, w, C]`, what `pair.compact` makes of it.
        quality: int32 `[N]`, 1..100, the JPEG's.
        grey: bool scalar, whether the codec carries luma alone.
        steps: how many.

    Returns:
        float32 `[N, h, w, C]`: of all that were tried, the compact image of the lowest cost.
    """
    height, width = ops.shape(image)[1:3]
    grey = tf.repeat(grey, tf.shape(quality)[0])
    first_rate = _STEP_SIZE / max(steps, 1) ** 0.5 / 255.0

    def cost(compact):
        compact_hat, bits = jpeg_twin(compact, quality, grey, pair.chroma)
        image_hat = pair.restore(compact_hat, quality, height, width)
        bpp = bits / tf.cast(height * width, tf.float32)
        costs = pair.distortion(image, image_hat) + pair.rate_slope(quality) * bpp
        return tf.ensure_shape(costs, quality.shape)  # the loop's variables keep theirs

    def step(number, compact, mean, square, best, least):
        with tf.GradientTape() as tape:
            tape.watch(compact)
            costs = cost(compact)
        gradient = tape.gradient(costs, compact)
        better = costs < least
        best = tf.where(better[:, None, None, None], compact, best)
        mean = _MOMENTUM * mean + (1 - _MOMENTUM) * gradient
        square = _SCALE_DECAY * square + (1 - _SCALE_DECAY) * gradient**2
        done = tf.cast(number, tf.float32) + 1.0
        direction = (mean / (1 - _MOMENTUM**done)) / (
            tf.sqrt(square / (1 - _SCALE_DECAY**done)) + _EPSILON
        )
        rate = first_rate * 0.5 * (1.0 + tf.cos(3.14159265 * (done - 1.0) / steps))
        return number + 1, compact - rate * direction, mean, square, best, tf.minimum(costs, least)

    zeros = tf.zeros_like(compact)
    most = tf.fill(tf.shape(quality), tf.float32.max)
    _, last, _, _, best, least = tf.while_loop(
        lambda number, *_: number < steps,
        step,
        (tf.constant(0), compact, zeros, zeros, compact, most),
        maximum_iterations=steps,
    )
    return tf.where((cost(last) < least)[:, None, None, None], last, best)
