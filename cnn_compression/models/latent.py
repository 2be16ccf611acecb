"""What every family of latent codecs offers: an image becomes integers, and these an image again.

`ComRec` leaves its bytes to JPEG. These families have bytes of their own: their integers, the
codes, lie in cells like the pixels of a small picture, and `codec.latent` writes them by a range
coder with one fixed table of frequencies a channel, which the model brings along.
"""

import keras
import numpy as np

FREQUENCY_BITS = 14  # each table's frequencies sum to 2**14


class LatentModel(keras.Model):
    """A family of latent codecs; a subclass is one file in `models/`.

    Args:
        channels: of image and image_hat, 1 or 3.

    Attributes:
        family: str, what a payload says that it is of.
        qualities: `range` of int, the worst first; `default_quality` is one of them.
        cell: int, image pixels per code along each side; sides are padded to its multiples.
        reach: int, pixels beyond a cell, on each side, that have a say in what becomes of it.
        alphabet: (lowest, highest) of all codes, ints.
        is_progressive: whether the codes of a quality begin with those of the quality before, so
            that a payload can be cut between them.
    """

    family = None
    qualities, default_quality = range(1, 101), 50
    cell, reach, alphabet = 1, 0, (0, 1)
    is_progressive = False

    def depth(self, quality):
        """How many codes a cell has at a quality, int."""
        raise NotImplementedError

    def analyse(self, image, quality):
        """Image to codes.

        Args:
            image: float32 `[N, H, W, C]` in [0, 1], sides multiples of `cell`.
            quality: int, one of `qualities`.

        Returns:
            int32 `[N, H / cell, W / cell, depth(quality)]`, in `alphabet`.
        """
        raise NotImplementedError

    def synthesise(self, codes, quality):
        """Codes to image_hat, float32 `[N, H, W, C]`, not clipped; arguments as of `analyse`."""
        raise NotImplementedError

    def frequencies(self, quality):
        """How often each code comes in each channel of a cell.

        Returns:
            int32 array `[depth(quality), symbols]`, all above 0, rows that sum to
            2**`FREQUENCY_BITS`; symbols are the alphabet's, the lowest first.
        """
        raise NotImplementedError


def as_frequencies(counts):
    """Counts of symbols as a range coder takes them: whole numbers that leave no symbol out.

    Args:
        counts: `[..., symbols]`, at least 0.

    Returns:
        int32 array of the same shape, all at least 1, rows that sum to 2**`FREQUENCY_BITS`.
    """
    counts = np.asarray(counts, np.float64)
    free = 2**FREQUENCY_BITS - counts.shape[-1]
    sums = np.maximum(counts.sum(-1, keepdims=True), 1e-9)
    frequencies = 1 + np.floor(free * counts / sums).astype(np.int32)
    # What rounding left goes to the most frequent, which it changes least.
    left = 2**FREQUENCY_BITS - frequencies.sum(-1, keepdims=True)
    most = frequencies.argmax(-1)[..., None]
    np.put_along_axis(frequencies, most, np.take_along_axis(frequencies, most, -1) + left, -1)
    return frequencies
