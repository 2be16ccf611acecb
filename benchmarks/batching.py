"""Images of one size through a model's networks one after the other, and all together.

    python benchmarks/batching.py [--model=default] [--count=8] [--sides=64,128,256,512]

Single images have the quality folded into the weights; batches, whose qualities may differ, have
not, but share what each call costs. ComCNN comes with the emphasis that follows it.
"""

import timeit

import numpy as np
import tensorflow as tf
from absl import app, flags

from cnn_compression.codec import load

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "default", "a name in saved_models, or a folder")
flags.DEFINE_integer("count", 8, "images in a batch")
flags.DEFINE_list("sides", "64,128,256,512", "of the images, pixels")


def seconds(call):
    """Of the fastest of several calls, after one that traces the graph."""
    call()
    return min(timeit.repeat(call, number=1, repeat=5))


def one_by_one(function, x, quality):
    """`function` of each image alone."""
    return tf.map_fn(
        lambda item: function(item[0][None], item[1][None])[0],
        (x, quality),
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )


def main(_):
    quality = tf.fill([FLAGS.count], 50)
    print("| network | scale | side | one by one, Mpx/s | together, Mpx/s |\n" + "|---" * 5 + "|")
    for pair in load(FLAGS.model).model.pairs:
        for side in map(int, FLAGS.sides):
            image = np.random.default_rng(1).random((FLAGS.count, side, side, pair.channels))
            image = tf.constant(image, tf.float32)
            compact = image[:, : side // pair.scale, : side // pair.scale]
            networks = {
                "ComCNN": (pair.compact, image),
                "RecCNN": (lambda x, q, p=pair, s=side: p.restore(x, q, s, s), compact),
            }
            for name, (function, x) in networks.items():
                alone = tf.function(lambda x, f=function: one_by_one(f, x, quality))
                together = tf.function(lambda x, f=function: f(x, quality))
                rates = [
                    f"{1e-6 * FLAGS.count * side**2 / seconds(lambda f=f, x=x: f(x).numpy()):.2f}"
                    for f in (alone, together)
                ]
                print(f"| {name} | {pair.scale} | {side} | {' | '.join(rates)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
