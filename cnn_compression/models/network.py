"""What all networks share."""

import keras


class Network(keras.Model):
    """A ComCNN or RecCNN: called as `network(x, quality)`, built by the `ComRec` that owns it.

    A single picture may lie on a larger canvas (see `canvas`): `network(x, quality, size=...)`, its
    height and width, gives for the picture what it would have given without.

    Its inputs and outputs are float32 in every precision; only the layers inside are narrower.

    Args:
        channels: of image and compact, 1 (luma) or 3.
        scale: image pixels per compact pixel along each side, one of the class' `scales`.
        precision: of the layers inside, a Keras policy: float32, or mixed_bfloat16.

    Raises:
        ValueError: for a scale that the network does not have.
    """

    scales = (2,)
    # Pixels of the image beyond a block of the compact image, on each side, that have a say in what
    # the network makes of it. Each network has its own, so that tiles can overlap by it.
    reach = None

    def __init__(self, channels, scale=2, precision="float32", **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        if scale not in self.scales:
            raise ValueError(
                f"scale of {type(self).__name__} must be one of {self.scales}. Received: {scale}"
            )
        self.channels, self.scale, self.precision = channels, scale, precision

    def emphasise(self, compact, quality, size=None):
        """Of a RecCNN: what it wants done to ComCNN's output, since it starts by undoing it.

        Args:
            compact: float32 `[N, h, w, C]`, about [0, 1].
            quality: int `[N]`, 1..100.
            size: of a compact image that does not fill it, height and width.

        Returns:
            float32 `[N, h, w, C]`, here what came.
        """
        return compact

    def get_config(self):
        own = {"channels": self.channels, "scale": self.scale, "precision": self.precision}
        return super().get_config() | own

    def get_build_config(self):
        """Nothing to keep: `ComRec` builds its networks itself."""
