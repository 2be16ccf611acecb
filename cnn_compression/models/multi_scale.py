"""`MultiScale`: a `ComRec` for each size of the compact image, behind one quality."""

import keras
import numpy as np

from cnn_compression.models.com_rec import ComRec


@keras.saving.register_keras_serializable(package="cnn_compression")
class MultiScale(keras.Model):
    """Pairs of networks for different scales, and which of them serves which quality.

    Few bytes are best spent on a small compact image, many on one of full size. Qualities 1..100
    are divided into one range a pair, from coarse to fine; inside a range the quality of the JPEG
    rises linearly with that of the codec.

    Args:
        pairs: `ComRec`s of one number of channels, the largest scale first.
        ranges: for each pair its first and last quality, and the JPEG's quality at these two:
            lists of four integers. A single pair may go without: the JPEG's quality is then the
            codec's own.

    Attributes:
        pairs, ranges: as given.
        channels: of the images, 1 or 3.
        scales: the pairs' scales.
        pair_of_quality: int32 `[100]`: position in `pairs` for each quality 1..100.
        jpeg_quality: int32 `[100]`: quality of the JPEG for each quality 1..100.

    Raises:
        ValueError: where the pairs do not go together, or the ranges do not cover 1..100 in order.
    """

    def __init__(self, pairs, ranges=None, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        if ranges is None and len(pairs) == 1:
            ranges = [[1, 100, 1, 100]]
        self.pairs, self.ranges = list(pairs), [list(r) for r in ranges or []]
        self.channels, self.scales = pairs[0].channels, [pair.scale for pair in pairs]
        if {pair.channels for pair in pairs} != {self.channels}:
            received = [pair.channels for pair in pairs]
            raise ValueError(f"expected pairs of one number of channels. Received: {received}")
        if self.scales != sorted(set(self.scales), reverse=True):
            raise ValueError(f"expected scales in falling order. Received: {self.scales}")
        self._check_ranges()
        self.pair_of_quality = np.repeat(
            np.arange(len(pairs), dtype=np.int32), [last - first + 1 for first, last, *_ in ranges]
        )
        steps = [np.linspace(low, high, last - first + 1) for first, last, low, high in ranges]
        self.jpeg_quality = np.round(np.concatenate(steps)).astype(np.int32)
        self.built = True

    def _check_ranges(self):
        bounds = [0, *(last for _, last, *_ in self.ranges)]
        in_order = [first for first, *_ in self.ranges] == [last + 1 for last in bounds[:-1]]
        rising = all(
            first <= last and 1 <= low <= high <= 100 for first, last, low, high in self.ranges
        )
        if len(self.ranges) != len(self.pairs) or bounds[-1] != 100 or not (in_order and rising):
            raise ValueError(
                f"expected {len(self.pairs)} ranges [first, last, JPEG's first, JPEG's last] that "
                f"cover 1..100 in order. Received: {self.ranges}"
            )

    def get_config(self):
        pairs = [keras.saving.serialize_keras_object(pair) for pair in self.pairs]
        return super().get_config() | {"pairs": pairs, "ranges": self.ranges}

    @classmethod
    def from_config(cls, config):
        pairs = [keras.saving.deserialize_keras_object(pair) for pair in config["pairs"]]
        return cls(**config | {"pairs": pairs})

    def get_build_config(self):
        """Nothing to keep: the pairs build themselves."""


def as_multi_scale(model):
    """A `ComRec` or `MultiScale` as a `MultiScale`."""
    return MultiScale([model], name=model.name) if isinstance(model, ComRec) else model
