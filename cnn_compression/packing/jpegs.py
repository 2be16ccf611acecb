"""Any JPEG -> packed -> the same JPEG, byte for byte.

A payload is packed as `payloads` does. Of another JPEG all is kept as it is (`jpeg_layout`), but
its coefficients, which go through the networks for any JPEG: the file's own Huffman tables, and the
order of its scans, turn them into its coded data again.
"""

import zlib
from collections.abc import Iterator

import numpy as np

from cnn_compression.jpeg import coefficients, reading, structure
from cnn_compression.packing import (
    jpeg_layout,
    layout,
    payloads,
    predictor,
    predictors,
    strips,
)
from cnn_compression.packing.jpeg_layout import JPEGHeader
from cnn_compression.packing.layout import PackedError
from cnn_compression.payload import layout as payload_layout
from cnn_compression.payload.layout import MAX_PIXELS

_PADDING, _FILLS, _TAIL, _RUN = 1, 2, 4, 8  # flags of a scan's ways
_MOST_FILLS = 1 << 20
_ALL_ONES = 255
# What the numbers of `kernels` hold, a prediction's rest too; T.81 has 11 bits for 8-bit pictures.
_LARGEST_LEVEL = 2047
_NOT_BACK = "this JPEG would not come back: it is damaged, or coded in a way that is not foreseen"


def pack(jpeg: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """Packs a JPEG.

    Args:
        jpeg: a payload, or any JPEG of 8 bits, Huffman-coded, baseline or progressive, grey or
            YCbCr, chroma a half or all of luma's size along each side, or a quarter along one.
        max_pixels: int: of a picture; one that is larger is refused.

    Returns:
        The packed bytes, which `unpack` was seen to turn into the same bytes.

    Raises:
        PackedError: it is no such JPEG, is damaged, would not come back, or would take no fewer
            bytes; says which.
    """
    if payload_layout.is_payload(jpeg):
        try:
            return payloads.pack(jpeg, max_pixels)
        except payloads.WrittenAnewError:
            pass  # it is a JPEG like any other
    networks, name = _networks(predictors.find_for_jpegs)
    header, picture = _taken_apart(jpeg, name, max_pixels)
    planes, blocks = _planes(header, picture), picture.coefficients
    if header.padded:
        blocks = coefficients.cropped(picture.frame, blocks)
    try:
        coded = strips.write(planes, networks, blocks)
    except OverflowError as error:
        raise PackedError(f"this JPEG gets no smaller: {error}") from None
    packed = jpeg_layout.write(header, zlib.crc32(jpeg), coded)
    if len(packed) >= len(jpeg):
        raise PackedError(f"this JPEG gets no smaller: {len(jpeg)} bytes, {len(packed)} packed")
    try:
        if unpack(packed, max_pixels) != jpeg:
            raise PackedError("another JPEG came out")
    except PackedError as error:
        raise PackedError(_NOT_BACK) from error
    return packed


def unpack(packed: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """The JPEG that was packed, a payload or not.

    Args:
        packed: as `pack`, `payloads.pack` or `Codec.pack` returns it.
        max_pixels: int: of a picture; one that is larger is refused before anything is decoded.

    Raises:
        PackedError: it is none, is damaged, or was coded with networks that are not installed.
    """
    if not jpeg_layout.is_packed(packed):
        return payloads.unpack(packed, max_pixels)
    header, at = jpeg_layout.read(packed)
    height, width, _ = header.shape
    layout.check_size(height, width, max_pixels)
    try:
        picture = reading.read_segments(header.segments, max_pixels)
        planes = _planes(header, picture)
    except ValueError as error:
        raise PackedError(f"damaged: {error}") from None
    networks, _ = _networks(lambda: predictors.find(header.networks))
    coded = layout.split(packed, at, planes.strips, planes.blocks)
    scans = tuple(_with_ways(picture, header.ways))
    blocks = strips.read(planes, networks, coded)
    if header.padded:
        blocks = coefficients.padded(picture.frame, blocks)
    try:
        jpeg = coefficients.write(picture._replace(coefficients=blocks, scans=scans))
    except ValueError:  # of coefficients that JPEG cannot code
        jpeg = b""
    if not jpeg_layout.is_of(packed, at, jpeg):
        raise PackedError("damaged: the checksum does not match")
    return jpeg


def _networks(find):
    try:
        return find()
    except ValueError as error:
        raise PackedError(str(error)) from None


def _taken_apart(jpeg, networks, max_pixels):
    """The header that its packing has, and the JPEG's structure."""
    if jpeg[:2] != payload_layout.START_OF_IMAGE:
        raise PackedError(f"not a JPEG: expected FF D8. Received: {bytes(jpeg[:4])!r}")
    try:
        picture = reading.read(jpeg, max_pixels)
        frame, blocks = picture.frame, picture.coefficients
        _check(picture)
    except ValueError as error:
        raise PackedError(str(error)) from None
    if max(max(part.max(), -int(part.min())) for part in blocks) > _LARGEST_LEVEL:
        raise PackedError(f"expected coefficients of {_LARGEST_LEVEL} and less, as of 8 bits")
    picture = _as_it_is_written(jpeg, picture)
    again = coefficients.padded(frame, coefficients.cropped(frame, blocks))
    header = JPEGHeader(
        networks=networks,
        padded=all(np.array_equal(*both) for both in zip(again, blocks, strict=True)),
        quality=_quality(picture.quantisation),
        segments=b"".join(picture.between),
        ways=_ways(picture.scans),
    )
    return header, picture


def _as_it_is_written(jpeg, picture):
    """The structure that gives these bytes: runs end where they may, or where none was longer."""
    runs = [scan._replace(most_run=scan.longest_run or scan.most_run) for scan in picture.scans]
    for scans in (picture.scans, tuple(runs)):
        one = picture._replace(scans=scans)
        try:
            if coefficients.write(one) == jpeg:
                return one
        except ValueError:  # of codes that are not those that were read
            continue
    raise PackedError(_NOT_BACK)


def _check(picture):
    """Refuses a structure that the networks are not for, with a ValueError."""
    count = len(picture.frame.components)
    if count not in (1, 3):
        raise ValueError(f"expected a JPEG that is grey or YCbCr. Received: {count} components")
    down, across = coefficients.ratio(picture.frame)
    if down * across not in predictor.AT_RATIO:
        raise ValueError(
            f"expected a JPEG of 4:4:4, 4:2:2, 4:2:0 or 4:1:1. Received: one block of chroma for "
            f"{across} x {down} of luma"
        )
    if not all(steps.all() for steps in picture.quantisation):
        raise ValueError("damaged JPEG: a quantisation step of 0")


def _planes(header, picture):
    """How its coefficients are coded; raises ValueError of a kind that is not."""
    _check(picture)
    frame = picture.frame
    shape = coefficients.block_shape if header.padded else coefficients.padded_shape
    shapes = [shape(frame, index) for index in range(len(frame.components))]
    down, across = coefficients.ratio(frame)
    kinds = [predictor.AT_RATIO[down * across]] if len(shapes) == 3 else []
    return strips.planes(frame, shapes, picture.quantisation, kinds)


def _quality(quantisation):
    """The quality whose tables libjpeg would have put there, or 0."""
    for quality in range(1, 101):
        tables = coefficients.quantisation_tables(quality, len(quantisation))
        if all(np.array_equal(*both) for both in zip(tables, quantisation, strict=True)):
            return quality
    return 0


def _ways(scans) -> bytes:
    """What of the scans is not foreseen; see `jpeg_layout`."""
    parts, foreseen = [], True
    for scan in scans:
        kinds = ((scan.padding != _ALL_ONES).any(), scan.fills.any(), scan.tail)
        kinds += (scan.most_run < structure.MOST_RUN,)
        flags = sum(1 << bit for bit, there in enumerate(kinds) if there)
        parts.append(bytes([flags]))
        if flags & _PADDING:
            parts.append(scan.padding.tobytes())
        if flags & _FILLS:
            parts += [layout.leb128(fill) for fill in scan.fills.tolist()]
        if flags & _TAIL:
            parts += [layout.leb128(len(scan.tail)), scan.tail]
        if flags & _RUN:
            parts.append(layout.leb128(scan.most_run))
        foreseen = foreseen and not flags
        if scan.fills.sum() > _MOST_FILLS:
            raise PackedError(f"expected at most {_MOST_FILLS} fill bytes in a scan")
    return b"" if foreseen else b"".join(parts)


def _with_ways(picture, ways) -> Iterator[structure.Scan]:
    """The scans, with what `_ways` has of them; raises PackedError."""
    at = 0
    for scan in picture.scans:
        count = structure.intervals(picture.frame, scan)
        [flags] = ways[at : at + 1] or b"\0"
        at += 1
        padding = fills = None
        if flags & _PADDING:
            padding = np.frombuffer(ways, np.uint8)[at : at + count]
            at += count
        if flags & _FILLS:
            fills = []
            for _ in range(count - 1):
                fill, at = layout.read_leb128(ways, at)
                fills.append(fill)
            fills = np.array(fills, np.int64)
        tail, most_run = b"", structure.MOST_RUN
        if flags & _TAIL:
            size, at = layout.read_leb128(ways, at)
            tail = ways[at : at + size]
            at += size
        if flags & _RUN:
            most_run, at = layout.read_leb128(ways, at)
        known = flags < 2 * _RUN and 1 <= most_run <= structure.MOST_RUN
        if not known or (fills is not None and fills.sum() > _MOST_FILLS):
            raise PackedError("damaged: its scans' ways have values that nothing writes")
        yield scan._replace(padding=padding, fills=fills, tail=tail, most_run=most_run)
