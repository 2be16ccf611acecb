"""What every family of latent codecs offers: an image becomes integers, and these an image again.

`ComRec` leaves its bytes to JPEG. These families have bytes of their own: their integers, the
codes, lie in cells like the pixels of a small picture, and `codec.latent` writes them by a range
coder with one fixed table of frequencies a channel, which the model brings along.
"""

import keras
import numpy as np
from keras import ops

# Each table's frequencies sum to 2**16: of some hundred symbols the rare ones, which have one each,
# take less than a hundredth.
FREQUENCY_BITS = 16


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
        table_qualities: those of `qualities` that tables were counted at; the others take the
            nearest's.
        is_progressive: whether the codes of a quality begin with those of the quality before, so
            that a payload can be cut between them.
        makes_up: whether codes of 0 leave it to `synthesise` what is in a cell, so that a mask can
            say which cells of an image are sent.
    """

    family = None
    qualities, default_quality = range(1, 101), 50
    cell, reach, alphabet = 1, 0, (0, 1)
    table_qualities = (50,)
    is_progressive = makes_up = False

    def depth(self, quality):
        """How many codes a cell has at a quality, int."""
        raise NotImplementedError

    def analyse(self, image, quality):
        """Image to codes.

        Args:
            image: float32 `[N, H, W, C]` in [0, 1], sides multiples of `cell`.
            quality: one of `qualities`, int or an int32 scalar.

        Returns:
            int32 `[N, H / cell, W / cell, depth(quality)]`, in `alphabet`.
        """
        raise NotImplementedError

    def synthesise(self, codes, quality):
        """Codes to image_hat, float32 `[N, H, W, C]`, not clipped; arguments as of `analyse`."""
        raise NotImplementedError

    def build_tables(self):
        """Makes room for the tables; until `count_codes` all codes are as likely."""
        lowest, highest = self.alphabet
        depth = max(map(self.depth, self.table_qualities))
        shape = (len(self.table_qualities), depth, highest - lowest + 1)
        # Whole numbers that float32 has: integers are no weights in all that reads and trains them.
        even = keras.initializers.Constant(as_frequencies(np.ones(shape)))
        self.tables = self.add_weight(
            name="tables", shape=shape, dtype="float32", initializer=even, trainable=False
        )

    def count_codes(self, images):
        """Makes the tables from the codes of images.

        Args:
            images: list of arrays, float32 `[N, H, W, C]`, as `analyse` takes them.
        """
        counts = np.zeros(self.tables.shape)
        lowest, _ = self.alphabet
        for row, quality in zip(counts, self.table_qualities, strict=True):
            for image in images:
                codes = ops.convert_to_numpy(self.analyse(image, quality)) - lowest
                for channel, values in enumerate(codes.reshape(-1, codes.shape[-1]).T):
                    row[channel] += np.bincount(values, minlength=row.shape[-1])
        self.tables.assign(as_frequencies(counts))

    def frequencies(self, quality):
        """How often each code comes in each channel of a cell.

        Returns:
            int32 array `[depth(quality), symbols]`, all above 0, rows that sum to
            2**`FREQUENCY_BITS`; symbols are the alphabet's, the lowest first.
        """
        nearest = np.argmin(np.abs(np.array(self.table_qualities) - quality))
        rows = ops.convert_to_numpy(self.tables)[nearest, : self.depth(quality)]
        return rows.astype(np.int32)


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
