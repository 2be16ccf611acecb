"""`ComRec`: a ComCNN and the RecCNN that undoes it, and the presets that they come in."""

import keras

from cnn_compression.jpeg.twin import STEP_OF_QUALITY_50, mean_luma_step
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.models.paper import PaperComCNN, PaperRecCNN
from cnn_compression.tensors.distortion import DISTORTIONS
from cnn_compression.tensors.shapes import crop, pad_to_multiple

PRESETS = {
    "fast": (FastComCNN, FastRecCNN),
    "paper": (PaperComCNN, PaperRecCNN),
}


@keras.saving.register_keras_serializable(package="cnn_compression")
class ComRec(keras.Model):
    """The two networks of one codec, for images of any height and width.

    The networks are built at once, so that weights can be counted, loaded and compared.

    Args:
        com: network from image to compact, called as `com(image, quality)`.
        rec: network from compact_hat to image_hat, called as `rec(compact_hat, quality)`.
        chroma: how the JPEG between them keeps colour, `4:2:0` or `4:4:4`.
        rate_weight, rate_power: what a bit is worth to this model; see `rate_slope`.
        distortion: what it keeps small, one of `DISTORTIONS`.

    Raises:
        ValueError: where the two differ in channels or in scale, or the distortion is unknown.
    """

    def __init__(
        self,
        com,
        rec,
        chroma="4:2:0",
        rate_weight=8.0,
        rate_power=1.0,
        distortion="mse",
        **kwargs,
    ):
        super().__init__(**kwargs | {"dtype": "float32"})
        if (com.channels, com.scale) != (rec.channels, rec.scale):
            raise ValueError(
                "com and rec must share channels and scale. Received: "
                f"com {com.channels}, {com.scale}; rec {rec.channels}, {rec.scale}"
            )
        if distortion not in DISTORTIONS:
            raise ValueError(
                f"distortion must be one of {sorted(DISTORTIONS)}. Received: {distortion!r}"
            )
        self.com, self.rec, self.chroma = com, rec, chroma
        self.distortion_name, self.distortion = distortion, DISTORTIONS[distortion]
        self.rate_weight, self.rate_power = rate_weight, rate_power
        self.channels, self.scale = com.channels, com.scale
        self.reach = max(com.reach, rec.reach)
        self.build()

    @classmethod
    def from_preset(
        cls, preset="fast", channels=3, scale=2, rec=None, precision="float32", **kwargs
    ):
        """A new model with random weights: `fast` (the default) or `paper` (1708.00838).

        `rec` are arguments of the RecCNN that differ from the preset's, `precision` is that of both
        networks' inner layers, further ones are the class'.
        """
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}. Received: {preset!r}")
        com_class, rec_class = PRESETS[preset]
        com = com_class(channels, scale, precision=precision, name="com")
        rec = rec_class(channels, scale, precision=precision, name="rec", **rec or {})
        return cls(com, rec, name=preset, **kwargs)

    def build(self):
        """Without a picture: to trace the networks for their weights' sake takes seconds."""
        for network in (self.com, self.rec):
            if not network.built:
                network.build()

    def get_build_config(self):
        """Nothing to keep: see `build`."""

    def in_precision(self, precision, **changes):
        """A pair with the same weights, but its own, whose inner layers compute in a precision.

        `changes` are arguments of the class that differ too.
        """
        config = self.get_config() | changes
        for name in ("com", "rec"):
            config[name]["config"]["precision"] = precision
        pair = type(self).from_config(config)
        pair.set_weights(self.get_weights())
        return pair

    def compact(self, image, quality, training=False, size=None):
        """Image to compact.

        Args:
            image: float32 `[N, H, W, C]` in [0, 1].
            quality: int `[N]`, 1..100.
            training: whether batch statistics are gathered, where the networks have any.
            size: height and width of a single picture on a canvas; see `Network`.

        Returns:
            float32 `[N, ceil(H / scale), ceil(W / scale), C]`, about [0, 1], not clipped.
        """
        image = image if size else pad_to_multiple(image, self.scale)
        compact = self.com(image, quality, training=training, size=size)
        size = size and [-(-side // self.scale) for side in size]
        return self.rec.emphasise(compact, quality, size=size)

    def restore(self, compact_hat, quality, height, width, training=False, size=None):
        """compact_hat to image_hat: the inverse of `compact`, for an image of the given size.

        `size`: height and width of a single compact image on a canvas; see `Network`.

        Returns:
            float32 `[N, height, width, C]`, about [0, 1], not clipped.
        """
        image_hat = self.rec(compact_hat, quality, training=training, size=size)
        return crop(image_hat, height, width)

    def rate_slope(self, quality):
        """lambda: what one bit a pixel is worth at a quality, in squared levels of [0, 255].

        `rate_weight` x mean luma step, times a further power of the step where `rate_power` is not
        1. Along the qualities of half-size codecs, the slope dD/dR is about 6 times the step;
        that of full-size ones rather follows the step's square.

        Args:
            quality: int `[N]`, 1..100, the JPEG's.

        Returns:
            float32 `[N]`.
        """
        step = mean_luma_step(quality)
        return self.rate_weight * step * (step / STEP_OF_QUALITY_50) ** (self.rate_power - 1.0)

    def call(self, image, quality, training=False):
        """image to image_hat without a codec between, as the paper trains ComCNN."""
        compact = self.compact(image, quality, training)
        return self.restore(compact, quality, *keras.ops.shape(image)[1:3], training)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        config = {
            "com": serialize(self.com),
            "rec": serialize(self.rec),
            "chroma": self.chroma,
            "rate_weight": self.rate_weight,
            "rate_power": self.rate_power,
            "distortion": self.distortion_name,
        }
        return super().get_config() | config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("com", "rec"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
