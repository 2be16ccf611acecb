"""Family "bottleneck": blocks of 8 x 8 through fewer numbers than they have pixels.

The oldest of neural codecs: a network of 64 inputs, 16 hidden units and 64 outputs that learns to
give out what came in (Cottrell, Munro, Zipser, 1987; many a Stanford project since). Verma,
Blumenstein and Kulkarni, *A Neural Network based Technique for Data Compression*, MSO 1997, find
its output layer directly, by least squares.

Its units are linear, so the best that it can learn is what principal components give.
"""

import keras
import numpy as np
from keras import ops

from cnn_compression.models.latent import LatentModel
from cnn_compression.tensors.colour import rgb_to_ycc, ycc_to_rgb
from cnn_compression.tensors.shapes import depth_to_space, space_to_depth

PRESETS = {"bottleneck": {"hidden": 16}}
SIDE = 8  # of a block, pixels
PIXELS = SIDE**2
_MIDDLE = 128.0


@keras.saving.register_keras_serializable(package="cnn_compression")
class Bottleneck(LatentModel):
    """One network for the blocks of all planes: Y, Cb and Cr, or Y alone.

    Codes are its hidden units in whole steps. Quality 1 has the coarsest step, 100 the finest, and
    each of those between is by the same factor finer than the one before.

    Args:
        channels: of image and image_hat, 1 or 3.
        hidden: units, which is codes of a block of one plane.
        steps: the coarsest and the finest, in levels of [0, 255].

    Raises:
        ValueError: for other channels, or steps that do not fall to above 0.
    """

    family = "bottleneck"
    cell = SIDE
    table_qualities = tuple(range(5, 100, 10))

    def __init__(self, channels=3, hidden=16, steps=(128.0, 8.0), **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3. Received: {channels}")
        if not steps[0] > steps[1] > 0:
            raise ValueError(f"expected steps that fall to above 0. Received: {steps}")
        self.channels, self.hidden, self.steps = channels, hidden, list(steps)
        # Weights of norm 1 make no more of 64 pixels that are half of the levels off.
        most = int(np.ceil(SIDE * _MIDDLE / steps[1]))
        self.alphabet = -most, most
        self.first = keras.layers.Dense(hidden, dtype="float32", name="first")
        self.second = keras.layers.Dense(PIXELS, dtype="float32", name="second")
        self.build()

    @classmethod
    def from_preset(cls, preset="bottleneck", channels=3, **kwargs):
        """A new model with random weights."""
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}. Received: {preset!r}")
        return cls(channels, **PRESETS[preset] | kwargs)

    def build(self):
        """At once, so that weights can be counted and loaded."""
        if self.built:
            return
        self.first.build((None, PIXELS))
        self.second.build((None, self.hidden))
        self.build_tables()
        self.built = True

    def get_build_config(self):
        """Nothing to keep: see `build`."""

    def step(self, quality):
        """What one is in a code, in units of [0, 1]: float32 scalar."""
        coarsest, finest = self.steps
        share = (ops.cast(quality, "float32") - 1.0) / 99.0
        return coarsest / 255.0 * (finest / coarsest) ** share

    def depth(self, quality):
        return self.channels * self.hidden

    def blocks(self, image):
        """float32 `[N, H, W, C]` in [0, 1] to its planes' blocks, `[N, H / 8, W / 8, C, 64]`.

        They are around 0, within half a unit, by rows.
        """
        levels = 255.0 * image
        planes = (rgb_to_ycc(levels) if self.channels == 3 else levels) - _MIDDLE
        squares = space_to_depth(planes / 255.0, SIDE)
        number, rows, columns = ops.shape(squares)[:3]
        squares = ops.reshape(squares, (number, rows, columns, PIXELS, self.channels))
        return ops.transpose(squares, (0, 1, 2, 4, 3))

    def image(self, blocks):
        """Inverse of `blocks`; not clipped."""
        number, rows, columns = ops.shape(blocks)[:3]
        squares = ops.transpose(blocks, (0, 1, 2, 4, 3))
        squares = ops.reshape(squares, (number, rows, columns, PIXELS * self.channels))
        planes = 255.0 * depth_to_space(squares, SIDE) + _MIDDLE
        return (ycc_to_rgb(planes) if self.channels == 3 else planes) / 255.0

    def hidden_units(self, image):
        """float32 `[N, H, W, C]` in [0, 1] to `[N, H / 8, W / 8, C, hidden]`, not quantised."""
        return self.first(self.blocks(image))

    def from_hidden(self, units):
        """What `hidden_units` gives, quantised or not, to float32 `[N, H, W, C]`, not clipped."""
        return self.image(self.second(units))

    def call(self, image):
        """image to image_hat without codes between, as the network is trained."""
        return self.from_hidden(self.hidden_units(image))

    def analyse(self, image, quality):
        codes = ops.round(self.hidden_units(image) / self.step(quality))
        codes = ops.clip(codes, *self.alphabet)
        number, rows, columns = ops.shape(codes)[:3]
        return ops.cast(ops.reshape(codes, (number, rows, columns, self.depth(quality))), "int32")

    def synthesise(self, codes, quality):
        number, rows, columns = ops.shape(codes)[:3]
        codes = ops.reshape(codes, (number, rows, columns, self.channels, self.hidden))
        return self.from_hidden(ops.cast(codes, "float32") * self.step(quality))

    def solve(self, images):
        """Finds all weights without a gradient, and the tables.

        The hidden units are the principal components of the blocks, and the output layer is the
        least squares solution for what they say (Verma et al.'s direct solution).

        Args:
            images: list of arrays, float32 `[N, H, W, C]` in [0, 1], sides multiples of 8.
        """
        blocks = [ops.convert_to_numpy(self.blocks(image)).reshape(-1, PIXELS) for image in images]
        blocks = np.concatenate(blocks).astype(np.float64)
        _, directions = np.linalg.eigh(np.cov(blocks.T))
        kernel = directions[:, ::-1][:, : self.hidden]  # the greatest come last
        units = np.pad(blocks @ kernel, ((0, 0), (0, 1)), constant_values=1.0)
        *out, bias = np.linalg.lstsq(units, blocks, rcond=None)[0]
        self.first.set_weights([kernel, np.zeros(self.hidden)])
        self.second.set_weights([np.array(out), bias])
        self.count_codes(images)

    def even_out(self):
        """Gives the hidden units weights that are orthonormal, as steps of one size call for.

        Without steps the network does what it did: what it takes from one layer it gives the other.
        """
        (first, first_bias), (second, second_bias) = (
            [each.astype(np.float64) for each in layer.get_weights()]
            for layer in (self.first, self.second)
        )
        left, sizes, right = np.linalg.svd(first @ second, full_matrices=False)
        left, sizes, right = (each[..., : self.hidden] for each in (left, sizes, right.T))
        self.first.set_weights([left, np.zeros(self.hidden)])
        self.second.set_weights([(right * sizes).T, first_bias @ second + second_bias])

    def get_config(self):
        own = {"channels": self.channels, "hidden": self.hidden, "steps": self.steps}
        return super().get_config() | own
