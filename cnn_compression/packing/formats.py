"""What a packed file holds: the byte after its magic says, its layout's version."""

from cnn_compression.packing.layout import ANY_BYTES, MAGIC, OF_JPEGS, STORED, VERSION

# Whose layouts are `layout`, `jpeg_layout` and `bytes_layout`.
PAYLOAD, JPEG, BYTES = "payload", "JPEG", "bytes"
_KINDS = {STORED: PAYLOAD, VERSION: PAYLOAD, OF_JPEGS: JPEG, ANY_BYTES: BYTES}


def kind(data: bytes) -> str:
    """`PAYLOAD`, `JPEG` (no payload) or `BYTES`, of which the first bytes are enough.

    What is none of them counts as `PAYLOAD`: whoever reads those says what is the matter.
    """
    is_packed = data[: len(MAGIC)] == MAGIC and len(data) > len(MAGIC)
    return _KINDS.get(data[len(MAGIC)], PAYLOAD) if is_packed else PAYLOAD
