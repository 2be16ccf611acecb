"""What a RecCNN of each kind of block costs: forward and training speed at like multiply-adds.

    .venv/bin/python benchmarks/blocks.py [--precision=bfloat16]

Prints a Markdown table: multiply-adds a full-size pixel, and millions of full-size pixels a second
for inference and for a training step (forward, backward) on this machine, median of five runs.
"""

import statistics
import time
from functools import partial

import keras
import tensorflow as tf
from absl import app, flags
from keras import layers, ops

from cnn_compression.models.layers import ResidualBlock, conv

FLAGS = flags.FLAGS
flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "of the layers inside")

BATCH, SIDE = 8, 64


def residual(filters, count):
    """`count` residual blocks of two 3x3 convolutions."""
    embedding = ops.zeros((BATCH, 32))
    blocks = [ResidualBlock(filters) for _ in range(count)]

    def body(x):
        for block in blocks:
            x = block(x, embedding)
        return x

    return body


def separable(filters, count):
    """`count` residual blocks of a 5x5 depthwise and two 1x1 convolutions (ConvNeXt's order)."""
    stacks = [
        keras.Sequential(
            [
                layers.DepthwiseConv2D(5, padding="same"),
                conv(2 * filters, 1, activation="relu"),
                conv(filters, 1),
            ]
        )
        for _ in range(count)
    ]

    def body(x):
        for stack in stacks:
            x = x + stack(x)
        return x

    return body


def two_level(filters, outer, inner):
    """Residual blocks at half size around blocks of twice the width at quarter size."""
    before, after = residual(filters, outer), residual(filters, outer)
    down, up = conv(2 * filters, 2, strides=2), conv(4 * filters, 1)
    inside = residual(2 * filters, inner)

    def body(x):
        x = before(x)
        return after(x + ops.depth_to_space(up(inside(down(x))), 2))

    return body


# name, width, what makes the body, multiply-adds a half-size pixel
CANDIDATES = [
    ("6 blocks of 48 at half size", 48, partial(residual, 48, 6), 6 * 18 * 48**2),
    ("14 blocks of 32 at half size", 32, partial(residual, 32, 14), 14 * 18 * 32**2),
    ("3 blocks of 64 at half size", 64, partial(residual, 64, 3), 3 * 18 * 64**2),
    (
        "26 separable blocks of 48 at half size",
        48,
        partial(separable, 48, 26),
        26 * (25 * 48 + 4 * 48**2),
    ),
    (
        "1 + 4 + 1 blocks, 48 at half and 96 at quarter size (`fast`)",
        48,
        partial(two_level, 48, 1, 4),
        2 * 18 * 48**2 + (4 * 18 * 96**2 + 4 * 48 * 96 + 96 * 192) // 4,
    ),
]


def speed(work):
    """Full-size megapixels a second, median of five after one."""
    work()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return BATCH * 4 * SIDE**2 / 1e6 / statistics.median(seconds)


def main(_):
    if FLAGS.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    print("| body of RecCNN | multiply-adds a pixel | inference Mpx/s | training Mpx/s |")
    print("|---|---|---|---|")
    for name, width, make_body, cost in CANDIDATES:
        body = make_body()
        x = tf.cast(tf.random.normal((BATCH, SIDE, SIDE, width)), FLAGS.precision)
        body(x)  # makes the weights
        print(f"| {name} | {cost // 4:,} | {speed(forward(body, x)):.2f} |", end=" ", flush=True)
        print(f"{speed(training(body, x)):.2f} |", flush=True)


def forward(body, x):
    return tf.function(lambda: body(x))


def training(body, x):
    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(tf.cast(body(x), tf.float32)))
        return tape.gradient(loss, [x, *tape.watched_variables()])

    return step


if __name__ == "__main__":
    app.run(main)
