"""Keras blocks that the models share. All tensors are float and channels last.

Keras has settings for a whole process: a data format, a float type, a policy of precision. They
are the host's; nothing here follows them.
"""

import keras
import numpy as np
from keras import ops

from cnn_compression.jpeg.tables import LUMA_TABLE
from cnn_compression.jpeg.twin import mean_luma_step
from cnn_compression.tensors.canvas import no_frame
from cnn_compression.tensors.colour import RGB_TO_YCC
from cnn_compression.tensors.dct import BLOCK_DCT, map_blocks


def conv(filters, size=3, **kwargs):
    """A convolution that keeps H and W (zero padding), He-initialised for the ReLU after it."""
    fixed = {"data_format": "channels_last"}
    defaults = {"padding": "same", "kernel_initializer": "he_normal", "dtype": "float32"}
    return keras.layers.Conv2D(filters, size, **fixed, **defaults | kwargs)


def build_conv(layer, channels):
    """Makes the weights of a layer of `conv` for inputs of so many channels."""
    layer.build((None, None, None, channels))


@keras.saving.register_keras_serializable(package="cnn_compression")
class QualityEmbedding(keras.layers.Layer):
    """Quality to a vector that tells the networks how coarse the JPEG is.

    The vector is a small dense network over the logarithm of the mean quantisation step, which is
    what distortion follows, and over the quality itself.

    Args:
        units: size of the vector.
        dtype: precision, as of any layer of Keras.
    """

    def __init__(self, units=32, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self.units = units
        self.hidden = keras.layers.Dense(units, activation="relu", dtype=dtype, name="hidden")
        self.out = keras.layers.Dense(units, activation="relu", dtype=dtype, name="out")

    def build(self, input_shape):
        self.hidden.build((None, 3))
        self.out.build((None, self.units))

    def call(self, quality):
        """int `[N]` in 1..100 to float `[N, units]`."""
        log_step = ops.log(mean_luma_step(quality))
        quality = ops.cast(quality, "float32") / 100.0
        features = ops.stack([log_step / 2.0 - 1.5, 2.0 * quality - 1.0, log_step**2 / 16.0], -1)
        return self.out(self.hidden(features))

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="cnn_compression")
class ResidualBlock(keras.layers.Layer):
    """x + conv(relu(scale(q) * conv(x) + shift(q))): EDSR's block (1707.02921) that knows quality.

    Scale and shift are feature-wise (FiLM, 1709.07871); they start as the identity.

    Args:
        filters: channels of the input, of the hidden features and of the output.
        dtype: precision, as of any layer of Keras.
    """

    def __init__(self, filters, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self.filters = filters
        self.conv1 = conv(filters, dtype=dtype, name="conv1")
        # A tenth of He's variance: deep stacks without normalisation start near the identity.
        small = keras.initializers.VarianceScaling(0.1, "fan_in")
        self.conv2 = conv(filters, kernel_initializer=small, dtype=dtype, name="conv2")
        self.modulation = keras.layers.Dense(
            2 * filters, kernel_initializer="zeros", dtype=dtype, name="modulation"
        )

    def build(self, x_shape, embedding_shape):
        self.conv1.build(x_shape)
        self.conv2.build(x_shape)
        self.modulation.build(embedding_shape)

    def call(self, x, embedding, frame=no_frame):
        """float `[N, H, W, filters]` and `[N, units]` to `[N, H, W, filters]`.

        `frame`: `canvas.Frame` of a picture that does not fill x.
        """
        x = frame(x)
        scale, shift = ops.split(self.modulation(embedding), 2, axis=-1)
        if x.shape[0] == 1:
            # One quality folds into the weights: fewer passes over the features.
            scale = 1.0 + scale[0]
            bias = self.conv1.bias * scale + shift[0]
            # Not as BiasAdd: added within the convolution it costs memory for each size that comes.
            kernel = self.conv1.kernel * scale
            y = ops.conv(x, kernel, padding="same", data_format="channels_last") + bias
        else:
            y = self.conv1(x) * (1.0 + scale)[:, None, None] + shift[:, None, None]
        return x + self.conv2(frame(ops.relu(y)))

    def get_config(self):
        return super().get_config() | {"filters": self.filters}


@keras.saving.register_keras_serializable(package="cnn_compression")
class Emphasis(keras.layers.Layer):
    """Gives JPEG's quantisation tables another shape: gains on the DCT of its own 8x8 blocks.

    JPEG's tables are made for the eye and fixed; coefficients that are multiplied by a gain before
    and divided by it afterwards are quantised by steps that are finer by that gain. Luma has a gain
    for each of the 64 frequencies, chroma a single one; all follow the quality. They start between
    the table's own shape and a flat one, and with less contrast, which leaves room to what grows.
    Blocks at the right and lower edge that are not whole stay as they are.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        start = 0.8 * np.append((LUMA_TABLE.reshape(64) / 12.0) ** 0.25, 1.25)
        self.log_gains = keras.layers.Dense(
            65,
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(np.log(start)),
            dtype="float32",
            name="log_gains",
        )

    def build(self, x_shape, embedding_shape):
        self.log_gains.build(embedding_shape)

    def call(self, x, embedding, inverse=False, size=None):
        """float32 `[N, H, W, C]` in about [0, 1] and `[N, units]` to `[N, H, W, C]`.

        `size`: height and width of the picture in x's upper left, where it does not fill it.
        """
        logs = self.log_gains(ops.cast(embedding, "float32"))
        gains = ops.exp(-logs if inverse else logs)
        transform = ops.matmul(BLOCK_DCT.T * gains[:, None, :64], BLOCK_DCT)
        # R - Y, G - Y and B - Y are chroma in other units: all grow by the one gain. A block of
        # all channels goes through one matrix: that of the chroma gain, and for luma what differs.
        chroma_gain = gains[:, 64:, None]
        weights = RGB_TO_YCC[:, 0] if x.shape[-1] == 3 else np.ones(1, np.float32)
        depth = 64 * len(weights)
        of_luma = transform - chroma_gain * np.eye(64, dtype=np.float32)
        of_luma = of_luma[:, :, None, :, None] * np.tile(weights, (len(weights), 1))[:, None]
        matrices = ops.reshape(of_luma, (-1, depth, depth))
        matrices += chroma_gain * np.eye(depth, dtype=np.float32)
        # Levels count from JPEG's 128.
        return map_blocks(x, matrices, 128 / 255 * (1.0 - gains[:, :1, None]), size)
