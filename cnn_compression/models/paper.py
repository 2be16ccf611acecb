"""The networks of Jiang et al., 1708.00838, exactly as published (section III, figures 2 and 3).

Convolutions are 3x3 with Keras' kernel layout `[3, 3, in, out]`; layers are named `conv1`.. and
`norm2`.. in the order of the paper, so that weights from elsewhere can be set layer by layer.
The quality is taken and ignored: the paper trains one pair of networks a quality.
"""

import keras
from keras import ops

from cnn_compression.models.layers import conv
from cnn_compression.models.network import Network
from cnn_compression.tensors.canvas import Frame, no_frame
from cnn_compression.tensors.resampling import upsample_bicubic


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
        self.conv2 = conv(64, strides=2, activation="relu", dtype=self.precision, name="conv2")
        self.conv3 = conv(channels, dtype="float32", name="conv3")
        self.reach = 6

    def call(self, image, quality=None, size=None):
        """float32 `[N, H, W, C]` in [0, 1], H and W even, to `[N, H/2, W/2, C]`.

        `size` as of `Network`.
        """
        frame = half_frame = no_frame
        if size:
            sides, half = ops.shape(image)[1:3], [-(-side // 2) for side in size]
            frame = Frame([2 * side for side in half], sides)
            half_frame = Frame(half, [side // 2 for side in sides])
        x = self.conv2(frame(self.conv1(frame(image))))
        return self.conv3(half_frame(x))


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

    def call(self, compact_hat, quality=None, training=False, size=None):
        """float32 `[N, h, w, C]` in [0, 1] to `[N, 2h, 2w, C]`, not clipped.

        `size` as of `Network`.
        """
        upsampled = upsample_bicubic(compact_hat)
        frame = no_frame
        if size:
            frame = Frame([2 * side for side in size], ops.shape(upsampled)[1:3])
        x = self.conv1(frame(upsampled))
        for convolution, norm in zip(self.convs, self.norms, strict=True):
            x = ops.relu(norm(convolution(frame(x)), training=training))
        return upsampled + self.conv20(frame(x))
