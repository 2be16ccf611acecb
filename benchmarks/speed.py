"""Encoding and decoding in one process, beside what the convolutions alone could do.

    python benchmarks/speed.py [--models=default] [--qualities=25,75] [IMAGE]

The peak is measured: 3x3 convolutions of 64 channels on an image of half the size. A codec's share
of it is the multiply-adds of its networks over its whole time, JPEG, header and all. The `paper`
preset, with random weights, is measured beside it.
"""

import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from cnn_compression import images
from cnn_compression.codec import Codec, load
from cnn_compression.models.com_rec import ComRec
from cnn_compression.payload import layout

FLAGS = flags.FLAGS
flags.DEFINE_list("models", "default", "names in saved_models, or folders")
flags.DEFINE_list("qualities", "25,75", "of the codec")
flags.DEFINE_list("effort", "0", "levels")
flags.DEFINE_integer("runs", 5, "the fastest counts")


def seconds(function, *arguments):
    """Of the fastest of several runs, after one that traces the graph."""
    function(*arguments)
    times = []
    for _ in range(FLAGS.runs):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


def peak(height, width, channels=64):
    """Multiply-adds a second of a chain of convolutions."""
    x = tf.random.normal([1, height // 2, width // 2, channels])
    kernel = tf.random.normal([3, 3, channels, channels]) / (3 * channels**0.5)

    @tf.function
    def chain(x):
        for _ in range(8):
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        return tf.reduce_sum(x)

    count = 8 * 9 * channels**2 * (height // 2) * (width // 2)
    return count / seconds(lambda: chain(x).numpy())


def multiply_adds(network, height, width):
    """Of a network for an input of a size, as TensorFlow's profiler counts them."""
    run = tf.function(lambda x: network(x, tf.constant([50])))
    graph = run.get_concrete_function(tf.TensorSpec((1, height, width, network.channels))).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    with graph.as_default():
        counted = profiler.profile(graph, options=options.with_empty_output().build())
    return counted.total_float_ops / 2


def example():
    """A photograph of scikit-image's, 512 x 768."""
    from skimage import data

    photo = data.astronaut()
    return np.concatenate([photo, photo[:, 255::-1]], axis=1)


def main(arguments):
    image = images.read(arguments[1])[0] if arguments[1:] else example()
    height, width = image.shape[:2]
    pixels = height * width
    most = peak(height, width)
    print(f"{width}x{height}, peak {2e-9 * most:.0f} GFLOP/s\n")
    print("| codec | quality | effort | encode, Mpx/s | of peak | decode, Mpx/s | of peak |")
    print("|---" * 7 + "|")
    codecs = [load(name) for name in FLAGS.models]
    codecs.append(Codec(ComRec.from_preset("paper", 3), "paper"))
    for codec in codecs:
        for quality in map(int, FLAGS.qualities):
            scale = layout.read_header(codec.encode(image, quality)).scale
            pair = codec.model.pairs[codec.model.scales.index(scale)]
            costs = [
                multiply_adds(pair.com, height, width),
                multiply_adds(pair.rec, height // pair.scale, width // pair.scale),
            ]
            for effort in map(int, FLAGS.effort):
                payload = codec.encode(image, quality, effort)
                times = [
                    seconds(codec.encode, image, quality, effort),
                    seconds(codec.decode, payload),
                ]
                cells = [
                    f"{1e-6 * pixels / t:.3f} | {cost / t / most:.0%}"
                    for t, cost in zip(times, costs, strict=True)
                ]
                print(f"| {codec.name} | {quality} | {effort} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
