"""One pair of networks with JPEG between, on one picture of any size: uint8 in, uint8 out."""

import functools

import tensorflow as tf

from cnn_compression.codec.effort import refine
from cnn_compression.jpeg import coding
from cnn_compression.tensors.canvas import on_canvas
from cnn_compression.tensors.colour import luma
from cnn_compression.tensors.functions import shared
from cnn_compression.tensors.levels import to_uint8, to_unit
from cnn_compression.tensors.tiles import map_tiles

# Pixels of a side that go through a network at once, besides the overlap: memory follows it.
TILE = 1024

_IMAGE = tf.TensorSpec((None, None, None), tf.uint8)
_INTEGER = tf.TensorSpec((), tf.int32)
# Quarters of the way to the refined compact image at which files are tried: real bytes are not what
# the twin promised, and where the end of the way takes more of them a place before it may not.
_QUARTERS = (4, 3, 2)


class PairCodec:
    """A `ComRec` around JPEG files.

    Grey pictures go through networks for colour as three equal channels, and luma is kept of them.

    Args:
        pair: `ComRec`.
        tile: int, pixels; divides by 256.
        report: as of `map_tiles`.

    Attributes:
        scale: the pair's.
    """

    def __init__(self, pair, tile=TILE, report=None):
        self.pair, self.tile, self.report = pair, tile, report
        self.scale, self._compactors = pair.scale, {}

    def encode(self, image, quality, steps=0):
        """Image to JPEG file.

        Args:
            image: uint8 `[H, W, C]`, C = 1 or the pair's.
            quality: int32 scalar, 1..100, the JPEG's.
            steps: of `refine`, tile by tile. The file has no more bytes than without them and
                restores to no larger an error; where no refined one does both, it is the same.

        Returns:
            string scalar.

        Raises:
            tf.errors.InvalidArgumentError: before the networks, where the compact image is larger
                than `coding.encode` takes.
        """
        compact = self._compacted(image, quality, 0)
        plain = coding.encode(compact, quality, self.pair.chroma)
        if not steps:
            return plain
        refined = self._compacted(image, quality, steps)
        most, most_error, cost = self._measured(image, quality, plain)
        best = plain
        for quarters in _QUARTERS:
            between = _between(compact, refined, quarters)
            file = coding.encode(between, quality, self.pair.chroma)
            length, error, cost_here = self._measured(image, quality, file)
            better = (length <= most) & (error <= most_error) & (cost_here < cost)
            best, cost = tf.where(better, file, best), tf.where(better, cost_here, cost)
        return best

    def restore(self, compact_hat, quality, height, width):
        """What JPEG gave to image_hat.

        Args:
            compact_hat: uint8 `[h, w, C]`, C = 1 or the pair's.
            quality: int32 scalar, as for `encode`.
            height, width: int32 scalars, of the image.

        Returns:
            uint8 `[height, width, C]`.
        """
        return self._restorer(compact_hat, quality, height, width)

    @functools.cached_property
    def _restorer(self):
        return shared(self._restore, [_IMAGE, _INTEGER, _INTEGER, _INTEGER])

    def _restore(self, compact_hat, quality, height, width):
        def network(x):
            x, size = on_canvas(x, self.scale)
            x, grey = self._to_model(x)
            sides = (side * self.scale for side in tf.unstack(tf.shape(x)[1:3]))
            image_hat = self.pair.restore(to_unit(x), quality[None], *sides, size=size)
            return to_uint8(self._from_model(image_hat, grey))

        return self._map(network, compact_hat, (height, width), 1, self.scale)

    def _compacted(self, image, quality, steps):
        """The compact image, uint8 `[h, w, C]`, as ComCNN and `steps` of `refine` make it."""
        height, width, channels = tf.unstack(tf.shape(image))
        sides = [-(-side // self.scale) for side in (height, width)]
        with tf.control_dependencies([coding.check_size(*sides, channels)]):
            sides = [tf.identity(side) for side in sides]
        if steps not in self._compactors:
            compact = functools.partial(self._compact, steps)
            self._compactors[steps] = shared(compact, [_IMAGE, *[_INTEGER] * 3])
        return self._compactors[steps](image, quality, *sides)

    def _compact(self, steps, image, quality, height, width):
        def network(x):
            # What is refined is the picture alone: a canvas would count as well.
            x, size = (x, None) if steps else on_canvas(x)
            x, grey = self._to_model(x)
            x = to_unit(x)
            compact = self.pair.compact(x, quality[None], size=size)
            if steps:
                compact = refine(self.pair, x, compact, quality[None], grey, steps)
            return to_uint8(self._from_model(compact, grey))

        return self._map(network, image, (height, width), self.scale, 1)

    def _measured(self, image, quality, file):
        """Of a JPEG file: its bytes, int32; what it restores to by the pair's distortion and by
        distortion + lambda x rate, float32 scalars."""
        height, width = tf.unstack(tf.shape(image)[:2])
        image_hat = self.restore(coding.decode(file), quality, height, width)
        pixels = tf.cast(height, tf.float32) * tf.cast(width, tf.float32)
        length = tf.strings.length(file)
        error = self._distortion(image, image_hat)
        rate = 8.0 * tf.cast(length, tf.float32) / pixels
        return length, error, error + self.pair.rate_slope(quality[None])[0] * rate

    def _distortion(self, image, image_hat):
        """The pair's, of rows as many as a tile has, so that memory does not follow the picture."""
        height = tf.shape(image)[0]

        def strip(first):
            rows = [to_unit(x[None, first : first + self.tile]) for x in (image, image_hat)]
            share = tf.minimum(self.tile, height - first) / height
            return tf.cast(share, tf.float32) * self.pair.distortion(*rows)[0]

        firsts = tf.range(0, height, self.tile)
        return tf.reduce_sum(tf.map_fn(strip, firsts, fn_output_signature=tf.float32))

    def _map(self, network, image, sides, cell_in, cell_out):
        overlap, tile = -(-self.pair.reach // self.scale), self.tile // self.scale
        return map_tiles(
            *(network, image, sides, cell_in, cell_out, overlap, tile), report=self.report
        )

    def _to_model(self, x):
        """`[1, H, W, C]` with the pair's channels, and whether it is grey and they are repeated."""
        channels = self.pair.channels
        grey = tf.equal(tf.shape(x)[-1], 1)
        x = tf.cond(grey, lambda: tf.repeat(x, channels, axis=-1), lambda: x)
        return tf.ensure_shape(x, [1, None, None, channels]), grey

    def _from_model(self, x, grey):
        of_grey = luma if self.pair.channels == 3 else tf.identity
        return tf.cond(grey, lambda: of_grey(x), lambda: x)


def _between(start, end, quarters):
    """uint8 images: so many quarters of the way from one to the other, rounded."""
    start, end = (tf.cast(x, tf.int16) for x in (start, end))
    return tf.cast((quarters * end + (4 - quarters) * start + 2) // 4, tf.uint8)
