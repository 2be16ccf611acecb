"""Family "progressive": bits that each make the picture better, by recurrent networks.

Toderici et al., *Full Resolution Image Compression with Recurrent Neural Networks*, CVPR 2017,
1608.05148. An encoder sees what the picture so far has left wrong and says 32 bits for each cell of
16 x 16 pixels; a decoder, which remembers all bits before, paints a better picture; and again, up
to 16 times, 1/8 bit a pixel each.
"""

import keras
from keras import ops

from cnn_compression.models.latent import LatentModel
from cnn_compression.models.layers import build_conv, conv

# Widths: of the encoder's convolution and its three recurrent layers, and of the decoder's four.
PRESETS = {
    "progressive": {"encoder": (16, 64, 128, 128), "decoder": (128, 128, 64, 32)},
    "toderici": {"encoder": (64, 256, 512, 512), "decoder": (512, 512, 256, 128)},
}
RECONSTRUCTIONS = ("one_shot", "additive", "scaled")
MOST_ITERATIONS = 16
# Side of the convolutions on the decoder's own memory (figure 1).
_DECODER_MEMORY = (1, 1, 3, 3)
_GAIN_FILTERS = (32, 32, 32, 32, 1)


def _keeping(gain):
    """Initial weights that multiply the size of what comes in, so that nothing fades on its way."""
    return keras.initializers.VarianceScaling(gain**2, "fan_in")


@keras.saving.register_keras_serializable(package="cnn_compression")
class ConvGRU(keras.layers.Layer):
    """A gated recurrent unit whose products are convolutions (1608.05148, section 2.1).

    Args:
        filters: channels of its memory, which is what it gives.
        stride: of the convolution on its input.
        memory_size: side of the convolutions on its memory.
        dtype: precision, as of any layer of Keras.
    """

    def __init__(self, filters, stride=1, memory_size=1, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self.filters, self.stride, self.memory_size = filters, stride, memory_size
        # An update gate that is half open halves what is new.
        self.of_input = conv(
            3 * filters,
            strides=stride,
            kernel_initializer=_keeping(2),
            dtype=dtype,
            name="of_input",
        )
        of_memory = {"kernel_initializer": _keeping(1), "use_bias": False, "dtype": dtype}
        self.gates = conv(2 * filters, memory_size, name="gates", **of_memory)
        self.candidate = conv(filters, memory_size, name="candidate", **of_memory)

    def build(self, input_shape, memory_shape=None):
        self.of_input.build(input_shape)
        for layer in (self.gates, self.candidate):
            build_conv(layer, self.filters)

    def start(self, batch, height, width):
        """An empty memory: `[batch, height, width, filters]`."""
        return ops.zeros((batch, height, width, self.filters), self.compute_dtype)

    def call(self, x, memory):
        """`[N, H, W, C]` and `[N, H / stride, W / stride, filters]` to the new memory."""
        update, reset, fresh = ops.split(self.of_input(x), 3, axis=-1)
        of_update, of_reset = ops.split(self.gates(memory), 2, axis=-1)
        update, reset = ops.sigmoid(update + of_update), ops.sigmoid(reset + of_reset)
        fresh = ops.tanh(fresh + self.candidate(reset * memory))
        return memory + update * (fresh - memory)

    def get_config(self):
        own = {"filters": self.filters, "stride": self.stride, "memory_size": self.memory_size}
        return super().get_config() | own


@keras.saving.register_keras_serializable(package="cnn_compression")
class Progressive(LatentModel):
    """Encoder, binariser and decoder, and how a picture is made of what the decoder gives.

    Quality is the number of iterations, from 1 to as many as there are.

    Args:
        channels: of image and image_hat, 1 or 3.
        encoder: widths of its convolution and its three recurrent layers, each of stride 2.
        decoder: widths of its four recurrent layers; between them depth goes to space.
        bits: codes of a cell in each iteration.
        reconstruction: `one_shot`: each iteration gives the whole picture; `additive`: what is
            added to the picture before; `scaled`: the same, where a gain that follows the picture
            before enlarges what is coded (section 3.3).
        iterations: how many there are, 1 to 16.
        precision: of the layers, a Keras policy: float32, or mixed_bfloat16.

    Raises:
        ValueError: for another reconstruction or number of iterations, or widths that are not four
            each.
    """

    family = "progressive"
    # Each iteration looks 64 pixels further. That of the last ones is left out: where tiles of a
    # large picture meet, it is not quite what it would be in one piece.
    cell, reach, alphabet = 16, 256, (0, 1)
    is_progressive = True

    def __init__(
        self,
        channels=3,
        encoder=PRESETS["progressive"]["encoder"],
        decoder=PRESETS["progressive"]["decoder"],
        bits=32,
        reconstruction="one_shot",
        iterations=MOST_ITERATIONS,
        precision="float32",
        **kwargs,
    ):
        super().__init__(**kwargs | {"dtype": "float32"})
        if not 1 <= iterations <= MOST_ITERATIONS:
            raise ValueError(f"iterations must be 1..{MOST_ITERATIONS}. Received: {iterations!r}")
        if reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"reconstruction must be one of {RECONSTRUCTIONS}. Received: {reconstruction!r}"
            )
        if (len(encoder), len(decoder)) != (4, 4):
            raise ValueError(f"expected four widths each. Received: {encoder}, {decoder}")
        self.channels, self.bits, self.precision = channels, bits, precision
        self.widths = {"encoder": list(encoder), "decoder": list(decoder)}
        self.reconstruction, self.iterations = reconstruction, iterations
        self.qualities, self.default_quality = range(1, iterations + 1), -(-iterations // 2)
        self.table_qualities = (iterations,)  # of which the codes of all others are the beginning
        plain = {"kernel_initializer": _keeping(1), "dtype": precision}
        self.first = conv(encoder[0], strides=2, name="first", **plain)
        self.encoder = [
            ConvGRU(width, 2, dtype=precision, name=f"encoder{number}")
            for number, width in enumerate(encoder[1:], 1)
        ]
        steep = plain | {"kernel_initializer": _keeping(2)}
        self.binariser = conv(bits, 1, use_bias=False, name="binariser", **steep)
        self.second = conv(decoder[0], 1, name="second", **plain)
        self.decoder = [
            ConvGRU(width, 1, size, dtype=precision, name=f"decoder{number}")
            for number, (width, size) in enumerate(zip(decoder, _DECODER_MEMORY, strict=True), 1)
        ]
        self.last = conv(channels, 1, name="last", **plain)
        scales = reconstruction == "scaled"
        self.gain = [
            conv(filters, strides=2, name=f"gain{number}", **plain)
            for number, filters in enumerate(_GAIN_FILTERS if scales else (), 1)
        ]
        self.build()

    @classmethod
    def from_preset(cls, preset="progressive", channels=3, precision="float32", **kwargs):
        """A new model, random weights: `toderici` has the paper's widths, the other a quarter."""
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}. Received: {preset!r}")
        return cls(channels, **PRESETS[preset], precision=precision, **kwargs)

    def build(self):
        """At once, so that weights can be counted and loaded."""
        if self.built:
            return
        encoder, decoder = self.widths["encoder"], self.widths["decoder"]
        build_conv(self.first, self.channels)
        for layer, width in zip(self.encoder, encoder, strict=False):
            layer.build((None, None, None, width))
        build_conv(self.binariser, encoder[-1])
        build_conv(self.second, self.bits)
        for layer, width in zip(
            self.decoder, [decoder[0], *(width // 4 for width in decoder)], strict=False
        ):
            layer.build((None, None, None, width))
        build_conv(self.last, decoder[-1] // 4)
        for layer, width in zip(self.gain, (self.channels, *_GAIN_FILTERS), strict=False):
            build_conv(layer, width)
        self.build_tables()
        self.built = True

    def get_build_config(self):
        """Nothing to keep: see `build`."""

    def depth(self, quality):
        return self.bits * quality

    def analyse(self, image, quality):
        image = 2.0 * image - 1.0
        batch, height, width = ops.shape(image)[:3]
        rows, columns = height // self.cell, width // self.cell
        signs = ops.zeros((batch, rows, columns, quality, self.bits))

        # A loop of the graph's: the graph is as large for 16 iterations as for one.
        def iteration(number, carry):
            signs, state = carry
            said, state = self._say(image, state)
            new = ops.where(said > 0.0, 1.0, -1.0)
            here = ops.one_hot(number, quality, dtype="float32")[:, None]
            return signs + here * new[..., None, :], self._paint(new, state)

        start = signs, self._start(batch, rows, columns)
        signs, _ = ops.fori_loop(0, quality, iteration, start)
        return ops.reshape(ops.cast(signs > 0.0, "int32"), (batch, rows, columns, -1))

    def synthesise(self, codes, quality):
        batch, rows, columns = ops.shape(codes)[:3]
        signs = 2.0 * ops.cast(codes, "float32") - 1.0
        signs = ops.reshape(signs, (batch, rows, columns, quality, self.bits))

        def iteration(number, state):
            return self._paint(ops.take(signs, number, axis=3), state)

        state = ops.fori_loop(0, quality, iteration, self._start(batch, rows, columns))
        return 0.5 * (state["picture"] + 1.0)

    def pictures(self, image, noise):
        """The pictures of all iterations, as training wants them.

        Args:
            image: float32 `[N, H, W, C]` in [0, 1], sides multiples of 16.
            noise: float32 `[iterations, N, H / 16, W / 16, bits]`, uniform in [0, 1): bits are
                drawn by it, 1 the more likely the larger what the encoder says (eq. 2 and 3). At
                0.5 all over they are its signs, as they are in use.

        Returns:
            List of image_hat, float32 `[N, H, W, C]`, not clipped. The gradient goes through the
            bits as if they were what the encoder says.
        """
        image = 2.0 * image - 1.0
        batch, height, width = ops.shape(image)[:3]
        state, pictures = self._start(batch, height // self.cell, width // self.cell), []
        for draws in noise:
            said, state = self._say(image, state)
            signs = ops.where(said > 2.0 * draws - 1.0, 1.0, -1.0)
            state = self._paint(said + ops.stop_gradient(signs - said), state)
            pictures.append(0.5 * (state["picture"] + 1.0))
        return pictures

    def _start(self, batch, rows, columns):
        """What is known before the first iteration: dict of the picture and all memories."""
        height, width = rows * self.cell, columns * self.cell

        def empty(layers, scales):
            return [
                layer.start(batch, rows * scale, columns * scale)
                for layer, scale in zip(layers, scales, strict=True)
            ]

        return {
            "picture": ops.zeros((batch, height, width, self.channels)),
            "gain": ops.ones((batch, height, width, 1)),
            "encoder": empty(self.encoder, (4, 2, 1)),
            "decoder": empty(self.decoder, (1, 2, 4, 8)),
        }

    def _say(self, image, state):
        """What bits are made of, float32 `[N, H / 16, W / 16, bits]` in (-1, 1); the new state."""
        x, memory = self.first(state["gain"] * (image - state["picture"])), []
        for layer, before in zip(self.encoder, state["encoder"], strict=True):
            x = layer(x, before)
            memory.append(x)
        return ops.cast(ops.tanh(self.binariser(x)), "float32"), state | {"encoder": memory}

    def _paint(self, signs, state):
        """The state with the next picture, from float32 `[N, H / 16, W / 16, bits]`, -1 or 1."""
        x, memory = self.second(signs), []
        for layer, before in zip(self.decoder, state["decoder"], strict=True):
            x = layer(x, before)
            memory.append(x)
            x = ops.depth_to_space(x, 2, "channels_last")
        state = state | {"decoder": memory}
        painted = ops.cast(self.last(x), "float32")
        if self.reconstruction == "one_shot":
            return state | {"picture": painted}
        picture = state["picture"] + painted / state["gain"]
        if self.reconstruction == "additive":
            return state | {"picture": picture}
        return state | {"picture": picture, "gain": self._gain_for(picture)}

    def _gain_for(self, picture):
        """A number above 1 for each square of 32 x 32 (section 3.3): `[N, H, W, 1]`."""
        height, width = ops.shape(picture)[1:3]
        x = picture
        for layer in self.gain:
            x = ops.elu(layer(x))
        x = ops.cast(x, "float32") + 2.0
        x = ops.repeat(ops.repeat(x, 2 * self.cell, axis=1), 2 * self.cell, axis=2)
        return x[:, :height, :width]

    def get_config(self):
        own = {
            "channels": self.channels,
            "encoder": self.widths["encoder"],
            "decoder": self.widths["decoder"],
            "bits": self.bits,
            "reconstruction": self.reconstruction,
            "iterations": self.iterations,
            "precision": self.precision,
        }
        return super().get_config() | own
