"""What a setting of training is worth: trials of one budget, scored on held-out photographs.

    python benchmarks/trials.py --output=runs/trials --base="scale=1;steps=1200;batch_size=8" \
        --trial=adam: --trial=muon:optimizer=muon DATA/train/*

Each trial trains in its own folder with the settings of `--base` and its own (fields of
`TrainConfig`), and goes on where it was stopped. The held-out photographs of training are then
coded by real bytes at several qualities, and PSNR (or MS-SSIM, or SSIMULACRA2) at fixed rates is
printed as a Markdown table. `variant=NAME` in a trial's settings stands for what is no setting of
training: one of `variants`.
"""

import contextlib
import logging
import sys
from pathlib import Path
from typing import get_type_hints
from unittest import mock

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "folder of the runs", required=True)
flags.DEFINE_string("base", "", "settings of all trials, FIELD=VALUE;...")
flags.DEFINE_multi_string("trial", [], "NAME:FIELD=VALUE;...")
flags.DEFINE_list("qualities", "8,15,25,40,55,70,85,95", "of the JPEG, to code at")
flags.DEFINE_list("rates", "0.1,0.15,0.25,0.38,0.5,0.75,1,1.5", "bits a pixel, to interpolate at")
flags.DEFINE_enum("metric", "psnr", ["psnr", "ms_ssim", "ssimulacra2"], "to print")


def soft_rounding(levels):
    """round(x) + (x - round(x)) ** 3, with its own gradient (Shin & Song 2017)."""
    from keras import ops

    nearest = ops.stop_gradient(ops.round(levels))
    return nearest + (levels - nearest) ** 3


def uniform_noise(levels):
    """x + U(-1/2, 1/2) in place of rounding (Balle et al. 1611.01704)."""
    import tensorflow as tf

    return levels + tf.random.uniform(tf.shape(levels), -0.5, 0.5)


def with_ms_ssim(image, image_hat):
    """MSE with half of its weight given to 1 - MS-SSIM, of three scales, as crops are small."""
    import tensorflow as tf

    error = tf.reduce_mean((255.0 * (image - image_hat)) ** 2, axis=(1, 2, 3))
    weights = np.array([0.0448, 0.2856, 0.3001]) / 0.6305
    likeness = tf.image.ssim_multiscale(image, tf.clip_by_value(image_hat, 0, 1), 1.0, weights)
    return 0.5 * error + 1000.0 * (1.0 - likeness)


def real_pixels(compact, quality, grey=None, chroma="4:2:0"):
    """What the bytes codec gives, with the gradient of its twin."""
    import tensorflow as tf

    from cnn_compression.jpeg.twin import jpeg_twin
    from cnn_compression.training.trainer import real_codec

    compact_hat, bits = jpeg_twin(compact, quality, grey, chroma)
    real = real_codec(tf.stop_gradient(compact), quality, grey, chroma)
    return compact_hat + tf.stop_gradient(real - compact_hat), bits


def blocks():
    """Two in place of `ResidualBlock`, with its arguments."""
    import keras
    from keras import ops

    from cnn_compression.models.layers import ResidualBlock

    class LargeKernel(ResidualBlock):
        """A 7x7 depthwise convolution, then four times the width (ConvNeXt, 2201.03545)."""

        def __init__(self, filters, **kwargs):
            super().__init__(filters, **kwargs)
            wide = 4 * filters
            self.depthwise = keras.layers.DepthwiseConv2D(7, padding="same")
            self.conv1 = keras.layers.Conv2D(wide, 1, kernel_initializer="he_normal")
            small = keras.initializers.VarianceScaling(0.1, "fan_in")
            self.conv2 = keras.layers.Conv2D(filters, 1, kernel_initializer=small)
            self.modulation = keras.layers.Dense(2 * wide, kernel_initializer="zeros")

        def build(self, x_shape, embedding_shape):
            self.depthwise.build(x_shape)
            self.conv1.build(x_shape)
            self.conv2.build((*x_shape[:-1], 4 * self.filters))
            self.modulation.build(embedding_shape)

        def call(self, x, embedding, frame=None):
            scale, shift = ops.split(self.modulation(embedding), 2, axis=-1)
            y = self.conv1(self.depthwise(x)) * (1.0 + scale)[:, None, None]
            return x + self.conv2(ops.relu(y + shift[:, None, None]))

    class ChannelAttention(ResidualBlock):
        """What a block adds, weighted by channel from its means (RCAN, 1807.02758)."""

        def __init__(self, filters, **kwargs):
            super().__init__(filters, **kwargs)
            self.squeeze = keras.layers.Dense(filters // 4, activation="relu")
            self.excite = keras.layers.Dense(filters, activation="sigmoid")

        def build(self, x_shape, embedding_shape):
            super().build(x_shape, embedding_shape)
            self.squeeze.build((None, self.filters))
            self.excite.build((None, self.filters // 4))

        def call(self, x, embedding, frame=None):
            added = super().call(x, embedding) - x
            weights = self.excite(self.squeeze(ops.mean(added, axis=(1, 2))))
            return x + added * weights[:, None, None]

    return LargeKernel, ChannelAttention


def variants():
    """Name to what it replaces: the module or class, the attribute's name, the replacement."""
    from cnn_compression.jpeg import twin
    from cnn_compression.models import com_rec, fast, layers
    from cnn_compression.training import objectives

    embed = layers.QualityEmbedding.call
    large_kernel, attention = blocks()
    return {
        "soft": (twin, "_round_levels", soft_rounding),
        "noise": (twin, "_round_levels", uniform_noise),
        "codec": (objectives, "jpeg_twin", real_pixels),
        "large_kernel": (fast, "ResidualBlock", large_kernel),
        "attention": (fast, "ResidualBlock", attention),
        "ms_ssim": (com_rec, "DISTORTIONS", {"mse": with_ms_ssim}),
        # The networks are not told the quality.
        "blind": (
            layers.QualityEmbedding,
            "call",
            lambda self, quality: embed(self, 0 * quality + 50),
        ),
    }


def settings(text):
    """Fields of `TrainConfig`, and the name of a variant or ""."""
    from cnn_compression.training.config import TrainConfig

    types = get_type_hints(TrainConfig)
    pairs = dict(item.split("=", 1) for item in text.split(";") if item)
    variant = pairs.pop("variant", "")
    return {name: types[name](value) for name, value in pairs.items()}, variant


def score(model, config, qualities, rates):
    """Mean of the metric at each rate, linear in log bpp between qualities; NaN outside."""
    from cnn_compression.codec import Codec
    from cnn_compression.training.data import ImageReader, list_images, split_held_out
    from cnn_compression.training.evaluation import MEASURES, HeldOutEvaluation, code

    _, held_out = split_held_out(list_images(config.data), config.held_out)
    images = HeldOutEvaluation(ImageReader(held_out), config.channels).images
    codec, measure = Codec(model), MEASURES[FLAGS.metric]
    points = []
    for quality in qualities:
        coded = [code(codec, image, quality) for image in images]
        values = [
            float(measure(image, one.image_hat)) for image, one in zip(images, coded, strict=True)
        ]
        points.append([np.mean([one.bpp for one in coded]), np.mean(values)])
    x, y = np.array(points).T
    return np.interp(np.log(rates), np.log(x), y, left=np.nan, right=np.nan)


def main(arguments):
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cnn_compression").setLevel(logging.INFO)
    from cnn_compression.training.config import TrainConfig
    from cnn_compression.training.loop import train

    qualities, rates = [int(q) for q in FLAGS.qualities], [float(r) for r in FLAGS.rates]
    title, digits = {
        "psnr": ("PSNR, dB, at bpp", 2),
        "ms_ssim": ("MS-SSIM at bpp", 4),
        "ssimulacra2": ("SSIMULACRA2 at bpp", 1),
    }[FLAGS.metric]
    print(f"| {title} | {' | '.join(FLAGS.rates)} |\n{'|---' * (len(rates) + 1)}|")
    for trial in FLAGS.trial:
        name, _, own = trial.partition(":")
        base, _ = settings(FLAGS.base)
        own, variant = settings(own)
        config = TrainConfig(
            data=tuple(arguments[1:]),
            output=str(Path(FLAGS.output, name)),
            **{"eval_steps": 10**6} | base | own,
        )
        patch = mock.patch.object(*variants()[variant]) if variant else contextlib.nullcontext()
        # Blocks of trials see farther than the frame that pictures on canvases have.
        alone = mock.patch("cnn_compression.codec.pair.on_canvas", lambda x, cell=1: (x, None))
        with patch, alone:
            model = train(config)
            values = score(model, config, qualities, rates)
        cells = ["–" if np.isnan(value) else f"{value:.{digits}f}" for value in values]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
