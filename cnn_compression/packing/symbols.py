"""Integers <-> bytes, by a table of frequencies for each column: range coding with fixed tables.

The coder is rANS (Duda, 1311.2540): all that was coded is one number, a symbol that takes f of the
2**`BITS` places of its table makes it 2**`BITS` / f times as large, and what lies above the lowest
eight of its bytes' room is put out, byte by byte. It runs from the last symbol to the first, so
that what reads runs forward. All arithmetic is that of integers: the bytes decode anywhere.

    bytes
        5  the number, big-endian, from 2**32 to 2**40 - 1
           the bytes that join it from below, whenever it is less than 2**32

At the end the number is 2**32 and no byte is left: almost all damage ends elsewhere.
"""

import math

import numpy as np

from cnn_compression.compiled import compiled
from cnn_compression.payload.layout import PayloadError

BITS = 16  # each table's frequencies sum to 2**16
_HEAD = 5  # bytes
_LEAST = 1 << 32  # of the number


class SymbolsError(PayloadError):
    """Bytes that were not made from as many symbols by the same tables."""


def encode(symbols: np.ndarray, frequencies: np.ndarray) -> bytes:
    """Codes a matrix of symbols.

    Args:
        symbols: integers `[N, columns]`, 0..S - 1.
        frequencies: integers `[columns, S]`, above 0, rows that sum to 2**16: how often each symbol
            comes in each column.

    Returns:
        bytes: what the symbols' information takes by those frequencies, and 5 bytes at most.

    Raises:
        ValueError: for symbols that have no frequency, or tables that sum to something else.
    """
    _check(frequencies, symbols.shape[1])
    if symbols.size and not 0 <= symbols.min() <= symbols.max() < frequencies.shape[1]:
        raise ValueError(
            f"expected symbols of 0..{frequencies.shape[1] - 1}. "
            f"Received: {symbols.min()}..{symbols.max()}"
        )
    # A symbol takes 16 bits at most.
    room = np.empty(2 * symbols.size + _HEAD, np.uint8)
    used = _write(np.ascontiguousarray(symbols, np.int32), _starts(frequencies), room)
    return room[len(room) - used :].tobytes()


def decode(data: bytes, count: int, frequencies: np.ndarray) -> np.ndarray:
    """The symbols that were coded.

    Args:
        data: what `encode` gave.
        count: rows.
        frequencies: as of `encode`.

    Returns:
        int32 `[count, columns]`.

    Raises:
        SymbolsError: the bytes are damaged, or cannot hold as many symbols; the latter is known
            before memory is taken for them.
        ValueError: for tables that sum to something else.
    """
    _check(frequencies, len(frequencies))
    # No symbol takes less than its column's most frequent.
    least = count * float(np.log2(2**BITS / frequencies.max(axis=1)).sum()) / 8
    if len(data) < _HEAD or math.floor(least) > len(data):
        symbols = f"{count} x {len(frequencies)} symbols"
        raise SymbolsError(f"damaged: {len(data)} bytes cannot hold {symbols}")
    symbols = np.empty((count, len(frequencies)), np.int32)
    if not _read(np.frombuffer(data, np.uint8), _starts(frequencies), symbols):
        raise SymbolsError("damaged: the coded symbols do not end where they should")
    return symbols


def _check(frequencies, columns):
    fits = frequencies.ndim == 2 and len(frequencies) == columns and frequencies.size
    if not fits or frequencies.min() < 1 or (frequencies.sum(axis=1) != 1 << BITS).any():
        raise ValueError(
            f"expected {columns} rows of frequencies above 0 that sum to {1 << BITS}. "
            f"Received: {frequencies.shape}, sums {np.unique(frequencies.sum(axis=-1))}"
        )


def _starts(frequencies):
    """Where each symbol's places begin, and the last one's end: int64 `[columns, S + 1]`."""
    return np.pad(np.cumsum(frequencies, axis=1, dtype=np.int64), ((0, 0), (1, 0)))


@compiled
def _write(symbols, starts, room):
    """Fills `room` from its end; gives how many bytes are used."""
    place, number = len(room), _LEAST
    rows, columns = symbols.shape
    for row in range(rows - 1, -1, -1):
        for column in range(columns - 1, -1, -1):
            symbol = symbols[row, column]
            start = starts[column, symbol]
            frequency = starts[column, symbol + 1] - start
            while number >= frequency << 24:  # else it would pass 2**40
                place -= 1
                room[place] = number & 255
                number >>= 8
            number = ((number // frequency) << BITS) + number % frequency + start
    for _ in range(_HEAD):
        place -= 1
        room[place] = number & 255
        number >>= 8
    return len(room) - place


@compiled
def _read(data, starts, symbols):
    """Fills `symbols`; gives whether the bytes end as they should."""
    number = 0
    for place in range(_HEAD):
        number = number << 8 | np.int64(data[place])
    place = _HEAD
    if number < _LEAST:
        return False
    rows, columns = symbols.shape
    for row in range(rows):
        for column in range(columns):
            of_column = starts[column]
            low = number & ((1 << BITS) - 1)
            first, last = 0, len(of_column) - 1
            while last - first > 1:
                middle = (first + last) >> 1
                if of_column[middle] <= low:
                    first = middle
                else:
                    last = middle
            symbols[row, column] = first
            start = of_column[first]
            number = (of_column[first + 1] - start) * (number >> BITS) + low - start
            while number < _LEAST:
                if place == len(data):
                    return False
                number = number << 8 | np.int64(data[place])
                place += 1
    return number == _LEAST and place == len(data)
