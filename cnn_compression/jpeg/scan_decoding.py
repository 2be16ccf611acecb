"""Entropy-coded data -> coefficients: one scan of a JPEG, Huffman-coded (T.81, F.2.2 and G.2).

numba checks no bounds. Reading is safe because a block takes at most `MARGIN` bytes, which the
caller puts behind the data, and because each block looks whether it came past the end; writing,
because a block's place is computed from the frame alone and a coefficient's index is below 64.
"""

import numpy as np

from cnn_compression.compiled import compiled

SEQUENTIAL, FIRST_DC, FIRST_AC, REFINED_DC, REFINED_AC = range(5)  # kinds of scans
# A block has 64 codes of up to 16 bits, as many numbers of up to 15, and is read 5 bytes at a time.
MARGIN = 512
BROKEN = np.int64(-1)  # in place of a position
_LARGEST = 32767


@compiled
def _window(data, position):
    """40 bits from a bit's byte on, so that 33 bits are there whatever the bit."""
    byte = position >> 3
    window = np.int64(0)
    for i in range(5):
        window = (window << 8) | np.int64(data[byte + i])
    return window


@compiled
def _bits(data, position, count):
    """`count` bits, 0..16, as an unsigned number."""
    window = _window(data, position)
    return (window >> (40 - (position & 7) - count)) & ((np.int64(1) << count) - 1)


@compiled
def _symbol(data, position, lookup):
    """(symbol, position after it); the position is `BROKEN` where no code is like these bits."""
    entry = np.int64(lookup[_bits(data, position, 16)])
    if entry == 0:
        return entry, BROKEN
    return entry & 255, position + (entry >> 8)


@compiled
def _number(data, position, size):
    """A signed number of `size` bits (T.81, F.2.2.1: EXTEND)."""
    value = _bits(data, position, size)
    if size > 0 and value < (np.int64(1) << (size - 1)):
        value -= (np.int64(1) << size) - 1
    return value


@compiled
def _dc(data, position, block, lookup, low, predictions, component):
    size, position = _symbol(data, position, lookup)
    if position == BROKEN or size > 15:
        return BROKEN
    value = predictions[component] + _number(data, position, size)
    if abs(value) << low > _LARGEST:
        return BROKEN
    predictions[component] = value
    block[0] = value << low
    return position + size


@compiled
def _sequential_ac(data, position, block, lookup):
    k = 1
    while k < 64:
        symbol, position = _symbol(data, position, lookup)
        if position == BROKEN:
            return BROKEN
        run, size = symbol >> 4, symbol & 15
        if size == 0:
            if run != 15:
                return position if run == 0 else BROKEN
            k += 16
            continue
        k += run
        if k > 63:
            return BROKEN
        block[k] = _number(data, position, size)
        position += size
        k += 1
    return position


@compiled
def _first_ac(data, position, block, lookup, first, last, low, run_of_ends):
    """`run_of_ends` is EOBRUN: blocks, from this one on, that have no more; and the longest one."""
    if run_of_ends[0] > 0:
        run_of_ends[0] -= 1
        return position
    k = first
    while k <= last:
        symbol, position = _symbol(data, position, lookup)
        if position == BROKEN:
            return BROKEN
        run, size = symbol >> 4, symbol & 15
        if size == 0:
            if run != 15:
                ends = (np.int64(1) << run) + _bits(data, position, run)
                run_of_ends[0], run_of_ends[1] = ends - 1, max(run_of_ends[1], ends)
                return position + run
            k += 16
            continue
        k += run
        value = _number(data, position, size)
        position += size
        if k > last or abs(value) << low > _LARGEST:
            return BROKEN
        block[k] = value * (np.int64(1) << low)
        k += 1
    return position


@compiled
def _corrected(data, position, block, k, end, zeros, low):
    """Reads the correction bits up to the zero coefficient that `zeros` others precede.

    Returns that coefficient's index, or `end`, and the position.
    """
    while k < end:
        value = np.int64(block[k])
        if value == 0:
            if zeros == 0:
                break
            zeros -= 1
        else:
            bit = _bits(data, position, 1) << low
            position += 1
            if abs(value) & bit == 0:
                block[k] = value + bit if value > 0 else value - bit
        k += 1
    return k, position


@compiled
def _refined_ac(data, position, block, lookup, first, last, low, run_of_ends):
    k = first
    while run_of_ends[0] == 0 and k <= last:
        symbol, position = _symbol(data, position, lookup)
        if position == BROKEN:
            return BROKEN
        run, size = symbol >> 4, symbol & 15
        if size > 1:
            return BROKEN
        if size == 0 and run != 15:
            ends = (np.int64(1) << run) + _bits(data, position, run)
            run_of_ends[0], run_of_ends[1] = ends, max(run_of_ends[1], ends)
            position += run
            break
        positive = _bits(data, position, size)
        position += size
        k, position = _corrected(data, position, block, k, last + 1, run, low)
        if size == 1:
            if k > last:
                return BROKEN
            block[k] = (2 * positive - 1) * (np.int64(1) << low)
        k += 1
    if run_of_ends[0] > 0:
        k, position = _corrected(data, position, block, k, last + 1, np.int64(64), low)
        run_of_ends[0] -= 1
    return position


@compiled
def _block(data, position, block, dc, ac, kind, spectrum, predictions, component, run_of_ends):
    first, last, low = spectrum
    if kind == SEQUENTIAL:
        position = _dc(data, position, block, dc, low, predictions, component)
        return _sequential_ac(data, position, block, ac) if position != BROKEN else BROKEN
    if kind == FIRST_DC:
        return _dc(data, position, block, dc, low, predictions, component)
    if kind == FIRST_AC:
        return _first_ac(data, position, block, ac, first, last, low, run_of_ends)
    if kind == REFINED_AC:
        return _refined_ac(data, position, block, ac, first, last, low, run_of_ends)
    block[0] |= _bits(data, position, 1) << low
    return position + 1


@compiled
def decode_scan(data, ends, blocks, units, grid, interval, kind, spectrum, lookups, stops):
    """Decodes one scan into `blocks`.

    Args:
        data: uint8 `[N]`, the coded data of all restart intervals without stuffed bytes and RST
            markers, and `MARGIN` bytes more.
        ends: int64 `[intervals]`, the bytes where each interval ends, ascending, the last one at
            most N - `MARGIN`.
        blocks: int16 `[B, 64]`, the coefficients of all components, in zigzag order; written to.
        units: int64 `[U, 6]`, a row for each block of an MCU: see `structure.scan_units`.
        grid: int64 `[2]`, rows and columns of MCUs.
        interval: int64, MCUs of a restart interval.
        kind: int64, `SEQUENTIAL` ... `REFINED_AC`.
        spectrum: three int64, Ss, Se, Al; 1, 63, 0 where the kind is `SEQUENTIAL`.
        lookups: uint16 `[8, 65536]`, of each table's slot `huffman.lookup`.
        stops: int64 `[intervals]`, written to: the bits after which each interval's last MCU ends.

    Returns:
        The longest run of blocks that have no more coefficients, 0 where there is none; -1 where
        the data are no such scan.
    """
    predictions = np.zeros(4, np.int64)
    run_of_ends = np.zeros(2, np.int64)
    position, part, left = np.int64(0), 0, interval
    for row in range(grid[0]):
        for column in range(grid[1]):
            if left == 0:
                stops[part] = position
                position, left = ends[part] * 8, interval
                part += 1
                predictions[:] = 0
                if run_of_ends[0] > 0:
                    return BROKEN
            left -= 1
            for u in range(len(units)):
                base, down, right, component, dc, ac = units[u]
                block = blocks[base + row * down + column * right]
                position = _block(
                    *(data, position, block, lookups[dc], lookups[ac], kind, spectrum),
                    *(predictions, component, run_of_ends),
                )
                if position == BROKEN or position > ends[part] * 8:
                    return BROKEN
    stops[part] = position
    return run_of_ends[1] if run_of_ends[0] == 0 else BROKEN
