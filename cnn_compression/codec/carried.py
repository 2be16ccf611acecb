"""What all codecs share: a model with a name, which can be pickled and copied."""

from collections.abc import Callable
from typing import Any, Self

import keras

from cnn_compression.process import check_not_forked

Report = Callable[[int, int], None]  # see `Carried.reporting`


class Carried:
    """A codec that can be carried to another process, or machine.

    It is pickled as the file that it was loaded from, or as its weights: graphs are made anew. A
    subclass is made of (model, name, tile, report).

    Args:
        model: of Keras.
        name: what to call it.
        tile: int, pixels: larger images are taken apart; a multiple of 256.
        report: see `reporting`.

    Raises:
        ValueError: for another tile.
        RuntimeError: in a process that was forked from one in which TensorFlow runs.
    """

    def __init__(self, model: Any, name: str, tile: int, report: Report | None):
        if tile < 1 or tile % 256:
            raise ValueError(f"tile must be a multiple of 256. Received: {tile}")
        check_not_forked()
        self.model, self.name, self.tile = model, name, tile
        self._report, self._origin = report, None

    def came_from(self, file, load):
        """Says that the codec is what `load` makes of a file, or of the codec's name."""
        self._origin = file, load

    def reporting(self, report: Report | None) -> Self:
        """The same codec, which tells how far it is with an image.

        Args:
            report: called after each tile with how many of this pass over the image are done, and
                of how many.

        Returns:
            A codec of the same class, which cannot be exported.
        """
        return self.changed(self.tile, report)

    def changed(self, tile, report):
        """The same codec with other settings."""
        codec = type(self)(self.model, self.name, tile, report)
        codec._origin = self._origin
        return codec

    def __reduce__(self):
        settings = self.name, self.tile, self._report
        if self._origin:
            file, load = self._origin
            return from_file, (load, file, self.fingerprint, *settings)
        config = keras.saving.serialize_keras_object(self.model)
        return from_weights, (type(self), config, self.model.get_weights(), *settings)


def from_file(load, file, fingerprint, name, tile, report):
    """A codec that was loaded where it was pickled; on another machine by its name."""
    codec = load(file if file.exists() else name)
    if codec.fingerprint != fingerprint:
        raise ValueError(
            f"expected model {fingerprint}, of which a codec was pickled. Received: {name!r}, "
            f"which is {codec.fingerprint} here"
        )
    if (tile, report) == (codec.tile, None):
        return codec
    return codec.changed(tile, report)


def from_weights(kind, config, weights, name, tile, report):
    """A codec of a class, of the config of its model."""
    model = keras.saving.deserialize_keras_object(config)
    model.set_weights(weights)
    return kind(model, name, tile, report)
