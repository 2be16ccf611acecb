"""Coefficients -> entropy-coded data: a JPEG's scan, as libjpeg codes it (jchuff.c, jcphuff.c).

First the scan becomes tokens, a symbol and the bits behind it each, whatever the tables; then the
tokens become bits. Between the two, the tables can be made from how often each symbol stands there.

A token is a uint32: 16 bits that follow the symbol's code, right-aligned; their number, 4 bits;
the slot, 4 bits: 0..3 and 4..7 for the DC and AC tables of destinations 0..3, or what stands below;
the symbol, 8 bits.
"""

import numpy as np

from cnn_compression.compiled import compiled
from cnn_compression.jpeg.scan_decoding import FIRST_AC, FIRST_DC, REFINED_AC, SEQUENTIAL

SLOTS = 10
_PLAIN, _RESTART = 8, 9  # bits without a symbol; an interval's end
_MOST_HELD = 1000 - 64 + 1  # correction bits: libjpeg's MAX_CORR_BITS - DCTSIZE2 + 1
_MOST_TOKENS = 512  # that a block gives: it may end a run with 1,000 bits, and has 64 coefficients


@compiled
def _token(slot, symbol, size, bits):
    return np.uint32((symbol << 24) | (slot << 20) | (size << 16) | bits)


@compiled
def _size(value):
    """Bits of a magnitude (T.81, F.1.2.1: SSSS)."""
    size = np.int64(0)
    while value > 0:
        size += 1
        value >>= 1
    return size


@compiled
def _put_dc(block, low, slot, predictions, component, tokens, n):
    value = np.int64(block[0]) >> low
    difference = value - predictions[component]
    predictions[component] = value
    size = _size(abs(difference))
    if size > 15:
        return np.int64(-1)
    bits = difference if difference >= 0 else difference + (np.int64(1) << size) - 1
    tokens[n] = _token(slot, size, size, bits)
    return n + 1


@compiled
def _put_zeros(zeros, slot, tokens, n):
    """ZRL for each 16 zeros of a run."""
    while zeros > 15:
        tokens[n] = _token(slot, np.int64(0xF0), np.int64(0), np.int64(0))
        n += 1
        zeros -= 16
    return zeros, n


@compiled
def _put_ac(block, first, last, low, slot, run, tokens, n):
    """The coefficients of a block that are not 0, `run` as in `tokenise`."""
    zeros = np.int64(0)
    for k in range(first, last + 1):
        value = np.int64(block[k])
        magnitude = abs(value) >> low
        if magnitude == 0:
            zeros += 1
            continue
        if run[0] > 0:
            n = _end_run(slot, run, tokens, n)
        zeros, n = _put_zeros(zeros, slot, tokens, n)
        size = _size(magnitude)
        if size > 15:
            return np.int64(-1)
        bits = magnitude if value > 0 else (np.int64(1) << size) - 1 - magnitude
        tokens[n] = _token(slot, (zeros << 4) | size, size, bits)
        n += 1
        zeros = np.int64(0)
    if zeros > 0:
        run[0] += 1
        if run[0] == run[1]:
            n = _end_run(slot, run, tokens, n)
    return n


@compiled
def _end_run(slot, run, tokens, n):
    """EOBn for the run so far (T.81, G.1.2.2)."""
    size = _size(run[0]) - 1
    tokens[n] = _token(slot, size << 4, size, run[0] - (np.int64(1) << size))
    run[0] = 0
    return n + 1


@compiled
def _put_held(held, start, end, tokens, n):
    """Correction bits, up to 15 a token."""
    while start < end:
        size = min(np.int64(15), end - start)
        bits = np.int64(0)
        for i in range(size):
            bits = (bits << 1) | np.int64(held[start + i])
        tokens[n] = _token(np.int64(_PLAIN), np.int64(0), size, bits)
        n += 1
        start += size
    return n


@compiled
def _end_refined_run(slot, run, held, tokens, n):
    """EOBn, then the correction bits of the run's blocks, of which there are `run[2]`."""
    if run[0] > 0:
        n = _end_run(slot, run, tokens, n)
        n = _put_held(held, np.int64(0), run[2], tokens, n)
        run[2] = 0
    return n


@compiled
def _put_refined_ac(block, first, last, low, slot, run, held, tokens, n):
    """T.81, G.1.2.3; `encode_mcu_AC_refine` of jcphuff.c."""
    newest = 0  # the last coefficient that this scan makes other than 0
    for k in range(first, last + 1):
        if abs(np.int64(block[k])) >> low == 1:
            newest = k
    zeros = np.int64(0)
    start = end = run[2]  # of this block's correction bits
    for k in range(first, last + 1):
        value = np.int64(block[k])
        magnitude = abs(value) >> low
        if magnitude == 0:
            zeros += 1
            continue
        if zeros > 15 and k <= newest:
            n = _end_refined_run(slot, run, held, tokens, n)
            tokens[n] = _token(slot, np.int64(0xF0), np.int64(0), np.int64(0))
            n = _put_held(held, start, end, tokens, n + 1)
            zeros, n = _put_zeros(zeros - 16, slot, tokens, n)
            start = end = np.int64(0)
        if magnitude > 1:
            held[end] = magnitude & 1
            end += 1
            continue
        n = _end_refined_run(slot, run, held, tokens, n)
        tokens[n] = _token(slot, (zeros << 4) | 1, np.int64(1), np.int64(value > 0))
        n = _put_held(held, start, end, tokens, n + 1)
        start = end = zeros = np.int64(0)
    if zeros > 0 or end > start:
        run[0] += 1
        run[2] = end
        if run[0] == run[1] or run[2] > _MOST_HELD:
            n = _end_refined_run(slot, run, held, tokens, n)
    return n


@compiled
def _put_block(block, kind, spectrum, dc, ac, predictions, component, run, held, tokens, n):
    first, last, low = spectrum
    if kind == SEQUENTIAL:
        n = _put_dc(block, low, dc, predictions, component, tokens, n)
        return _put_ac(block, first, last, low, ac, run, tokens, n) if n >= 0 else n
    if kind == FIRST_DC:
        return _put_dc(block, low, dc, predictions, component, tokens, n)
    if kind == FIRST_AC:
        return _put_ac(block, first, last, low, ac, run, tokens, n)
    if kind == REFINED_AC:
        return _put_refined_ac(block, first, last, low, ac, run, held, tokens, n)
    bit = (np.int64(block[0]) >> low) & 1
    tokens[n] = _token(np.int64(_PLAIN), np.int64(0), np.int64(1), bit)
    return n + 1


@compiled
def _longer(tokens, n):
    longer = np.empty(2 * len(tokens), np.uint32)
    for i in range(n):  # assigning a slice takes numba seconds to compile
        longer[i] = tokens[i]
    return longer


@compiled
def tokenise(blocks, units, grid, interval, kind, spectrum, most_ends):
    """One scan's tokens.

    Args: as of `scan_decoding.decode_scan`, and
        most_ends: int64, how many blocks a run of those has that have no more coefficients.

    Returns:
        tokens: uint32 `[N]`.
        counts: int64 `[SLOTS, 256]`, how often each symbol of each slot stands among them.
        True, or False where a coefficient or a difference takes more than 15 bits.
    """
    tokens = np.empty(grid[0] * grid[1] * len(units) + 2 * _MOST_TOKENS, np.uint32)
    predictions = np.zeros(4, np.int64)
    # Blocks in the run of EOBs, how many it may have, and the correction bits held for it.
    run = np.array([0, 1 if kind == SEQUENTIAL else most_ends, 0])
    held = np.empty(1024, np.uint8)
    n, left, ac = np.int64(0), interval, np.int64(0)
    for row in range(grid[0]):
        for column in range(grid[1]):
            if left == 0:
                n = _end_refined_run(ac, run, held, tokens, n)
                tokens[n] = _token(np.int64(_RESTART), np.int64(0), np.int64(0), np.int64(0))
                n += 1
                predictions[:] = 0
                left = interval
            left -= 1
            for u in range(len(units)):
                if n + _MOST_TOKENS > len(tokens):
                    tokens = _longer(tokens, n)
                base, down, right, component, dc, ac = units[u]
                block = blocks[base + row * down + column * right]
                n = _put_block(
                    *(block, kind, spectrum, dc, ac, predictions, component),
                    *(run, held, tokens, n),
                )
                if n < 0:
                    return tokens[:0], np.zeros((SLOTS, 256), np.int64), False
    n = _end_refined_run(ac, run, held, tokens, n)
    counts = np.zeros((SLOTS, 256), np.int64)
    for token in tokens[:n]:
        counts[(token >> 20) & 15, token >> 24] += 1
    return tokens[:n], counts, True


@compiled
def emit(tokens, codes, padding, ends):
    """Tokens -> coded data without stuffed bytes and RST markers.

    Args:
        tokens: uint32 `[N]`, of `tokenise`.
        codes: uint32 `[SLOTS, 256]`, each symbol's code and above it, from bit 16 on, its length;
            0 where a table has no such symbol.
        padding: uint8 `[intervals]`, the lowest of whose bits fill each interval's last byte.
        ends: int64 `[intervals]`, written to: the bytes where each interval ends.

    Returns:
        uint8 `[ends[-1]]`, or None where a symbol has no code.
    """
    data = np.empty(4 * (len(tokens) + 1), np.uint8)  # a token has up to 31 bits, padding 7
    n, part = 0, 0
    held, count = np.int64(0), np.int64(0)  # bits that fill no byte yet, and their number
    for i in range(len(tokens) + 1):
        token = np.int64(tokens[i]) if i < len(tokens) else np.int64(_RESTART) << 20
        slot, size = (token >> 20) & 15, (token >> 16) & 15
        if slot == _RESTART:
            size = -count & 7
            held = (held << size) | (np.int64(padding[part]) & ((np.int64(1) << size) - 1))
            count += size
        else:
            entry = np.int64(codes[slot, token >> 24])
            length = entry >> 16
            if length == 0 and slot != _PLAIN:
                return None
            held = (held << (length + size)) | ((entry & 0xFFFF) << size) | (token & 0xFFFF)
            count += length + size
        while count >= 8:
            count -= 8
            data[n] = (held >> count) & 255
            n += 1
        held &= 255
        if slot == _RESTART:
            ends[part] = n
            part += 1
    return data[:n]
