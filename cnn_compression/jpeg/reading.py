"""JPEG bytes -> structure: every byte lies in it, as a coefficient or as it was (T.81, Annex B)."""

import math
import re
import struct
from typing import NamedTuple

import numpy as np

from cnn_compression.jpeg import huffman, scan_decoding
from cnn_compression.jpeg.segments import MOST_SCANS
from cnn_compression.jpeg.structure import (
    BASELINE,
    EXTENDED,
    PROGRESSIVE,
    Component,
    Frame,
    Scan,
    block_shape,
    check_frame,
    check_scan,
    intervals,
    kind,
    needed_tables,
    padded_shape,
    scan_grid,
    scan_units,
    slot,
    spectrum,
)
from cnn_compression.payload.layout import KINDS, PICTURE, segments

_DHT, _SOS, _EOI, _DQT, _DRI = 0xC4, 0xDA, 0xD9, 0xDB, 0xDD
_RESTART = re.compile(rb"(?<!\xff)(\xff+)([\xd0-\xd7])")  # looks at each run of FF once


def _kind(marker):
    """What a marker stands for that is not read (T.81, table B.1)."""
    if marker == 0xC3:
        return "lossless"
    if marker in (0xC5, 0xC6, 0xC7, 0xDE, 0xDF):
        return "hierarchical"
    if 0xC9 <= marker <= 0xCF:
        return "arithmetic coding"
    return "unknown"


class JPEG(NamedTuple):
    """A JPEG, taken apart.

    Attributes:
        frame: `Frame`.
        quantisation: uint16 `[64]` of each component, in zigzag order.
        coefficients: int16 `[rows, columns, 64]` of each component, quantised, in zigzag order;
            with the blocks that fill up the last MCUs (`structure.padded_shape`).
        scans: `Scan`s in their order.
        between: bytes before each scan's coded data, its header too, and those behind the last one.
    """

    frame: Frame
    quantisation: tuple[np.ndarray, ...]
    coefficients: tuple[np.ndarray, ...]
    scans: tuple[Scan, ...]
    between: tuple[bytes, ...]


class _Tables:
    """What the segments so far have said, for the scans to come."""

    def __init__(self, size, max_pixels):
        self.size, self.max_pixels = size, max_pixels
        self.frame = None
        self.quantisation = {}  # destination -> steps
        self.steps = {}  # index of a component -> steps, those of its first scan
        self.coded = {}  # (index of a component, index of a coefficient) -> Al so far
        self.huffman = {}
        self.restart_interval = 0
        self.blocks = None  # int16 [B, 64], of all components

    def read(self, marker, body):
        """Takes in a segment that makes the picture, but no scan."""
        if marker in (BASELINE, EXTENDED, PROGRESSIVE):
            self._read_frame(marker, body)
        elif marker == _DQT:
            self._read_quantisation(body)
        elif marker == _DHT:
            self._read_huffman(body)
        elif marker == _DRI:
            [self.restart_interval] = struct.unpack(">H", _exactly(body, 2))
        else:
            raise ValueError(
                f"JPEG of a kind that is not read: {_kind(marker)}, marker FF{marker:02X}"
            )

    def _read_frame(self, marker, body):
        if self.frame:
            raise ValueError("damaged JPEG: it has two frames")
        precision, height, width, count = struct.unpack(">BHHB", _at_least(body, 6)[:6])
        rows = _exactly(body[6:], 3 * count)
        components = tuple(
            Component(name, factors >> 4, factors & 15, table)
            for name, factors, table in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
        )
        frame = Frame(marker, height, width, components)
        if precision != 8:
            raise ValueError(f"expected a JPEG of 8 bits. Received: {precision} bits")
        check_frame(frame)
        if height * width > self.max_pixels:
            raise ValueError(
                f"expected a JPEG of at most {self.max_pixels} pixels. Received: {width} x {height}"
            )
        # A block's DC takes a bit at least.
        if sum(math.prod(block_shape(frame, index)) for index in range(count)) > 8 * self.size:
            raise ValueError(f"truncated JPEG: {width} x {height} pixels in {self.size} bytes")
        self.frame = frame

    def _read_quantisation(self, body):
        while body:
            wide, destination = divmod(body[0], 16)
            size = 64 * (1 + (wide > 0))
            steps = np.frombuffer(_at_least(body, 1 + size), ">u2" if wide else "u1", 64, 1)
            self.quantisation[destination] = steps.astype(np.uint16)
            body = body[1 + size :]

    def _read_huffman(self, body):
        while body:
            size = huffman.LENGTHS + sum(_at_least(body, 17)[1:17])
            if body[0] & 0xEC or size > huffman.LENGTHS + 256:
                raise ValueError("damaged JPEG: a Huffman table's head")
            self.huffman[body[0]] = _at_least(body, 1 + size)[1 : 1 + size]
            body = body[1 + size :]

    def read_scan(self, body):
        """The scan that a header announces, without what its coded data say."""
        count = _at_least(body, 1)[0]
        rows = _exactly(body[1:], 2 * count + 3)
        if not self.frame:
            raise ValueError("damaged JPEG: a scan without a frame")
        names = [component.identifier for component in self.frame.components]
        first, last, bits = rows[2 * count :]
        scan = Scan(
            tuple(names.index(name) if name in names else -1 for name in rows[: 2 * count : 2]),
            *(first, last, bits >> 4, bits & 15),
            dc=tuple(table >> 4 for table in rows[1 : 2 * count : 2]),
            ac=tuple(table & 15 for table in rows[1 : 2 * count : 2]),
            restart_interval=self.restart_interval,
        )
        check_scan(self.frame, scan)
        needed = needed_tables(self.frame, scan)
        if not self.huffman.keys() >= set(needed):
            raise ValueError("damaged JPEG: a scan without its Huffman tables")
        return scan._replace(tables={key: self.huffman[key] for key in needed})

    def take(self, scan):
        """Takes in that a scan comes; a bit that was there before is refused."""
        progressive = self.frame.marker == PROGRESSIVE
        band = range(scan.first, scan.last + 1) if progressive else [0]
        before = scan.high if progressive and scan.high else None
        for index in scan.components:
            table = self.frame.components[index].quantisation
            self.steps.setdefault(index, self.quantisation.get(table))
            if self.steps[index] is None:
                raise ValueError("damaged JPEG: a component without a quantisation table")
            coded = [self.coded.get((index, k)) for k in band]
            if coded != [before] * len(coded) or (scan.first and (index, 0) not in self.coded):
                raise ValueError("damaged JPEG: the order of its scans")
            self.coded |= {(index, k): scan.low for k in band}

    def prepare(self):
        """Makes room for the coefficients."""
        if self.blocks is None:
            shapes = [padded_shape(self.frame, i) for i in range(len(self.frame.components))]
            self.blocks = np.zeros([sum(rows * columns for rows, columns in shapes), 64], np.int16)


def _at_least(body, size):
    if len(body) < size:
        raise ValueError("damaged JPEG: a segment is too short")
    return body


def _exactly(body, size):
    if len(body) != size:
        raise ValueError("damaged JPEG: a segment's length")
    return body


def read(jpeg: bytes, max_pixels: int) -> JPEG:
    """Takes a JPEG apart; see `coefficients.parse`, which checks that it can be put together."""
    tables = _Tables(len(jpeg), max_pixels)
    scans, between = _walk(jpeg, tables, _read_coded)
    coefficients = _split(tables.frame, tables.blocks)
    return JPEG(tables.frame, _steps(tables), coefficients, scans, between)


def read_segments(segments: bytes, max_pixels: int) -> JPEG:
    """Takes apart what a JPEG is without its scans' coded data: all of `between`, joined.

    Returns:
        The JPEG that `read` gives, but for its coefficients, which are (), and for what of its
        scans the coded data say.

    Raises:
        ValueError: as `read`; nothing has been allocated.
    """

    def nothing(coded, tables, scan):
        if coded:
            raise ValueError("damaged JPEG: coded data between its segments")
        tables.take(scan)
        return scan

    tables = _Tables(math.inf, max_pixels)
    scans, between = _walk(segments, tables, nothing)
    return JPEG(tables.frame, _steps(tables), (), scans, between)


def _walk(jpeg, tables, take_scan):
    """A JPEG's scans and what is between them; `take_scan` (coded data, tables, scan) -> scan."""
    scans, between, done, marker = [], [], 0, None
    for marker, start, end in segments(jpeg, MOST_SCANS):
        head_end = start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
        if marker == _SOS:
            scan = tables.read_scan(jpeg[start + 4 : head_end])
            between.append(jpeg[done:head_end])
            scans.append(take_scan(jpeg[head_end:end], tables, scan))
            done = end
        elif KINDS[marker] == PICTURE:
            tables.read(marker, jpeg[start + 4 : end])
    if marker != _EOI:
        raise ValueError("damaged JPEG: it has no end, or too many segments or scans")
    if tables.frame is None or len(tables.steps) < len(tables.frame.components):
        raise ValueError("damaged JPEG: it has no scan of each component")
    between.append(jpeg[done:])
    return tuple(scans), tuple(between)


def _steps(tables):
    return tuple(tables.steps[index] for index in range(len(tables.frame.components)))


def _split(frame, blocks):
    """Each component's view of the blocks of all."""
    views, start = [], 0
    for index in range(len(frame.components)):
        rows, columns = padded_shape(frame, index)
        views.append(blocks[start : start + rows * columns].reshape(rows, columns, 64))
        start += rows * columns
    return tuple(views)


def _read_coded(coded, tables, scan):
    """Reads a scan's coded data into the coefficients; the scan with what else they say."""
    frame = tables.frame
    parts = _RESTART.split(coded)
    if len(parts[::3]) != intervals(frame, scan):
        raise ValueError("damaged JPEG: a scan's restart markers")
    if any(number[0] != 0xD0 + i % 8 for i, number in enumerate(parts[2::3])):
        raise ValueError("damaged JPEG: the order of a scan's restart markers")
    tables.take(scan)
    tables.prepare()
    plain = [part.replace(b"\xff\0", b"\xff") for part in parts[::3]]
    data = np.frombuffer(b"".join([*plain, bytes(scan_decoding.MARGIN)]), np.uint8)
    ends = np.cumsum([len(part) for part in plain])
    lookups = np.zeros([8, 1 << huffman.LENGTHS], np.uint16)
    for key, table in scan.tables.items():
        lookups[slot(key)] = huffman.lookup(table)
    grid, units = np.array(scan_grid(frame, scan)), scan_units(frame, scan)
    stops = np.zeros(len(plain), np.int64)
    longest_run = scan_decoding.decode_scan(
        *(data, ends, tables.blocks, units, grid, scan.restart_interval or grid.prod()),
        *(kind(frame, scan), spectrum(frame, scan), lookups, stops),
    )
    if longest_run == scan_decoding.BROKEN:
        raise ValueError("truncated or damaged JPEG")
    last_bytes = (stops + 7) // 8
    if (last_bytes[:-1] != ends[:-1]).any():
        raise ValueError("damaged JPEG: bytes before a restart marker that nothing is coded in")
    spare = -stops % 8
    padding = (data[(stops - 1) // 8] | 255 << spare & 255).astype(np.uint8)
    tail = data[last_bytes[-1] : ends[-1]].tobytes().replace(b"\xff", b"\xff\0")
    fills = np.array([len(fill) - 1 for fill in parts[1::3]], np.int64)
    return scan._replace(padding=padding, fills=fills, tail=tail, longest_run=int(longest_run))
