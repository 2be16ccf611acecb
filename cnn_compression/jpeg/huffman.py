"""Huffman tables: their codes both ways (T.81, Annex C), and the best ones for a scan (jchuff.c).

A table is bytes as DHT carries them: how many codes there are of each length 1..16, then the
symbols in the order of their codes.
"""

import heapq

import numpy as np

LENGTHS = 16
_LONGEST_TREE = 32  # libjpeg's MAX_CLEN, before codes are cut to `LENGTHS`


def _codes(table: bytes) -> list[tuple[int, int, int]]:
    """(symbol, code, length) of each code.

    Raises:
        ValueError: where the lengths are no prefix code's.
    """
    code, found = 0, []
    symbols = iter(table[LENGTHS:])
    for length in range(1, LENGTHS + 1):
        for _ in range(table[length - 1]):
            found.append((next(symbols, 0), code, length))
            code += 1
        if code > 1 << length:
            raise ValueError("damaged JPEG: a Huffman table has too many codes")
        code <<= 1
    return found


def lookup(table: bytes) -> np.ndarray:
    """For a decoder: uint16 `[65536]`, by the next 16 bits: length << 8 | symbol, or 0.

    Raises:
        ValueError: where the lengths are no prefix code's.
    """
    found = np.zeros(1 << LENGTHS, np.uint16)
    for symbol, code, length in _codes(table):
        spare = LENGTHS - length
        found[code << spare : (code + 1) << spare] = length << 8 | symbol
    return found


def codes(table: bytes) -> np.ndarray:
    """For an encoder: uint32 `[256]`, by symbol: length << 16 | code, or 0.

    Raises:
        ValueError: where the lengths are no prefix code's.
    """
    found = np.zeros(256, np.uint32)
    for symbol, code, length in _codes(table):
        found[symbol] = length << 16 | code
    return found


def optimal(counts: np.ndarray) -> bytes:
    """The table that libjpeg makes for a scan (`jpeg_gen_optimal_table`).

    Args:
        counts: int64 `[256]`, how often each symbol is coded.

    Raises:
        ValueError: where a code would be longer than libjpeg knows to shorten: beyond 32 bits.
    """
    # One more symbol, which gets the code of ones alone, that no table may have.
    frequencies = [*counts.tolist(), 1]
    sizes = [0] * len(frequencies)
    members = {symbol: [symbol] for symbol, count in enumerate(frequencies) if count}
    # Of those that are equally rare, the higher symbol goes first.
    heap = [(frequencies[symbol], -symbol) for symbol in members]
    heapq.heapify(heap)
    while len(heap) > 1:
        rarest, one = heapq.heappop(heap)
        rare, other = heapq.heappop(heap)
        members[-one] += members.pop(-other)
        for symbol in members[-one]:
            sizes[symbol] += 1
        heapq.heappush(heap, (rarest + rare, one))
    if max(sizes) > _LONGEST_TREE:
        raise ValueError(f"expected Huffman codes up to {_LONGEST_TREE} bits, got {max(sizes)}")
    by_length = _shortened(np.bincount(sizes, minlength=_LONGEST_TREE + 1))
    symbols = sorted((symbol for symbol in range(256) if sizes[symbol]), key=sizes.__getitem__)
    return bytes(by_length) + bytes(symbols)


def _shortened(by_length):
    """How many codes there are of 1..16 bits (T.81, figure K.3), the one of ones alone left out."""
    by_length = by_length.tolist()
    for length in range(_LONGEST_TREE, LENGTHS, -1):
        while by_length[length] > 0:
            shorter = length - 2
            while by_length[shorter] == 0:
                shorter -= 1
            by_length[length] -= 2
            by_length[length - 1] += 1
            by_length[shorter + 1] += 2
            by_length[shorter] -= 1
    longest = max(length for length in range(LENGTHS + 1) if by_length[length] and length)
    by_length[longest] -= 1
    return by_length[1 : LENGTHS + 1]
