"""The compiled part of coding any bytes: what has followed each context so far, counted.

A byte is two symbols of 16, its upper half and its lower. A context is what stands before a symbol:
the last bytes, so many as `LENGTHS` says, or the word so far, or that and the word before it; and
of a lower half also the upper one. Each has a row of 16 counts in a table, found by its hash; a tag
of 16 bits tells contexts apart that share a row, of which the later one takes it. Counts are
fixed-point numbers, which lose a share each time that their row is seen, so that what came last
counts most.
"""

import numpy as np

from cnn_compression.compiled import compiled

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 12, 20)
CONTEXTS = len(LENGTHS) + 2
LONGEST = 32  # bytes that a context looks back at most
HALF = 16  # symbols
FEATURES = 3 * CONTEXTS
UNIT = 256  # what a symbol that comes adds to its count
_FADING = 7  # a count loses 2^-7 of itself
_LARGEST_TABLE = 22  # as a power of two: of 34 bytes each
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_STIR = np.uint64(0xD6E8FEB86659FD93)


def logarithms():
    """float32 [3, 65536] of counts c: log(c + a), log(c / 16 + a), log(1 + c), with a = 0.05."""
    counts = np.arange(65536) / UNIT
    rows = (np.log(counts + 0.05), np.log(counts / 16 + 0.05), np.log1p(counts))
    return np.array(rows, np.float32)


@compiled
def hash_contexts(history, place, hashes):
    """Hashes of what stands before `place`: uint8 [B, LONGEST + L] -> uint64 [B, CONTEXTS]."""
    for stream in range(history.shape[0]):
        total, length = np.uint64(0), 0
        for k in range(len(LENGTHS)):
            while length < LENGTHS[k]:
                length += 1
                byte = np.uint64(history[stream, place - length])
                total = (total + byte + np.uint64(1)) * _SPREAD
            hashes[stream, k] = (total + np.uint64(k)) * _STIR
        total, length = np.uint64(0), 0
        for k in range(len(LENGTHS), CONTEXTS):
            while length < LONGEST:
                length += 1
                letter = np.uint64(history[stream, place - length])
                if 65 <= letter <= 90:
                    letter += np.uint64(32)
                total = (total + letter + np.uint64(1)) * _SPREAD
                if not (97 <= letter <= 122 or letter >= 128):
                    break
            hashes[stream, k] = (total + np.uint64(k)) * _STIR


@compiled
def look_up(table, tags, logs, hashes, upper, rows, own, features):
    """What the counts say of the next symbol.

    Args:
        table, tags: uint16 [2^n, HALF], uint16 [2^n].
        logs: of `logarithms`.
        hashes: uint64 [B, CONTEXTS].
        upper: int32 [B]: 0 before a byte's upper half, 1 + that half before its lower one.
        rows, own: int64 and uint16 [B, CONTEXTS]: filled with the rows and tags, for `count`.
        features: float32 [B, HALF, FEATURES], filled: for each context a symbol's probability, its
            count and that of all, as logarithms.
    """
    mask = np.uint64(table.shape[0] - 1)
    for stream in range(hashes.shape[0]):
        for k in range(CONTEXTS):
            key = hashes[stream, k]
            key = (key ^ (key >> np.uint64(29))) + np.uint64(upper[stream]) * _SPREAD
            key = (key ^ (key >> np.uint64(32))) * _STIR
            key ^= key >> np.uint64(32)
            row, tag = np.int64(key & mask), np.uint16(key >> np.uint64(48))
            rows[stream, k], own[stream, k] = row, tag
            known = tags[row] == tag
            total = 0
            if known:
                for symbol in range(HALF):
                    total += np.int64(table[row, symbol])
            for symbol in range(HALF):
                count = np.int64(table[row, symbol]) if known else 0
                features[stream, symbol, k] = logs[0, count] - logs[1, total]
                features[stream, symbol, CONTEXTS + k] = logs[2, count]
                features[stream, symbol, 2 * CONTEXTS + k] = logs[2, total]


@compiled
def count(table, tags, rows, own, symbols):
    """Adds the symbols that came, int32 [B], in all their contexts."""
    for stream in range(rows.shape[0]):
        for k in range(CONTEXTS):
            row = rows[stream, k]
            if tags[row] != own[stream, k]:
                tags[row] = own[stream, k]
                table[row, :] = 0
            for symbol in range(HALF):
                loss = (np.int64(table[row, symbol]) + 127) >> _FADING
                table[row, symbol] = np.uint16(np.int64(table[row, symbol]) - loss)
            table[row, symbols[stream]] += np.uint16(UNIT)


class Contexts:
    """The table of counts, and where in it the streams stand.

    Args:
        streams: B.
        size: bytes of the file: the table has room for what so many can fill.
    """

    def __init__(self, streams: int, size: int):
        rows = 1 << min(max((64 * size).bit_length(), 12), _LARGEST_TABLE)
        self._table = np.zeros((rows, HALF), np.uint16), np.zeros(rows, np.uint16)
        self._logs = logarithms()
        self._hashes = np.zeros((streams, CONTEXTS), np.uint64)
        self._found = np.zeros((streams, CONTEXTS), np.int64), self._hashes.astype(np.uint16)

    def move_to(self, history: np.ndarray, place: int) -> None:
        """Goes on to a place in uint8 [B, LONGEST + L]."""
        hash_contexts(history, place, self._hashes)

    def look_up(self, upper: np.ndarray) -> np.ndarray:
        """Features float32 [B, HALF, FEATURES] as of the function `look_up`."""
        features = np.empty((len(upper), HALF, FEATURES), np.float32)
        look_up(*self._table, self._logs, self._hashes, upper, *self._found, features)
        return features

    def count(self, symbols: np.ndarray, reach: int) -> None:
        """Counts what came in the first streams, int32 [B], where `look_up` looked."""
        count(*self._table, *(found[:reach] for found in self._found), symbols)
