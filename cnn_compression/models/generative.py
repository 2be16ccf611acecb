"""Family "generative": so few bits that most of what is seen is made up, by a decoder that may.

Agustsson et al., *Generative Adversarial Networks for Extreme Learned Image Compression*, ICCV
2019, 1804.02958. Few channels at 1/16 of the size, of five levels; and a decoder that is trained
against a discriminator, so that it paints what looks like a photograph where it cannot know better.
"""

import keras
import numpy as np
from keras import ops

from cnn_compression.models.latent import LatentModel
from cnn_compression.models.layers import build_conv, conv

# Widths of the encoder from full size down; the decoder has them the other way round. Table 1's are
# c7s1-60, d120, d240, d480, d960 and nine residual blocks.
PRESETS = {
    "generative": {"widths": (16, 32, 64, 96, 128), "blocks": 4},
    "agustsson": {"widths": (60, 120, 240, 480, 960), "blocks": 9},
}
LEVELS = (-2, -1, 0, 1, 2)


def quantise(x):
    """The nearest of the five levels; the gradient is that of a soft assignment to them (eq. 2).

    Args:
        x: float32 of any shape.

    Returns:
        float32 of the same shape, whole numbers from -2 to 2.
    """
    levels = ops.convert_to_tensor(np.array(LEVELS, np.float32))
    soft = ops.sum(ops.softmax(-ops.square(x[..., None] - levels)) * levels, axis=-1)
    hard = ops.clip(ops.round(x), LEVELS[0], LEVELS[-1])
    return soft + ops.stop_gradient(hard - soft)


@keras.saving.register_keras_serializable(package="cnn_compression")
class Generative(LatentModel):
    """Encoder, quantiser and residual decoder.

    It has one quality: what there is to choose was chosen when it was trained. The paper normalises
    each channel over the picture. Nothing is normalised here, so that a pixel depends neither on
    all others nor on the size.

    Args:
        channels: of image and image_hat, 1 or 3.
        widths: of the encoder at full size and after each of four halvings.
        blocks: residual blocks of the decoder, at a sixteenth of the size.
        codes: of a cell (the paper's C).
        precision: of the layers, a Keras policy: float32, or mixed_bfloat16.
    """

    family = "generative"
    qualities, default_quality = range(1, 2), 1
    cell, alphabet = 16, (LEVELS[0], LEVELS[-1])
    table_qualities = (1,)
    makes_up = True

    def __init__(
        self,
        channels=3,
        widths=PRESETS["generative"]["widths"],
        blocks=PRESETS["generative"]["blocks"],
        codes=8,
        precision="float32",
        **kwargs,
    ):
        super().__init__(**kwargs | {"dtype": "float32"})
        if len(widths) != 5:
            raise ValueError(f"expected five widths. Received: {widths}")
        self.channels, self.widths, self.blocks = channels, list(widths), blocks
        self.codes, self.precision = codes, precision
        # The decoder's, in its cells: two for each residual block, three for all other layers.
        self.reach = self.cell * (3 + 2 * blocks)
        *upward, deepest = widths
        plain = {"dtype": precision}
        self.encoder = [
            conv(width, 3 if number else 7, strides=2 if number else 1, **plain)
            for number, width in enumerate(widths)
        ]
        # No ReLU: codes have to come out on both sides of zero.
        self.bottleneck = conv(codes, name="bottleneck", **plain)
        self.head = conv(deepest, name="head", **plain)
        # A tenth of He's variance: without normalisation deep stacks start near the identity.
        small = {"kernel_initializer": keras.initializers.VarianceScaling(0.1, "fan_in"), **plain}
        self.residuals = [(conv(deepest, **plain), conv(deepest, **small)) for _ in range(blocks)]
        # The paper's are transposed convolutions, of as many weights: they leave a grid in what is
        # made up, since a pixel sees 1, 2 or 4 of their inputs (Odena et al., distill.00003).
        self.decoder = [conv(width, **plain) for width in reversed(upward)]
        self.tail = conv(channels, 7, name="tail", **small)
        self.build()

    @classmethod
    def from_preset(cls, preset="generative", channels=3, precision="float32", **kwargs):
        """A new model with random weights: `agustsson` has the paper's widths."""
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}. Received: {preset!r}")
        return cls(channels, **PRESETS[preset], precision=precision, **kwargs)

    def build(self):
        """At once, so that weights can be counted and loaded."""
        if self.built:
            return
        *_, deepest = self.widths
        for layer, width in zip(self.encoder, [self.channels, *self.widths], strict=False):
            build_conv(layer, width)
        build_conv(self.bottleneck, deepest)
        build_conv(self.head, self.codes)
        for layer in [layer for block in self.residuals for layer in block]:
            build_conv(layer, deepest)
        for layer, width in zip(self.decoder, reversed(self.widths), strict=False):
            build_conv(layer, width)
        build_conv(self.tail, self.widths[0])
        self.build_tables()
        self.built = True

    def get_build_config(self):
        """Nothing to keep: see `build`."""

    def depth(self, quality):
        return self.codes

    def analyse(self, image, quality, mask=None):
        return ops.cast(self._codes(image, mask), "int32")

    def synthesise(self, codes, quality):
        x = self.head(ops.cast(codes, "float32"))
        for first, second in self.residuals:
            x = x + second(ops.relu(first(x)))
        for layer in self.decoder:
            x = ops.relu(layer(ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)))
        return 0.5 * (ops.cast(self.tail(x), "float32") + 1.0)

    def call(self, image, mask=None):
        """image to image_hat, float32 `[N, H, W, C]`, with a gradient through the codes.

        Args:
            image: as of `analyse`.
            mask: float32 `[N, H / 16, W / 16, 1]`, 1 where the cell is kept and 0 where what is
                there may be made up (selective compression, section 3.3): its codes are 0.
        """
        return self.synthesise(self._codes(image, mask), self.default_quality)

    def _codes(self, image, mask):
        x = 2.0 * image - 1.0
        for layer in self.encoder:
            x = ops.relu(layer(x))
        codes = quantise(ops.cast(self.bottleneck(x), "float32"))
        return codes if mask is None else codes * mask

    def get_config(self):
        names = ("channels", "widths", "blocks", "codes", "precision")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="cnn_compression")
class PatchDiscriminator(keras.Model):
    """Says of each patch of a picture whether it is a photograph; at several sizes (1711.11585).

    It is needed in training alone.

    Args:
        channels: of the pictures.
        widths: of its convolutions of 4 x 4 and stride 2.
        scales: how many sizes it looks at, each half of the one before.
        precision: as of `Generative`.
    """

    def __init__(
        self, channels=3, widths=(32, 64, 128, 256), scales=2, precision="float32", **kwargs
    ):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.channels, self.widths, self.scales = channels, list(widths), scales
        self.precision = precision
        plain = {"dtype": precision}
        self.stacks = [
            [conv(width, 4, strides=2, **plain) for width in widths] for _ in range(scales)
        ]
        self.heads = [
            conv(1, 3, kernel_initializer="glorot_uniform", **plain) for _ in range(scales)
        ]
        for stack, head in zip(self.stacks, self.heads, strict=True):
            for layer, width in zip(stack, [channels, *widths], strict=False):
                build_conv(layer, width)
            build_conv(head, widths[-1])
        self.built = True

    def call(self, image):
        """What it sees in pictures and what it says of them.

        Args:
            image: float32 `[N, H, W, C]`, about [0, 1].

        Returns:
            List of float32 `[N, h, w, F]`, for each scale: the features after each convolution, and
            last the score `[N, h, w, 1]`, 1 for a photograph and 0 for none.
        """
        x, seen = 2.0 * image - 1.0, []
        for stack, head in zip(self.stacks, self.heads, strict=True):
            y, features = x, []
            for layer in stack:
                y = ops.leaky_relu(layer(y), 0.2)
                features.append(ops.cast(y, "float32"))
            seen.append([*features, ops.cast(head(y), "float32")])
            x = ops.average_pool(x, 2, 2, "same", data_format="channels_last")
        return seen

    def get_config(self):
        names = ("channels", "widths", "scales", "precision")
        return super().get_config() | {name: getattr(self, name) for name in names}
