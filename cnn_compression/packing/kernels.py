"""The compiled part: bits and their probabilities <-> bytes, and planes of blocks <-> bits.

All of it is in this file, and takes no table and no function from another: numba keeps compiled
code by the file that it is from, and would not see that another has changed.

**Matrices.** Most of the time goes into sums of products of integers of 16 bits. x86 has an
instruction for them, pmaddwd, which adds two products to each of its outputs; weights lie as it
wants them (`predictor.arranged`). LLVM does not find it in a loop, so `_add_products` names it.

**The range coder.** An interval of 32 bits is cut where a bit's probability says, the part of the
bit that comes is kept, and bytes that no longer change are written: Martin, *Range encoding*
(1979), in the binary form without carries of Mahoney's lpaq. Probabilities are integers of 16 bits;
a bit costs within 0.01 % of its information. One function serves both ways, so that what packs and
what unpacks cannot come apart.

**The network.** `predictor` says what it is, and in which order a block's coefficients come.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array

from cnn_compression.compiled import compiled, inlined

# Places in a coder's state, uint64: the interval's ends, the number that is read, where in the
# bytes it is, and whether it reads.
LOW, HIGH, CODE, PLACE, READS = range(5)
_FULL = np.uint64(0xFFFFFFFF)
_TOP = np.uint64(0xFF000000)
_BYTE = np.uint64(8)

ONE = 128  # a real 1.0, in features, activations and logits
SHIFT = 11  # of a real 1.0, in weights
ACTIVATION_LIMIT = 8191
UNARY, BUCKETS = 8, 12
ZERO, SIGN, MORE = 0, 1, 2  # decisions, in their order
BEYOND = MORE + UNARY - 1
DECISIONS = BEYOND + BUCKETS
PREDICTION_LIMIT = 2047 * 16  # of a linear prediction, in sixteenths of a step
DEQUANTISED_LIMIT = 4095


@compiled
def code(state, data, one, bit):
    """Codes a bit.

    Args:
        state, data: of `writer` or `reader`; changed. Beyond the end of data zeros are read, and
            nothing is written.
        one: integer 1..65535: how probable a one is, in 65536ths.
        bit: 0 or 1; of no meaning where the coder reads.

    Returns:
        The bit.
    """
    low, high = state[LOW], state[HIGH]
    middle = low + (((high - low) * np.uint64(one)) >> np.uint64(16))
    if state[READS]:
        bit = 1 if state[CODE] <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + np.uint64(1)
    while not (low ^ high) & _TOP:
        place = state[PLACE]
        inside = place < np.uint64(data.shape[0])
        if state[READS]:
            coming = np.uint64(data[place]) if inside else np.uint64(0)
            state[CODE] = ((state[CODE] << _BYTE) & _FULL) | coming
        elif inside:
            data[place] = np.uint8(high >> np.uint64(24))
        state[PLACE] = place + np.uint64(1)
        low = (low << _BYTE) & _FULL
        high = ((high << _BYTE) & _FULL) | np.uint64(255)
    state[LOW], state[HIGH] = low, high
    return bit


def _add_products(total, x, weights, index):
    """total += weights[index] x: int32 [N or more], int16 [M], int16 [.., M / 2, N, 2].

    N divides by 8.
    """
    for pair in range(weights.shape[1]):
        first, second = np.int32(x[2 * pair]), np.int32(x[2 * pair + 1])
        for n in range(weights.shape[2]):
            products = first * weights[index, pair, n, 0] + second * weights[index, pair, n, 1]
            total[n] = np.int32(total[n] + products)


def _add_rows(total, weights, rows, factors, count):
    """total += factors[k] weights[rows[k]] for k < count: int32 [N], int16 [R, N], int32 [K], int16
    [K]; K is more than `count`, N divides by 16.
    """
    for k in range(count):
        factor = np.int32(factors[k])
        for n in range(weights.shape[1]):
            total[n] = np.int32(total[n] + factor * weights[rows[k], n])


@overload(_add_products)
def _compiled_add_products(total, x, weights, index):
    return lambda total, x, weights, index: _generated_add_products(total, x, weights, index)


@overload(_add_rows)
def _compiled_add_rows(total, weights, rows, factors, count):
    def add_rows(total, weights, rows, factors, count):
        rows[count], factors[count] = 0, 0  # they go in pairs
        _generated_add_rows(total, weights, rows, factors, count)

    return add_rows


@intrinsic
def _generated_add_products(typing_context, total, x, weights, index):
    def build(builder, arrays, index):
        total, x, weights = arrays
        _, pairs, outputs, _ = cgutils.unpack_tuple(builder, weights.shape)
        eights = builder.lshr(outputs, outputs.type(3))
        start = builder.mul(index, builder.mul(pairs, eights))
        _build_products(builder, total.data, x.data, weights.data, start, pairs, eights)

    return types.none(total, x, weights, types.intp), _with_pmaddwd(build, _add_products)


@intrinsic
def _generated_add_rows(typing_context, total, weights, rows, factors, count):
    def build(builder, arrays, count):
        total, weights, rows, factors = arrays
        _, width = cgutils.unpack_tuple(builder, weights.shape)
        pairs = builder.lshr(builder.add(count, count.type(1)), count.type(1))
        sixteens = builder.lshr(width, width.type(4))
        pointers = total.data, weights.data, rows.data, factors.data
        _build_rows(builder, *pointers, pairs, sixteens)

    return types.none(total, weights, rows, factors, types.intp), _with_pmaddwd(build, _add_rows)


def _with_pmaddwd(build, otherwise):
    """What numba generates code by: `build`, if the processor that it is for has pmaddwd, or what
    it makes of the function `otherwise`."""

    def generate(context, builder, signature, values):
        if "+avx2" not in context.codegen().magic_tuple()[2].split(","):
            return context.compile_internal(builder, otherwise, signature, values)
        arrays = [
            make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:-1], values[:-1], strict=True)
        ]
        build(builder, arrays, values[-1])
        return context.get_dummy_value()

    return generate


# Registers of 256 bits.
_SUMS, _WORDS = ir.VectorType(ir.IntType(32), 8), ir.VectorType(ir.IntType(16), 16)
# Words of two registers side by side, in two registers: as the processor does it at once, from each
# quarter of the two. And the sums of both back in order.
_QUARTERS = [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]
_ASIDE = [[word + 16 * of for word in words for of in (0, 1)] for words in _QUARTERS]


def _build_products(builder, total, x, weights, start, pairs, eights):
    """Loops over registers of eight sums, and within over pairs of inputs."""
    total, weights = _pointer(builder, total, _SUMS), _pointer(builder, weights, _WORDS)
    x = _pointer(builder, x, ir.IntType(32))

    def build(numbers):
        sums = [cgutils.alloca_once_value(builder, _load(builder, total, n)) for n in numbers]
        with cgutils.for_range(builder, pairs) as loop:
            factors = _spread(builder, _load(builder, x, loop.index))
            row = builder.add(start, builder.mul(loop.index, eights))
            for number, one in zip(numbers, sums, strict=True):
                words = _load(builder, weights, builder.add(row, number))
                _add_pmaddwd(builder, one, words, factors)
        for number, one in zip(numbers, sums, strict=True):
            _store(builder, builder.load(one), total, number)

    _build_in_fours(builder, eights, build)


def _build_rows(builder, total, weights, rows, factors, pairs, sixteens):
    """Loops over sixteen sums, and within over pairs of rows."""
    total, weights = _pointer(builder, total, _SUMS), _pointer(builder, weights, _WORDS)
    factors, two = _pointer(builder, factors, ir.IntType(32)), pairs.type(2)

    def build(numbers):
        zeros = _SUMS([0] * 8)
        sums = [[cgutils.alloca_once_value(builder, zeros) for _ in range(2)] for _ in numbers]
        with cgutils.for_range(builder, pairs) as loop:
            both = _spread(builder, _load(builder, factors, loop.index))
            starts = []
            for of in (0, 1):
                place = builder.add(builder.mul(loop.index, two), pairs.type(of))
                row = builder.sext(_load(builder, rows, place), pairs.type)
                starts.append(builder.mul(row, sixteens))
            for number, halves in zip(numbers, sums, strict=True):
                words = [_load(builder, weights, builder.add(start, number)) for start in starts]
                for half, places in zip(halves, _ASIDE, strict=True):
                    _add_pmaddwd(builder, half, _shuffle(builder, *words, places), both)
        for number, halves in zip(numbers, sums, strict=True):
            halves = [builder.load(half) for half in halves]
            for of, places in enumerate(_QUARTERS):
                at = builder.add(builder.mul(number, two), pairs.type(of))
                added = _shuffle(builder, *halves, places)
                _store(builder, builder.add(_load(builder, total, at), added), total, at)

    _build_in_fours(builder, sixteens, build)


def _build_in_fours(builder, count, build):
    """A loop that does four at a time while so many are left: none waits for itself.

    `build(numbers)` builds what is done.
    """
    fours = builder.and_(count, count.type(-4))
    for begin, end, width in ((count.type(0), fours, 4), (fours, count, 1)):
        step = count.type(width)
        with cgutils.for_range_slice(builder, begin, end, step, inc=True) as (first, _):
            build([builder.add(first, count.type(n)) for n in range(width)])


def _pointer(builder, pointer, kind):
    return builder.bitcast(pointer, kind.as_pointer())


def _load(builder, pointer, at):
    loaded = builder.load(builder.gep(pointer, [at]))
    loaded.align = 2
    return loaded


def _store(builder, value, pointer, at):
    builder.store(value, builder.gep(pointer, [at])).align = 2


def _shuffle(builder, first, second, places):
    kind = ir.VectorType(ir.IntType(32), len(places))
    return builder.shuffle_vector(first, second, kind(places))


def _spread(builder, pair):
    """Two words, as one integer, all over a register."""
    first = builder.insert_element(_SUMS(ir.Undefined), pair, ir.IntType(32)(0))
    return builder.bitcast(_shuffle(builder, first, first, [0] * 8), _WORDS)


def _add_pmaddwd(builder, sums, words, factors):
    kind = ir.FunctionType(_SUMS, [_WORDS, _WORDS])
    pmaddwd = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
    products = builder.call(pmaddwd, [words, factors])
    builder.store(builder.add(builder.load(sums), products), sums)


@inlined
def _sum_products(total, x, weights, bias, index):
    """total = weights[index] x + bias[index]; as of `_add_products`, and int32 [.., N]."""
    for n in range(bias.shape[1]):
        total[n] = bias[index, n]
    _add_products(total, x, weights, index)


@inlined
def _activate(total, out):
    """out = clip(total / 2^SHIFT): int32 [N or more], int16 [N]."""
    for n in range(out.shape[0]):
        out[n] = min(max(total[n] >> SHIFT, 0), ACTIVATION_LIMIT)


@inlined
def _chance(probabilities, total):
    """How probable a one is, in 65536ths, by a logit times 2^SHIFT."""
    limit = probabilities.shape[0] // 2
    return probabilities[min(max(total >> SHIFT, -limit), limit) + limit]


@inlined
def _add(total, weights, factor):
    """total += factor * weights of int32 [N], int16 [N] and an integer of 16 bits."""
    for n in range(total.shape[0]):
        total[n] = np.int32(total[n] + np.int32(weights[n]) * np.int32(factor))


@compiled
def _log(log1p, level):
    """The logarithm of 1 + a level's size."""
    return log1p[min(abs(level), log1p.shape[0] - 1)]


@compiled
def _dequantised(level, step):
    return min(max(level * step, -DEQUANTISED_LIMIT), DEQUANTISED_LIMIT)


@compiled
def _prediction(log1p, total, step, features):
    """What is predicted, rounded, in steps; `features`, int16 [4], tell of it."""
    sixteenths = (np.int64(total) * 16) // (np.int64(step) << SHIFT)
    sixteenths = min(max(sixteenths, -PREDICTION_LIMIT), PREDICTION_LIMIT)
    size = abs(sixteenths)
    # Between two of the table's entries.
    low, part = size >> 4, size & 15
    high = min(low + 1, log1p.shape[0] - 1)
    log = (np.int64(log1p[low]) * (16 - part) + np.int64(log1p[high]) * part + 8) >> 4
    rounded = (sixteenths + 8) >> 4
    features[0] = log if sixteenths > 0 else -log
    features[1] = log
    features[2] = min(max(sixteenths, -24), 24) * (ONE // 16)
    features[3] = (sixteenths - 16 * rounded) * (ONE // 16)
    return rounded


@compiled
def _code_last(state, data, probabilities, totals, last):
    """Codes `last` as a binary tree's six decisions, of logits int32 [63 or more]."""
    node, value = 0, 0
    for bit in range(5, -1, -1):
        one = _chance(probabilities, totals[node])
        coded = code(state, data, one, (last >> bit) & 1)
        value = 2 * value + coded
        node = 2 * node + 1 + coded
    return value


@compiled
def _code_level(state, data, probabilities, totals, known, level):
    """Codes a coefficient, or what is left of its prediction, of logits int32 [DECISIONS or more].

    `known`: whether it is known not to be zero.
    """
    if not known and not code(state, data, _chance(probabilities, totals[ZERO]), level != 0):
        return 0
    positive = code(state, data, _chance(probabilities, totals[SIGN]), level > 0)
    goal, size = abs(level), 1
    while size < UNARY:
        one = _chance(probabilities, totals[MORE + size - 1])
        if not code(state, data, one, goal > size):
            return size if positive else -size
        size += 1
    bucket = 0
    while bucket < BUCKETS - 1:
        one = _chance(probabilities, totals[BEYOND + bucket])
        if not code(state, data, one, goal - UNARY + 1 >= 2 << bucket):
            break
        bucket += 1
    rest = 1
    for bit in range(bucket - 1, -1, -1):
        rest = 2 * rest + code(state, data, 32768, ((goal - UNARY + 1) >> bit) & 1)
    size = UNARY - 1 + rest
    return size if positive else -size


@inlined
def _sum_up(net, around, steps_around, total, linear, lists):
    """Adds what the blocks around say to the trunk's first layer and to the linear predictions."""
    rows, logs, near, pixels = lists
    negative, count, count_near = net.trunk1.shape[0] // 2, 0, 0
    for number in range(around.shape[0]):
        for index in range(64):
            level = np.int64(around[number, index])
            if level:
                row = 64 * number + index
                rows[count] = row if level > 0 else row + negative
                logs[count] = _log(net.log1p, level)
                count += 1
                if number < steps_around.shape[0]:
                    near[count_near] = row
                    pixels[count_near] = _dequantised(level, steps_around[number, index])
                    count_near += 1
    _add_rows(total, net.trunk1, rows, logs, count)
    _add_rows(linear, net.around, near, pixels, count_near)


@inlined
def _first_layer(net, index, trunk, own, features, total):
    """A coefficient's first layer, from all that is known by then."""
    width = net.features_bias.shape[1]
    for n in range(width):
        total[n] = own[index * width + n] + net.features_bias[index, n]
    _add_products(total, trunk, net.features, index)
    _add_products(total, features, net.predicted, index)


@compiled
def _code_block(net, state, data, base, around, steps, steps_around, block, room):
    """Codes one block; what is read is written into it.

    Args:
        base: int32 [W], what the trunk's first layer starts with.
        around: int16 [C, 64], the context; steps_around: int32 [P, 64]; steps: int32 [64].
        block: int16 [64].
        room: tuple of arrays to work in.
    """
    total, trunk1, trunk, last1, own, first, hidden, features, linear, sums, lists = room
    total[:] = base
    linear[:] = 0
    _sum_up(net, around, steps_around, total, linear, lists)
    _activate(total, trunk1)
    _sum_products(sums, trunk1, net.trunk2, net.trunk2_bias, 0)
    _activate(sums, trunk)
    _sum_products(sums, trunk, net.last1, net.last1_bias, 0)
    _activate(sums, last1)
    _sum_products(sums, last1, net.last2, net.last2_bias, 0)

    last = 63
    while last and not block[last]:
        last -= 1
    last = _code_last(state, data, net.probabilities, sums, last)
    width = first.shape[0]
    own[: width * (last + 1)] = net.of_last[last, : width * (last + 1)]
    for turn in range(1, last + 2):
        index = turn if turn <= last else 0
        rounded = _prediction(net.log1p, linear[index], steps[index], features)
        _first_layer(net, index, trunk, own, features, sums)
        _activate(sums, first)
        _sum_products(sums, first, net.hidden, net.hidden_bias, index)
        _activate(sums, hidden)
        _sum_products(sums, hidden, net.decisions, net.decisions_bias, index)
        expected = rounded if index == 0 else 0
        known = index == last and index > 0
        level = np.int64(block[index]) - expected
        level = expected + _code_level(state, data, net.probabilities, sums, known, level)
        block[index] = level
        if level and index:
            log = _log(net.log1p, level)
            weights = net.own[index if level > 0 else index + 64]
            later = slice(width * (index + 1), width * (last + 1))
            _add(own[later], weights[later], log)
            _add(own[:width], weights[:width], log)
            _add(linear, net.itself[index], _dequantised(level, steps[index]))


@compiled
def code_plane(net, state, data, base, planes, own, steps, ratio, room):
    """Codes the blocks of a component, row by row; those that are read are written into it.

    Args:
        net: `predictor.Arranged`.
        state, data: of `range_coder`.
        base: int32 [W]: what the first layer starts with in every block of the component.
        planes: luma, Cb and Cr, each int16 [h + 2, w + 3, 64] zigzag coefficients, with two rows
            above, two columns left and one right of zeros.
        own: int: which of the planes is coded.
        steps: int32 [64], the component's quantisation steps in zigzag order.
        ratio: int32 [2]: luma's blocks to one of the component's, down and across, 1 or 2. Of
            Cb and Cr the context has luma and Cb in it.
        room: of `working_room`.
    """
    plane, luma, blue = planes[own], planes[0], planes[1]
    rows, columns = plane.shape[0] - 2, plane.shape[1] - 3
    is_chroma = own > 0
    around = np.zeros((9 if is_chroma else 6, 64), np.int16)
    steps_around = np.empty((5 if is_chroma else 4, 64), np.int32)
    steps_around[:] = steps
    start = np.empty(base.shape[0], np.int32)
    last_row, last_column = luma.shape[0] - 1, luma.shape[1] - 2
    for row in range(rows):
        if state[READS] and state[PLACE] > np.uint64(data.shape[0] + 4):
            return  # damaged: nothing but zeros is left to read
        for column in range(columns):
            y, x = row + 2, column + 2
            around[0] = plane[y, x - 1]
            around[1] = plane[y - 1, x]
            around[2] = plane[y - 1, x - 1]
            around[3] = plane[y - 1, x + 1]
            if is_chroma:
                if own == 2:
                    around[4] = blue[y, x]
                for n in range(4):
                    below, right = min(n // 2, ratio[0] - 1), min(n % 2, ratio[1] - 1)
                    luma_y = min(ratio[0] * row + below + 2, last_row)
                    luma_x = min(ratio[1] * column + right + 2, last_column)
                    around[5 + n] = luma[luma_y, luma_x]
            else:
                around[4] = plane[y, x - 2]
                around[5] = plane[y - 2, x]
            start[:] = base
            if column == 0:
                start += net.kinds[0]
            if row == 0:
                start += net.kinds[1]
            if column == columns - 1:
                start += net.kinds[2]
            if row == rows - 1:
                start += net.kinds[3]
            _code_block(net, state, data, start, around, steps, steps_around, plane[y, x], room)


@compiled
def code_symbols(state, data, probabilities, least, symbols):
    """Codes a symbol of each of B streams, as the decisions of a binary tree over the alphabet.

    Args:
        state, data: as of `code`.
        probabilities: float32 [B, A]: of the symbols; A is 2..256. Whatever is no number above zero
            counts as none.
        least: what is added to each probability, in 65536ths: 1..
        symbols: int32 [B], 0..A-1; filled where the coder reads.
    """
    alphabet = probabilities.shape[1]
    shares = np.zeros(alphabet, np.int64)
    for stream in range(probabilities.shape[0]):
        total = np.int64(0)
        for symbol in range(alphabet):
            chance = probabilities[stream, symbol]
            shares[symbol] = least
            if chance > 0:
                shares[symbol] += np.int64(min(chance, np.float32(1)) * np.float32(65536))
            total += shares[symbol]
        low, high = 0, alphabet
        while high - low > 1:
            middle = (low + high) >> 1
            upper = np.int64(0)
            for symbol in range(middle, high):
                upper += shares[symbol]
            one = min(max((upper << 16) // total, 1), 65535)
            if code(state, data, one, symbols[stream] >= middle):
                low, total = middle, upper
            else:
                high, total = middle, total - upper
        symbols[stream] = low
