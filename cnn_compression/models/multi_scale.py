"""`MultiScale`: a `ComRec` for each size of the compact image, behind one quality."""

import keras
import numpy as np
from keras import ops

from cnn_compression.models.com_rec import ComRec
from cnn_compression.tensors.texture import fine_texture


@keras.saving.register_keras_serializable(package="cnn_compression")
class MultiScale(keras.Model):
    """Pairs of networks for different scales, and which of them serves which image and quality.

    Few bytes are best spent on a small compact image, many on one of full size. Each pair serves a
    range of the qualities 1..100, from coarse to fine, inside which the JPEG's quantisation steps
    fall geometrically, so that bytes rise evenly. Where a picture is better handed over depends on
    the texture that a small compact image cannot hold. So the ranges of neighbours may overlap: in
    there the finer pair takes the pictures whose `fine_texture` is at least a limit, which falls
    geometrically with the quality.

    Args:
        pairs: `ComRec`s of one number of channels, the largest scale first.
        ranges: for each pair its first and last quality, and the JPEG's quality at these two:
            lists of four integers. A single pair may go without: the JPEG's quality is then the
            codec's own.
        handovers: for each two neighbours the limit of texture at the first and at the last quality
            that both serve, levels of [0, 255]. Needed where any ranges overlap.

    Attributes:
        pairs, ranges, handovers: as given.
        channels: of the images, 1 or 3.
        scales: the pairs' scales.
        jpeg_quality: int32 `[pairs, 100]`: of the JPEG for each pair and quality 1..100.
        limits: float32 `[pairs - 1, 100]`: from which texture on each pair hands over to its next.

    Raises:
        ValueError: where the pairs do not go together, the ranges do not cover 1..100 in order, or
            ranges overlap without limits.
    """

    def __init__(self, pairs, ranges=None, handovers=None, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.pairs, self.ranges = list(pairs), [list(r) for r in ranges or []]
        self.handovers = [list(limits) for limits in handovers or []]
        self.channels, self.scales = pairs[0].channels, [pair.scale for pair in pairs]
        if {pair.channels for pair in pairs} != {self.channels}:
            received = [pair.channels for pair in pairs]
            raise ValueError(f"expected pairs of one number of channels. Received: {received}")
        if self.scales != sorted(set(self.scales), reverse=True):
            raise ValueError(f"expected scales in falling order. Received: {self.scales}")
        if len(self.pairs) == 1 and ranges is None:
            self.jpeg_quality = np.arange(1, 101, dtype=np.int32)[None]
            self.limits = np.zeros((0, 100), np.float32)
        else:
            if len(self.ranges) != len(self.pairs):
                raise ValueError(f"expected {len(self.pairs)} ranges. Received: {self.ranges}")
            self.jpeg_quality, self.limits = quality_tables(self.ranges, self.handovers)
        self.built = True

    def route(self, squares, quality):
        """Which pair takes which image, and the quality of its JPEG.

        Args:
            squares: what `ops.texture_squares` makes of `N` images, or of one for all qualities.
            quality: int32 `[N]`, 1..100.

        Returns:
            Two int32 `[N]`: positions in `pairs`, and qualities 1..100.
        """
        pair_of_image = ops.zeros_like(quality)
        # Infinity in a graph would end a host's process that has TensorFlow look for it.
        finite = np.minimum(self.limits, np.finfo(np.float32).max)
        for scale, limits in zip(self.scales[:-1], finite, strict=True):
            limit = ops.take(limits, quality - 1)
            hands_over = 255.0 * fine_texture(squares, scale) >= limit
            pair_of_image += ops.cast(hands_over, "int32")
        place = pair_of_image * 100 + quality - 1
        return pair_of_image, ops.take(self.jpeg_quality.reshape(-1), place)

    def get_config(self):
        pairs = [keras.saving.serialize_keras_object(pair) for pair in self.pairs]
        config = {"pairs": pairs, "ranges": self.ranges or None, "handovers": self.handovers}
        return super().get_config() | config

    @classmethod
    def from_config(cls, config):
        pairs = [keras.saving.deserialize_keras_object(pair) for pair in config["pairs"]]
        return cls(**config | {"pairs": pairs})

    def get_build_config(self):
        """Nothing to keep: the pairs build themselves."""


def quality_tables(ranges, handovers=()):
    """The scale of qualities: what each pair's JPEG does at each, and where pairs hand over.

    Args:
        ranges, handovers: as of `MultiScale`.

    Returns:
        `jpeg_quality` and `limits`, as of `MultiScale`.

    Raises:
        ValueError: as of `MultiScale`.
    """
    firsts, lasts = ([r[end] for r in ranges] for end in (0, 1))
    starts_and_ends = list(zip(firsts[1:], lasts[:-1], strict=True))
    in_order = all(
        before < first <= last + 1 <= end
        for before, (first, last), end in zip(firsts[:-1], starts_and_ends, lasts[1:], strict=True)
    )
    rising = all(first <= last and 1 <= low <= high <= 100 for first, last, low, high in ranges)
    if (firsts[0], lasts[-1]) != (1, 100) or not (in_order and rising):
        raise ValueError(
            "expected ranges [first, last, JPEG's first, JPEG's last] that cover 1..100 in order. "
            f"Received: {ranges}"
        )
    overlap = any(first <= last for first, last in starts_and_ends)
    needed = len(starts_and_ends) if overlap else 0
    falling = all(len(ends) == 2 and ends[0] >= ends[1] > 0 for ends in handovers)
    if len(handovers) != needed or not falling:
        raise ValueError(
            f"expected {needed} falling limits of texture, one for each two neighbouring ranges "
            f"where any overlap. Received: {handovers} for {ranges}"
        )
    limits = np.zeros((len(starts_and_ends), 100), np.float32)
    for row, (first, last) in enumerate(starts_and_ends):
        limits[row, : first - 1] = np.inf
        if first <= last:
            limits[row, first - 1 : last] = np.geomspace(*handovers[row], last - first + 1)
    return np.stack([_jpeg_qualities(*r) for r in ranges]), limits


def table_factor(quality):
    """What libjpeg multiplies its tables by at int qualities; 100 is taken for 99.5."""
    return np.where(quality < 50, 50 / quality, np.maximum(2 - quality / 50, 0.01))


def _jpeg_qualities(first, last, low, high):
    """int32 `[100]`: `low` to `high` over `first`..`last`, and level outside of them.

    The tables' factor falls geometrically.
    """
    low_factor, high_factor = table_factor(np.array([low, high]))
    along = np.clip((np.arange(1, 101) - first) / max(last - first, 1), 0, 1)
    factor = low_factor ** (1 - along) * high_factor**along
    quality = np.where(factor > 1, 50 / factor, 100 - 50 * factor)
    return np.round(quality).astype(np.int32)


def as_multi_scale(model):
    """A `ComRec` or `MultiScale` as a `MultiScale`."""
    return MultiScale([model], name=model.name) if isinstance(model, ComRec) else model
