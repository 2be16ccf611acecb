"""Files -> uint8 images."""

from cnn_compression.images.in_graph import (
    ImageError,
    decode,
    decode_checked,
    encode_png,
    read,
    read_contents,
)

__all__ = ["ImageError", "decode", "decode_checked", "encode_png", "read", "read_contents"]
