"""payload -> packed -> payload: the same JPEG, byte for byte, in three quarters of the bytes.

A payload's JPEG is taken apart into its coefficients; all else that is in it follows from the few
numbers of `layout`. The coefficients go through `kernels` in strips, each for itself.
"""

import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnn_compression.jpeg import coefficients, reading
from cnn_compression.packing import kernels, layout, predictor, predictors, range_coder
from cnn_compression.packing.layout import Header, PackedError
from cnn_compression.payload import layout as payload_layout
from cnn_compression.payload.layout import MAX_PIXELS, PayloadError
from cnn_compression.process import check_not_forked, start_tensorflow

# A strip's blocks of luma, about: enough for one core to be quick, and for what a strip does not
# know of the one above it not to count.
_STRIP_BLOCKS = 4096
_NOT_BACK = "this payload would not come back: it is damaged, or another program wrote it anew"


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
        packed = layout.write(header, _write(header, networks, blocks))
    except OverflowError:  # of coefficients that no picture has
        packed = b""
    if not 0 < len(packed) < len(payload):  # so too of a flat picture at a high quality
        packed = layout.store(payload)
    try:
        if unpack(packed, max_pixels) != payload:
            raise PackedError("another payload came out")
    except PackedError as error:
        raise PackedError(_NOT_BACK) from error
    return packed


def _taken_apart(payload, model, networks, max_pixels):
    """The header that its packing has, and the coefficients of each component."""
    header = payload_layout.read_header(payload)
    _check_size(header, max_pixels)
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
        raise PackedError(_NOT_BACK) from error
    if frame != foreseen:
        raise PackedError(_NOT_BACK)
    return packed_header, coefficients.cropped(frame, structure.coefficients)


def _check_size(header, max_pixels):
    if header.height * header.width > max_pixels:
        size = f"{header.width} x {header.height}"
        raise PackedError(f"{size} pixels: at most {max_pixels} are taken")


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
    _check_size(header, max_pixels)
    if (payload := layout.stored(packed)) is not None:
        return payload
    try:
        networks, _ = predictors.find(header.networks)
    except ValueError as error:
        raise PackedError(str(error)) from None
    frame = _frame(header)
    shapes = [coefficients.block_shape(frame, n) for n in range(len(frame.components))]
    count = len(_strips(frame)) - 1
    strips = layout.split(packed, at, count, sum(rows * columns for rows, columns in shapes))
    blocks = _read(header, networks, strips)
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


def _strips(frame):
    """Where strips start, in rows of MCUs, and where the last one ends."""
    down = frame.components[0].vertical
    rows, columns = coefficients.padded_shape(frame, 0)
    count = max(1, (rows * columns + _STRIP_BLOCKS // 2) // _STRIP_BLOCKS)
    return [number * (rows // down) // count for number in range(count + 1)]


def _rows(frame, number):
    """The rows of blocks of each component that a strip has."""
    first, last = _strips(frame)[number : number + 2]
    slices = []
    for index, component in enumerate(frame.components):
        rows, _ = coefficients.block_shape(frame, index)
        slices.append(slice(first * component.vertical, min(last * component.vertical, rows)))
    return slices


def _write(header, networks, blocks):
    """The bytes of each strip."""
    frame = _frame(header)

    def one(number):
        rows = _rows(frame, number)
        parts = [part[there] for part, there in zip(blocks, rows, strict=True)]
        coder = range_coder.writer(256 + 4 * sum(part.size for part in parts))
        planes = [np.pad(part, ((2, 0), (2, 1), (0, 0))) for part in parts]
        _code(header, networks, coder, planes)
        return range_coder.finish(*coder)

    return _in_threads(one, len(_strips(frame)) - 1)


def _read(header, networks, strips):
    """The coefficients of each component; raises PackedError."""
    frame = _frame(header)

    def one(number):
        coder, planes = range_coder.reader(strips[number]), []
        for index, rows in enumerate(_rows(frame, number)):
            _, columns = coefficients.block_shape(frame, index)
            planes.append(np.zeros((rows.stop - rows.start + 2, columns + 3, 64), np.int16))
        _code(header, networks, coder, planes)
        if not range_coder.is_finished(*coder):
            raise PackedError("damaged: its coded bits do not end where they should")
        return [plane[2:, 2:-1] for plane in planes]

    parts = _in_threads(one, len(strips))
    return tuple(np.concatenate(component) for component in zip(*parts, strict=True))


def _in_threads(function, count):
    """[function(0), ...]: after the first that fails no other is begun."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        futures = [threads.submit(function, number) for number in range(count)]
        try:
            return [future.result() for future in futures]
        finally:
            threads.shutdown(cancel_futures=True)


def _code(header, networks, coder, planes):
    """Codes a strip's planes, or fills them from what the coder reads."""
    components = _frame(header).components
    tables = coefficients.quantisation_tables(header.quality, header.channels)
    ratio = np.array([components[0].vertical, components[0].horizontal], np.int32)
    three = tuple(planes) if len(planes) == 3 else tuple(planes) * 3  # grey has no Cb and Cr
    for own in range(len(planes)):
        net = networks.chroma if own else networks.luma
        kinds = [predictor.AT_SCALE[header.scale]] + [predictor.IS_CR] * (own == 2)
        steps = tables[own].astype(np.int32)
        base, room = predictor.base(net, steps, kinds), predictor.working_room(net)
        kernels.code_plane(net, *coder, base, three, own, steps, ratio, room)


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
