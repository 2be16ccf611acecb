"""JPEG bytes <-> quantised coefficients, without loss, and the bytes that libjpeg would write.

`parse` and `write` are each other's inverses. `compose` needs far less than `write`: of a payload,
what is not foreseen is the coefficients, and the numbers that `foreseen_frame` and
`quantisation_tables` take.
"""

import os
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnn_compression.jpeg import huffman, scan_encoding
from cnn_compression.jpeg.reading import JPEG, read
from cnn_compression.jpeg.structure import (
    AC_TABLES,
    PROGRESSIVE,
    Component,
    Frame,
    Scan,
    block_shape,
    check_frame,
    check_scan,
    foreseen_frame,
    intervals,
    kind,
    needed_tables,
    padded_shape,
    scan_grid,
    scan_units,
    segment,
    slot,
    spectrum,
)
from cnn_compression.jpeg.tables import quantisation_tables
from cnn_compression.payload.layout import MAX_PIXELS

__all__ = [
    "JPEG",
    "PROGRESSIVE",
    "Component",
    "Frame",
    "Scan",
    "block_shape",
    "compose",
    "cropped",
    "foreseen_frame",
    "padded",
    "padded_shape",
    "parse",
    "quantisation_tables",
    "ratio",
    "write",
]

# SOI, and JFIF 1.01's APP0 of 300 dots per inch, as TensorFlow writes them.
_START = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x01\x01\x2c\x01\x2c\x00\x00"
_END = b"\xff\xd9"
_DQT, _DHT, _SOS = 0xDB, 0xC4, 0xDA
_ALL_ONES = 255  # padding


def parse(jpeg: bytes, max_pixels: int = MAX_PIXELS) -> JPEG:
    """Takes a JPEG apart, so that `write` gives the same bytes.

    Args:
        jpeg: baseline, extended sequential or progressive, Huffman-coded, of 8 bits, 1 to 4
            components of any sampling factors; at most `layout.MAX_SEGMENTS` and
            `segments.MOST_SCANS`.
        max_pixels: the largest image that is taken.

    Raises:
        ValueError: where it is damaged, of another kind, too large, or coded in a way of its own
            that `write` does not follow.
    """
    structure = read(jpeg, max_pixels)
    try:
        same = write(structure) == jpeg
    except ValueError:  # of codes that are not those that were read
        same = False
    if not same:
        raise ValueError("damaged JPEG, or one that is coded as libjpeg does not")
    return structure


def write(structure: JPEG) -> bytes:
    """The bytes that `parse` took apart.

    Runs of blocks without coefficients are as long as scans say; `parse` takes libjpeg's limit.

    Raises:
        ValueError: where shapes do not fit the frame, or a coefficient has no code.
    """
    blocks = _joined(structure.frame, structure.coefficients)
    parts = []
    for before, scan in zip(structure.between, structure.scans, strict=False):
        tokens, _ = _tokens(structure.frame, scan, blocks)
        parts += [before, _coded(structure.frame, scan, tokens)]
    return b"".join([*parts, structure.between[-1]])


def compose(
    frame: Frame,
    quantisation: tuple[np.ndarray, ...],
    coefficients: tuple[np.ndarray, ...],
    extra: bytes = b"",
) -> bytes:
    """The file that libjpeg writes with the best Huffman tables, as TensorFlow calls it.

    Args:
        frame: baseline or progressive, grey or YCbCr: 1 or 3 components.
        quantisation: uint16 `[64]` of each component, 1..255, in zigzag order.
        coefficients: int16 `[rows, columns, 64]` of each component, quantised, in zigzag order, of
            `padded_shape`; see `padded`.
        extra: segments that stand after APP0.

    Raises:
        ValueError: where shapes do not fit the frame, or a coefficient is beyond what JPEG codes.
    """
    if len(frame.components) not in (1, 3):
        raise ValueError(f"expected 1 or 3 components. Received: {len(frame.components)}")
    blocks = _joined(frame, coefficients)

    def coded(scan):
        tokens, counts = _tokens(frame, scan, blocks)
        tables = {key: huffman.optimal(counts[slot(key)]) for key in needed_tables(frame, scan)}
        segments = [segment(_DHT, bytes([key]) + table) for key, table in tables.items()]
        scan_data = _coded(frame, scan._replace(tables=tables), tokens)
        return b"".join([*segments, _scan_segment(frame, scan), scan_data])

    head = [_START, extra, *_quantisation_segments(frame, quantisation), _frame_segment(frame)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return b"".join([*head, *threads.map(coded, _script(frame)), _END])


def cropped(frame: Frame, coefficients: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The blocks that have pixels: `padded` undone, int16 views of `block_shape`."""
    shapes = [block_shape(frame, index) for index in range(len(coefficients))]
    return tuple(
        one[:rows, :columns] for one, (rows, columns) in zip(coefficients, shapes, strict=True)
    )


def padded(frame: Frame, coefficients: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Adds the blocks that fill up the last MCUs, as libjpeg does (`compress_first_pass`).

    Their AC is 0, and their DC that of the last block before, to the right of it in its MCU, below
    it that of the MCU's last block in the row above.

    Args:
        coefficients: int16 `[rows, columns, 64]` of each component, of `block_shape`.

    Returns:
        The same of `padded_shape`.
    """
    whole = []
    for index, blocks in enumerate(coefficients):
        (rows, columns), (all_rows, all_columns) = blocks.shape[:2], padded_shape(frame, index)
        filled = np.zeros((all_rows, all_columns, 64), np.int16)
        filled[:rows, :columns] = blocks
        filled[:rows, columns:, 0] = blocks[:, -1:, 0]
        across = frame.components[index].horizontal
        last = filled[rows - 1, across - 1 :: across, 0]
        filled[rows:, :, 0] = np.repeat(last, across)
        whole.append(filled)
    return tuple(whole)


def ratio(frame: Frame) -> tuple[int, int]:
    """Luma's blocks to one of chroma's, down and across; (1, 1) of grey.

    Raises:
        ValueError: it is neither grey nor YCbCr whose chroma has a whole part of luma's blocks.
    """
    first, *others = [(one.vertical, one.horizontal) for one in frame.components]
    down, across = others[0] if others else first
    if len(others) not in (0, 2) or len(set(others)) > 1 or first[0] % down or first[1] % across:
        sampled = ", ".join(f"{one.horizontal}x{one.vertical}" for one in frame.components)
        raise ValueError(f"expected a grey JPEG, or YCbCr of known sampling. Received: {sampled}")
    return first[0] // down, first[1] // across


def _joined(frame, coefficients):
    """The blocks of all components, int16 `[B, 64]`."""
    check_frame(frame)
    shapes = [one.shape for one in coefficients]
    expected = [(*padded_shape(frame, i), 64) for i in range(len(frame.components))]
    if shapes != expected or any(one.dtype != np.int16 for one in coefficients):
        raise ValueError(f"expected int16 coefficients of shapes {expected}. Received: {shapes}")
    return np.concatenate([one.reshape(-1, 64) for one in coefficients])


def _tokens(frame, scan, blocks):
    check_scan(frame, scan)
    grid = np.array(scan_grid(frame, scan))
    tokens, counts, done = scan_encoding.tokenise(
        *(blocks, scan_units(frame, scan), grid, scan.restart_interval or grid.prod()),
        *(kind(frame, scan), spectrum(frame, scan), scan.most_run),
    )
    if not done:
        raise ValueError("a coefficient takes more bits than JPEG codes")
    return tokens, counts


def _coded(frame, scan, tokens):
    """A scan's coded data, with stuffed bytes, RST markers and what follows them."""
    count = intervals(frame, scan)
    codes = np.zeros([scan_encoding.SLOTS, 256], np.uint32)
    for key, table in scan.tables.items():
        codes[slot(key)] = huffman.codes(table)
    padding = np.full(count, _ALL_ONES, np.uint8) if scan.padding is None else scan.padding
    fills = np.zeros(count - 1, np.int64) if scan.fills is None else scan.fills
    if len(padding) != count or len(fills) != count - 1:
        raise ValueError(f"expected {count} restart intervals. Received: {len(padding)}")
    ends = np.zeros(count, np.int64)
    data = scan_encoding.emit(tokens, codes, padding, ends)
    if data is None:
        raise ValueError("a coefficient that its scan's Huffman table has no code for")
    data = data.tobytes()
    parts, start = [], 0
    for i, end in enumerate(ends.tolist()):
        parts.append(data[start:end].replace(b"\xff", b"\xff\0"))
        if i < len(fills):
            parts.append(b"\xff" * (1 + int(fills[i])) + bytes([0xD0 + i % 8]))
        start = end
    return b"".join([*parts, scan.tail])


def _quantisation_segments(frame, quantisation):
    """DQT for each table, where a component uses it first."""
    tables = {}
    for component, steps in zip(frame.components, quantisation, strict=True):
        tables.setdefault(component.quantisation, steps)
        if steps.shape != (64,) or not (0 < steps).all() or not (steps < 256).all():
            raise ValueError(f"expected 64 quantisation steps of 1 to 255. Received: {steps}")
    return [
        segment(_DQT, bytes([key]) + steps.astype(np.uint8).tobytes())
        for key, steps in tables.items()
    ]


def _frame_segment(frame):
    body = struct.pack(">BHHB", 8, frame.height, frame.width, len(frame.components))
    for identifier, horizontal, vertical, table in frame.components:
        body += bytes([identifier, horizontal << 4 | vertical, table])
    return segment(frame.marker, body)


def _scan_segment(frame, scan):
    body = bytes([len(scan.components)])
    needed = needed_tables(frame, scan)
    for index, dc, ac in zip(scan.components, scan.dc, scan.ac, strict=True):
        # libjpeg says 0 where no table is coded with.
        dc, ac = dc * (dc in needed), ac * (AC_TABLES + ac in needed)
        body += bytes([frame.components[index].identifier, dc << 4 | ac])
    return segment(_SOS, body + bytes([scan.first, scan.last, scan.high << 4 | scan.low]))


def _script(frame):
    """libjpeg's scans: one for a baseline file, else those of `jpeg_simple_progression`."""
    every = tuple(range(len(frame.components)))

    def scan(components, *bounds):
        tables = tuple(min(index, 1) for index in components)
        return Scan(components, *bounds, dc=tables, ac=tables)

    if frame.marker != PROGRESSIVE:
        return [scan(every)]
    luma, red, blue = (0,), every[2:], every[1:2]
    script = [(every, 0, 0, 0, 1), (luma, 1, 5, 0, 2), (red, 1, 63, 0, 1), (blue, 1, 63, 0, 1)]
    script += [(luma, 6, 63, 0, 2), (luma, 1, 63, 2, 1), (every, 0, 0, 1, 0)]
    script += [(red, 1, 63, 1, 0), (blue, 1, 63, 1, 0), (luma, 1, 63, 1, 0)]
    return [scan(*one) for one in script if one[0]]
