"""Files -> uint8 images: by Pillow wherever Python reads, by TensorFlow's ops in a graph."""

from cnn_compression.images.reading import (
    COLOURS,
    read,
    read_contents,
    read_with_metadata,
    refuse_payload,
)
from cnn_compression.images.samples import ImageError

_IN_GRAPH = ("decode", "decode_checked", "encode_png")
__all__ = ["COLOURS", "ImageError", "read", "read_contents", "read_with_metadata"]
__all__ += ["refuse_payload", *_IN_GRAPH]


def __getattr__(name):
    # Only what works in a graph takes the seconds of TensorFlow's import.
    if name in _IN_GRAPH:
        from cnn_compression.images import in_graph

        return getattr(in_graph, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
