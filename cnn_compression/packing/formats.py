"""What a packed file holds: the byte after its magic says, its layout's version."""

from cnn_compression.packing.layout import ANY_BYTES, MAGIC, STORED, VERSION

PAYLOAD, BYTES = "payload", "bytes"  # whose layouts are `layout` and `bytes_layout`
_KINDS = {STORED: PAYLOAD, VERSION: PAYLOAD, ANY_BYTES: BYTES}


def kind(data: bytes) -> str:
    """`BYTES` or `PAYLOAD`, of which the first bytes are enough.

    What is neither counts as `PAYLOAD`: whoever reads those says what is the matter.
    """
    is_packed = data[: len(MAGIC)] == MAGIC and len(data) > len(MAGIC)
    return _KINDS.get(data[len(MAGIC)], PAYLOAD) if is_packed else PAYLOAD
