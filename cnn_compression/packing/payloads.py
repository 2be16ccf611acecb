"""payload -> packed -> payload: the same JPEG, byte for byte, in three quarters of the bytes.

A payload's JPEG is taken apart into its coefficients; all else that is in it follows from the few
numbers of `layout`.
"""

import zlib
from collections.abc import Callable

import numpy as np

from cnn_compression.jpeg import coefficients, reading
from cnn_compression.packing import layout, predictor, predictors, strips
from cnn_compression.packing.layout import Header, PackedError
from cnn_compression.payload import layout as payload_layout
from cnn_compression.payload.layout import MAX_PIXELS, PayloadError
from cnn_compression.process import check_not_forked, start_tensorflow

_NOT_BACK = "this payload would not come back: it is damaged, or another program wrote it anew"


class WrittenAnewError(PackedError):
    """A payload that does not follow from its header and its coefficients."""


def pack(payload: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """Packs a payload.

    Args:
        payload: as `Codec.encode` returns it, of any model; metadata may have been added.
        max_pixels: int: of an image; one that is larger is refused.

    Returns:
        The packed bytes, which `unpack` was seen to turn into the same payload.

    Raises:
        PayloadError: it is none.
        PackedError: it would not come back: it is damaged, or another program coded its picture.
    """
    networks, name = predictors.find()
    header, blocks = _taken_apart(payload, networks.model, name, max_pixels)
    try:
        packed = layout.write(header, strips.write(_planes(header), networks, blocks))
    except OverflowError:  # of coefficients that no picture has
        packed = b""
    if not 0 < len(packed) < len(payload):  # so too of a flat picture at a high quality
        packed = layout.store(payload)
    try:
        if unpack(packed, max_pixels) != payload:
            raise PackedError("another payload came out")
    except PackedError as error:
        raise WrittenAnewError(_NOT_BACK) from error
    return packed


def _taken_apart(payload, model, networks, max_pixels):
    """The header that its packing has, and the coefficients of each component."""
    header = payload_layout.read_header(payload)
    layout.check_size(header.height, header.width, max_pixels)
    try:
        # Not `coefficients.parse`, which compares: what `unpack` gives is compared in the end.
        structure = reading.read(payload, max_pixels)
    except ValueError as error:
        raise PayloadError(str(error)) from None
    frame = structure.frame
    own = payload_layout.own_segments(payload)[0]
    picture = next(
        segment.start
        for segment in payload_layout.segments(payload)
        if payload_layout.KINDS[segment.marker] != payload_layout.TOLD
    )
    packed_header = Header(
        networks=networks,
        height=header.height,
        width=header.width,
        channels=len(frame.components),
        scale=header.scale,
        quality=header.quality,
        asked=header.asked,
        full_chroma=len(frame.components) == 3 and frame.components[0].horizontal == 1,
        progressive=frame.marker == coefficients.PROGRESSIVE,
        payload_version=header.version,
        model="" if header.fingerprint == model else header.fingerprint,
        checksum=zlib.crc32(payload),
        others=(
            payload[payload_layout.SEGMENT_START : own.start],
            payload[own.end : max(picture, own.end)],
        ),
    )
    try:
        foreseen = _frame(layout.checked(packed_header))
    except PackedError as error:
        raise WrittenAnewError(_NOT_BACK) from error
    if frame != foreseen:
        raise WrittenAnewError(_NOT_BACK)
    return packed_header, coefficients.cropped(frame, structure.coefficients)


def pack_to(
    encode: Callable[[int], bytes], limit: float, max_pixels: int = MAX_PIXELS
) -> tuple[bytes, int]:
    """The packed payload of the highest quality that takes no more bytes.

    Bytes are taken to rise with quality, as they do but for a few: the search halves the qualities.

    Args:
        encode: quality in 1..100 -> payload.
        limit: bytes.
        max_pixels: as of `pack`.

    Returns:
        The packed bytes, and their quality.

    Raises:
        PackedError: where even the lowest quality takes more.
    """
    best, low, high = (b"", 0), 1, 100
    while low <= high:
        quality = (low + high) // 2
        packed = pack(encode(quality), max_pixels)
        if len(packed) <= limit:
            best, low = (packed, quality), quality + 1
        else:
            high = quality - 1
    if not best[1]:
        raise PackedError(
            f"expected at most {limit:.0f} bytes: even quality 1 takes {len(packed)} when packed"
        )
    return best


def unpack(packed: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """The payload that was packed.

    Args:
        packed: as `pack` returns it.
        max_pixels: int: of an image; one that is larger is refused before anything is decoded.

    Raises:
        PackedError: it is none, is damaged, or was coded with networks that are not installed.
    """
    header, at = layout.read(packed)
    layout.check_size(header.height, header.width, max_pixels)
    if (payload := layout.stored(packed)) is not None:
        return payload
    try:
        networks, _ = predictors.find(header.networks)
    except ValueError as error:
        raise PackedError(str(error)) from None
    planes = _planes(header)
    coded = layout.split(packed, at, planes.strips, planes.blocks)
    blocks = strips.read(planes, networks, coded)
    try:
        payload = _payload(header, networks.model, blocks)
    except ValueError:  # of coefficients that JPEG cannot code
        payload = b""
    if zlib.crc32(payload) != header.checksum or not payload:
        raise PackedError("damaged: the checksum does not match")
    return payload


def _frame(header):
    return coefficients.foreseen_frame(
        *header.compact_size,
        header.channels,
        "4:4:4" if header.full_chroma else "4:2:0",
        header.progressive,
    )


def _planes(header):
    frame = _frame(header)
    shapes = [coefficients.block_shape(frame, n) for n in range(len(frame.components))]
    steps = coefficients.quantisation_tables(header.quality, header.channels)
    return strips.planes(frame, shapes, steps, [predictor.AT_SCALE[header.scale]])


def _payload(header, model, blocks):
    """The payload of a header and of its coefficients; `model` where the header names none."""
    frame = _frame(header)
    tables = coefficients.quantisation_tables(header.quality, header.channels)
    fields = payload_layout.FIELDS.pack(
        payload_layout.MARKER,
        _segment_size(header.payload_version) - 2,
        payload_layout.MAGIC,
        header.payload_version,
        bytes.fromhex(header.model or model),
        *(header.height, header.width, header.channels, header.scale, header.quality),
    )
    asked = bytes([header.asked]) if header.payload_version > 1 else b""
    empty = fields + bytes(payload_layout.CHECKSUM_SIZE) + asked
    before, after = header.others
    whole = coefficients.compose(
        frame, tables, coefficients.padded(frame, blocks), before + empty + after
    )
    at = payload_layout.SEGMENT_START + len(before) + payload_layout.CHECKSUM_START
    digest = _digest(payload_layout.covered(whole))
    return whole[:at] + digest + whole[at + len(digest) :]


def _segment_size(version):
    return payload_layout.ASKED_START + (version > 1)


def _digest(data):
    """A payload's checksum."""
    check_not_forked()
    start_tensorflow()
    import tensorflow as tf

    return tf.fingerprint(np.frombuffer(data, np.uint8)[None]).numpy().tobytes()
