"""The networks of Jiang et al., 1708.00838, exactly as published (section III, figures 2 and 3).

What the paper leaves open is as in its authors' own code: each convolution has one zero on every
side, also the one of stride 2, and bicubic mirrors the picture at its edges. A picture of odd sides
is one of even sides, its last row or column repeated.

Convolutions are 3x3 with Keras' kernel layout `[3, 3, in, out]`; layers are named `conv1`.. and
`norm2`.. in the order of the paper, so that weights from elsewhere can be set layer by layer;
`paper_weights` reads the authors'.
The quality is taken and ignored: the paper trains one pair of networks a quality.
"""

import keras
from keras import ops

from cnn_compression.models.layers import build_conv, conv
from cnn_compression.models.network import Network
from cnn_compression.tensors.canvas import frame_at
from cnn_compression.tensors.resampling import upsample_bicubic_mirrored


@keras.saving.register_keras_serializable(package="cnn_compression")
class PaperComCNN(Network):
    """Image to compact at half size: conv 64, conv 64 of stride 2, conv c (38,145 weights, c = 1).

    Args:
        channels: of image and compact, 1 (luma) or 3.
        scale: 2, as published.
    """

    def __init__(self, channels=1, scale=2, **kwargs):
        super().__init__(channels, scale, **kwargs)
        self.conv1 = conv(64, activation="relu", dtype=self.precision, name="conv1")
        # "same" would have its zeros of even sides on the right and below only.
        half = {"strides": 2, "padding": "valid", "activation": "relu"}
        self.conv2 = conv(64, **half, dtype=self.precision, name="conv2")
        self.conv3 = conv(channels, dtype="float32", name="conv3")
        self.reach = 4

    def build(self):
        build_conv(self.conv1, self.channels)
        build_conv(self.conv2, 64)
        build_conv(self.conv3, 64)

    def call(self, image, quality=None, size=None):
        """float32 `[N, H, W, C]` in [0, 1], H and W even, to `[N, H/2, W/2, C]`.

        `size` as of `Network`.
        """
        sides = ops.shape(image)[1:3]
        frame = frame_at(size, sides, up=2, down=2)
        half_frame = frame_at(size, [side // 2 for side in sides], down=2)
        # Of even sides, the last ones are never met: so conv2 needs no frame.
        x = ops.pad(self.conv1(frame(image)), [[0, 0], [1, 1], [1, 1], [0, 0]])
        return self.conv3(half_frame(self.conv2(x)))


@keras.saving.register_keras_serializable(package="cnn_compression")
class PaperRecCNN(Network):
    """compact_hat to image_hat: bicubic x2 plus the residual of 20 convolutions at full size.

    Trained on several replicas, each normalises by the statistics of its own share of the batch.

    Args:
        channels: of compact and image, 1 (luma) or 3.
        scale: 2, as published.
    """

    def __init__(self, channels=1, scale=2, **kwargs):
        super().__init__(channels, scale, **kwargs)
        self.conv1 = conv(64, activation="relu", dtype=self.precision, name="conv1")
        inner = {"dtype": self.precision}
        self.convs = [conv(64, use_bias=False, name=f"conv{i}", **inner) for i in range(2, 20)]
        norm = keras.layers.BatchNormalization
        self.norms = [norm(name=f"norm{i}", **inner) for i in range(2, 20)]
        self.conv20 = conv(channels, kernel_initializer="zeros", dtype="float32", name="conv20")
        self.reach = 26

    def build(self):
        build_conv(self.conv1, self.channels)
        for layer in (*self.convs, *self.norms, self.conv20):
            build_conv(layer, 64)

    def call(self, compact_hat, quality=None, training=False, size=None):
        """float32 `[N, h, w, C]` in [0, 1] to `[N, 2h, 2w, C]`, not clipped.

        `size` as of `Network`.
        """
        upsampled = upsample_bicubic_mirrored(compact_hat, size)
        frame = frame_at(size, ops.shape(upsampled)[1:3], up=2)
        x = self.conv1(frame(upsampled))
        for convolution, norm in zip(self.convs, self.norms, strict=True):
            x = ops.relu(norm(convolution(frame(x)), training=training))
        return upsampled + self.conv20(frame(x))
