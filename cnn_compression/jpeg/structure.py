"""What a JPEG consists of besides its coefficients, and how scans go through these (T.81, A.2)."""

import struct
from typing import NamedTuple

import numpy as np

from cnn_compression.jpeg.scan_decoding import (
    FIRST_AC,
    FIRST_DC,
    REFINED_AC,
    REFINED_DC,
    SEQUENTIAL,
)

BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2  # starts of frames
DC_TABLES, AC_TABLES = 0x00, 0x10  # what DHT adds to a table's destination
MOST_RUN = 0x7FFF  # T.81, G.1.2.2: what EOB14 tells, and libjpeg makes
_MOST_BLOCKS = 10  # of an interleaved MCU (T.81, B.2.3)


class Component(NamedTuple):
    """Of a frame: its identifier, sampling factors (1..4) and table of quantisation (0..3)."""

    identifier: int
    horizontal: int
    vertical: int
    quantisation: int


class Frame(NamedTuple):
    """SOF: `BASELINE`, `EXTENDED` or `PROGRESSIVE`; the size in pixels; the components, 1..4."""

    marker: int
    height: int
    width: int
    components: tuple[Component, ...]


class Scan(NamedTuple):
    """SOS, and what else its coded data depend on.

    Attributes:
        components: indices of the frame's components.
        first, last, high, low: Ss, Se, Ah, Al.
        dc, ac: destinations, 0..3, of each component's Huffman tables.
        tables: Huffman tables (`huffman`) by `DC_TABLES` or `AC_TABLES` plus destination.
        restart_interval: MCUs; 0 where there is one interval.
        padding: uint8 `[intervals]`: the bits that fill each interval's last byte stand lowest, 1
            above them.
        fills: int64 `[intervals - 1]`, bytes FF before each RST marker beyond its own.
        tail: bytes of coded data that nothing is coded in.
        longest_run, most_run: of progressive scans' runs of blocks that have no more coefficients,
            the longest that was read, and how many blocks one has at most when it is written.
    """

    components: tuple[int, ...]
    first: int = 0
    last: int = 63
    high: int = 0
    low: int = 0
    dc: tuple[int, ...] = ()
    ac: tuple[int, ...] = ()
    tables: dict[int, bytes] = {}
    restart_interval: int = 0
    padding: np.ndarray | None = None
    fills: np.ndarray | None = None
    tail: bytes = b""
    longest_run: int = 0
    most_run: int = MOST_RUN


def check_frame(frame: Frame) -> None:
    """Refuses what is no frame, with a ValueError (T.81, B.2.2)."""
    names = [component.identifier for component in frame.components]
    factors = [factor for one in frame.components for factor in (one.horizontal, one.vertical)]
    known = frame.marker in (BASELINE, EXTENDED, PROGRESSIVE)
    if not known or not (0 < frame.height < 1 << 16 and 0 < frame.width < 1 << 16):
        raise ValueError(f"damaged JPEG: a frame of {frame.width} x {frame.height} pixels")
    if not 1 <= len(names) <= 4 or len(set(names)) < len(names):
        raise ValueError(f"damaged JPEG: a frame of components {names}")
    if not all(1 <= factor <= 4 for factor in factors):
        raise ValueError(f"damaged JPEG: a frame of sampling factors {factors}")


def check_scan(frame: Frame, scan: Scan) -> None:
    """Refuses what is no scan of a frame, with a ValueError (T.81, B.2.3 and G.1.1.1)."""
    chosen = scan.components
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError("damaged JPEG: a scan's components")
    if not all(0 <= index < len(frame.components) for index in chosen):
        raise ValueError("damaged JPEG: a scan's components are not the frame's")
    if not all(0 <= table <= 3 for table in scan.dc + scan.ac):
        raise ValueError("damaged JPEG: a scan's Huffman tables")
    if not len(scan.dc) == len(scan.ac) == len(chosen) or scan.restart_interval < 0:
        raise ValueError("damaged JPEG: a scan's tables or restart interval")
    if frame.marker == PROGRESSIVE:
        spectral = scan.last == 0 if scan.first == 0 else 0 < scan.first <= scan.last < 64
        alone = scan.first == 0 or len(chosen) == 1
        if not (spectral and alone and 0 <= scan.low <= 13 and scan.high in (0, scan.low + 1)):
            raise ValueError("damaged JPEG: a scan's progression")
    if len(chosen) > 1 and mcu_blocks(frame, scan) > _MOST_BLOCKS:
        raise ValueError(f"damaged JPEG: an MCU of more than {_MOST_BLOCKS} blocks")


def mcu_blocks(frame: Frame, scan: Scan) -> int:
    """Blocks of an interleaved scan's MCU."""
    components = [frame.components[index] for index in scan.components]
    return sum(component.horizontal * component.vertical for component in components)


def foreseen_frame(height, width, channels, chroma="4:2:0", progressive=False) -> Frame:
    """The frame that TensorFlow writes.

    Args:
        height, width: pixels.
        channels: 1, or 3 for YCbCr.
        chroma: `4:2:0` or `4:4:4`; a grey image's does not matter.
        progressive: bool.
    """
    luma = 2 if channels == 3 and chroma == "4:2:0" else 1
    factors = [(luma, 0), (1, 1), (1, 1)][:channels]
    components = tuple(
        Component(index + 1, factor, factor, table) for index, (factor, table) in enumerate(factors)
    )
    return Frame(PROGRESSIVE if progressive else BASELINE, height, width, components)


def largest_factors(frame: Frame) -> tuple[int, int]:
    """(horizontal, vertical): the sampling factors that a pixel stands for."""
    return (
        max(component.horizontal for component in frame.components),
        max(component.vertical for component in frame.components),
    )


def interleaved_grid(frame: Frame) -> tuple[int, int]:
    """Rows and columns of interleaved MCUs."""
    horizontal, vertical = largest_factors(frame)
    return -(-frame.height // (8 * vertical)), -(-frame.width // (8 * horizontal))


def padded_shape(frame: Frame, index: int) -> tuple[int, int]:
    """Rows and columns of a component's blocks, those that fill up its last MCUs too."""
    if len(frame.components) == 1:  # its MCU is a block, whatever its sampling factors
        return block_shape(frame, index)
    rows, columns = interleaved_grid(frame)
    return rows * frame.components[index].vertical, columns * frame.components[index].horizontal


def block_shape(frame: Frame, index: int) -> tuple[int, int]:
    """Rows and columns of the blocks that have pixels of a component (T.81, A.1.1, A.2.4)."""
    horizontal, vertical = largest_factors(frame)
    component = frame.components[index]
    rows = -(-frame.height * component.vertical // vertical)
    columns = -(-frame.width * component.horizontal // horizontal)
    return -(-rows // 8), -(-columns // 8)


def scan_grid(frame: Frame, scan: Scan) -> tuple[int, int]:
    """Rows and columns of a scan's MCUs: single blocks where it has one component."""
    if len(scan.components) == 1:
        return block_shape(frame, scan.components[0])
    return interleaved_grid(frame)


def intervals(frame: Frame, scan: Scan) -> int:
    """How many restart intervals a scan has."""
    rows, columns = scan_grid(frame, scan)
    return -(-rows * columns // scan.restart_interval) if scan.restart_interval else 1


def scan_units(frame: Frame, scan: Scan) -> np.ndarray:
    """The blocks of a scan's MCU in order.

    Returns:
        int64 `[U, 6]`: index of the block in the first MCU, among all components' blocks; what an
        MCU further down and one to the right add to it; the component's place in the scan; slots of
        its DC and AC table, 0..3 and 4..7.
    """
    alone = len(scan.components) == 1
    shapes = [padded_shape(frame, index) for index in range(len(frame.components))]
    starts = np.cumsum([0] + [rows * columns for rows, columns in shapes])
    units = []
    for place, index in enumerate(scan.components):
        _, horizontal, vertical, _ = frame.components[index]
        columns = shapes[index][1]
        slots = [place, scan.dc[place], 4 + scan.ac[place]]
        for row in range(1 if alone else vertical):
            for column in range(1 if alone else horizontal):
                first = starts[index] + row * columns + column
                steps = [columns, 1] if alone else [vertical * columns, horizontal]
                units.append([first, *steps, *slots])
    return np.array(units, np.int64)


def kind(frame: Frame, scan: Scan) -> int:
    """What a scan codes: `SEQUENTIAL`, or `FIRST_DC` ... `REFINED_AC`."""
    if frame.marker != PROGRESSIVE:
        return SEQUENTIAL
    if scan.first == 0:
        return REFINED_DC if scan.high else FIRST_DC
    return REFINED_AC if scan.high else FIRST_AC


def spectrum(frame: Frame, scan: Scan) -> tuple[int, int, int]:
    """Ss, Se and Al as the kernels take them."""
    return (scan.first, scan.last, scan.low) if frame.marker == PROGRESSIVE else (1, 63, 0)


def needed_tables(frame: Frame, scan: Scan) -> list[int]:
    """Of a scan's Huffman tables, the keys of those that it codes with, as libjpeg writes them."""
    needed = kind(frame, scan)
    keys = []
    for dc, ac in zip(scan.dc, scan.ac, strict=True):
        keys += [DC_TABLES + dc] if needed in (SEQUENTIAL, FIRST_DC) else []
        keys += [AC_TABLES + ac] if needed in (SEQUENTIAL, FIRST_AC, REFINED_AC) else []
    return list(dict.fromkeys(keys))


def slot(key: int) -> int:
    """A Huffman table's slot in the kernels, 0..7."""
    return key // AC_TABLES * 4 + key % AC_TABLES


def segment(marker: int, body: bytes) -> bytes:
    """Marker, length, body."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body
