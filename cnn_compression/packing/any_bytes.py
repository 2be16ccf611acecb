"""Any bytes -> packed -> the same bytes, by a network that foresees the next symbol.

`online` is NNCP's way (Bellard, *Lossless Data Compression with Neural Networks*, 2019): the
network learns from each symbol right after it was coded, and whoever unpacks trains it just so;
nothing of it is stored. `deepzip` (Goyal et al., *DeepZip*, 1811.08162) trains a network on the
file first, and stores it with the file.

A file of n bytes is cut into B streams of ceil(n / B), which are coded side by side: of each one
symbol, then of each the next. One function codes both ways, on batches of the same shape.

The networks compute with floats. What is packed comes back on the same machine, with the same
build of TensorFlow; where floats come out otherwise, the checksum says so. (Packing of JPEGs, whose
network is of integers, has no such limit.)

DeepZip's network, deflated (RFC 1950): 32 bytes, a bit for each byte that the file has, the lowest
first; one byte e; all weights, a signed byte each, in units of 2^-e. An alphabet has at least two
symbols: of a file of one byte's value the other is that with the lowest bit changed.
"""

import contextlib
import threading
import zlib
from collections.abc import Callable

import numpy as np

from cnn_compression.packing import bytes_layout, counts, kernels, range_coder
from cnn_compression.packing.bytes_layout import DEEPZIP, METHODS, ONLINE, STORED
from cnn_compression.packing.layout import PackedError, leb128, read_leb128
from cnn_compression.process import check_not_forked, start_tensorflow

Report = Callable[[str, int, int], None]  # what is being done, how much of it is, of how much

_coding = threading.Lock()
_MOST_STREAMS = 64
_WORTHWHILE = 32  # bytes: no fewer are tried
_ASTRAY = (
    "damaged, or packed where floats come out otherwise: the checksum does not match. What online "
    "and deepzip pack comes back on the same machine with the same build of TensorFlow"
)
_WEIGHTS_A_BYTE = 16  # that deflate leaves of a simple network, at best
_FINENESS = (2, 3, 4, 5)  # of weights: they are stored in units of 2^-fineness
_LARGEST_NETWORK = 1 << 20  # bytes, inflated
_WEIGHTS_START = 33


def pack(data: bytes, method: str = "online", report: Report | None = None) -> bytes:
    """Packs bytes.

    Args:
        data: any, none among them.
        method: "online" or "deepzip".
        report: is told how far it is.

    Returns:
        The packed bytes, which `unpack` was seen to turn into the same.

    Raises:
        PackedError: they would not come back: this machine's floats do not repeat.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}. Received: {method!r}")
    report = report or _silent
    data, number = bytes(data), METHODS[method]
    stored = bytes_layout.write(STORED, data, data)
    if len(data) < _WORTHWHILE:
        return stored
    try:
        packed = bytes_layout.write(number, data, _PACK[number](data, report))
    except OverflowError:
        return stored
    if len(packed) >= len(stored):
        return stored
    try:
        _unpacked(packed, "comparing", report)
    except PackedError as error:
        raise PackedError("these bytes would not come back: floats do not repeat here") from error
    return packed


def unpack(packed: bytes, report: Report | None = None) -> bytes:
    """The bytes that were packed.

    Raises:
        PackedError: they are damaged, or were packed where floats come out otherwise.
    """
    return _unpacked(packed, "unpacking", report or _silent)


def _unpacked(packed, doing, report):
    header, at = bytes_layout.read(packed)
    if header.method == STORED:
        data = packed[at:]
        if zlib.crc32(data) != header.checksum:
            raise PackedError("damaged: the checksum does not match")
        return data
    symbols, coder = _UNPACK[header.method](packed[at:], header.size, doing, report)
    data = symbols.tobytes()
    if not range_coder.is_finished(*coder) or zlib.crc32(data) != header.checksum:
        raise PackedError(_ASTRAY)
    return data


def _silent(doing, done, count):
    pass


@contextlib.contextmanager
def _networks():
    """The module of the networks, for one thread: they are shared, and made on the processor."""
    check_not_forked()
    start_tensorflow()
    import tensorflow as tf

    from cnn_compression.packing import byte_networks

    with _coding, tf.device("/CPU:0"):
        yield byte_networks


def _streams(symbols, size, streams, before):
    """uint8 [B, before + L] of symbols uint8 [n], or None; zeros before, and beyond their end."""
    length = -(-size // streams)
    # What is not written to takes no memory: where a header lies, decoding ends before.
    history = np.zeros((streams, before + length), np.uint8)
    for number in range(streams if symbols is not None else 0):
        own = symbols[number * length : (number + 1) * length]
        history[number, before : before + len(own)] = own
    return history


def _steps(history, before, size, coder, doing, report):
    """Goes along the streams: yields the place in `history`, and how many streams reach so far."""
    state, coded = coder
    length = history.shape[1] - before
    for done in range(length):
        if state[kernels.READS] and range_coder.is_beyond(state, coded):
            raise PackedError(_ASTRAY)
        if not done % 64:
            report(doing, done, length)
        yield before + done, -(-(size - done) // length)
    report(doing, length, length)


def least(symbols):
    """What is added to each of so many symbols' probabilities, in 65536ths.

    So nothing is so sure as to cost nothing, and coded bits bound how many symbols they hold.
    """
    return -(-32 // symbols)


def _code_symbols(coder, chances, symbols, reach):
    """Codes the symbols, int32 [B], of the first streams: of probabilities float32 [B, A]."""
    kernels.code_symbols(*coder, chances[:reach], least(chances.shape[1]), symbols[:reach])


# Online.


def _pack_online(data, report):
    data = np.frombuffer(data, np.uint8)
    coder = range_coder.writer(len(data))
    _code_online(data, len(data), coder, "coding", report)
    return range_coder.finish(*coder)


def _unpack_online(coded, size, doing, report):
    coder = range_coder.reader(coded)
    return _code_online(None, size, coder, doing, report), coder


def _code_online(data, size, coder, doing, report):
    """Codes bytes uint8 [n]; returns them, or where they are None what the coder reads."""
    streams = min(max(size // 512, 1), _MOST_STREAMS)
    history = _streams(data, size, streams, counts.LONGEST)
    contexts = counts.Contexts(streams, size)
    with _networks() as networks:
        network = networks.online(streams)
        network.restart()
        for at, reach in _steps(history, counts.LONGEST, size, coder, doing, report):
            contexts.move_to(history, at)
            last, byte = history[:, at - 1].astype(np.int32), history[:, at].astype(np.int32)
            upper, halves = np.zeros(streams, np.int32), (byte >> 4, byte & 15)
            for symbols in halves:
                inputs = contexts.look_up(upper), upper, last
                chances = network.predict_symbols(*inputs).numpy()
                _code_symbols(coder, chances, symbols, reach)
                network.learn(*inputs, symbols)
                contexts.count(symbols, reach)
                upper = 1 + symbols
            network.remember(last)
            history[:, at] = 16 * halves[0] + halves[1]
    return history[:, counts.LONGEST :].reshape(-1)[:size]


# DeepZip.


def _pack_deepzip(data, report):
    alphabet, symbols = np.unique(np.frombuffer(data, np.uint8), return_inverse=True)
    if len(alphabet) == 1:
        symbols = symbols + (alphabet[0] & 1)
        alphabet = np.array([alphabet[0] & 254, alphabet[0] | 1], np.uint8)
    symbols = symbols.astype(np.uint8)
    with _networks() as networks:
        network = networks.deepzip(len(alphabet))
        if len(data) < network.count_params() // _WEIGHTS_A_BYTE:
            raise OverflowError(f"the network needs more than {len(data)} bytes")
        network.restart()
        network.train(symbols, report)
        stored = _stored_network(network, alphabet, symbols)
    coder = range_coder.writer(len(data))
    _code_deepzip(symbols, len(data), stored, coder, "coding", report)
    return leb128(len(stored)) + stored + range_coder.finish(*coder)


def _stored_network(network, alphabet, symbols):
    """The network's bytes: of some units of its weights those with which the file gets smallest."""
    present = np.zeros(256, np.uint8)
    present[alphabet] = 1
    start = np.packbits(present, bitorder="little").tobytes()
    weights = np.concatenate([array.ravel() for array in network.get_weights()])
    candidates = []
    for fineness in _FINENESS:
        whole = np.clip(np.rint(weights * 2**fineness), -127, 127).astype(np.int8)
        stored = zlib.compress(start + bytes([fineness]) + whole.tobytes(), 9)
        _fill(network, whole, fineness)
        size = len(stored) + network.nats(symbols) * len(symbols) / np.log(256)
        candidates.append((size, stored))
    return min(candidates)[1]


def _read_network(stored):
    """What `_stored_network` wrote: the alphabet, the weights int8 and their fineness."""
    inflate = zlib.decompressobj()
    try:
        whole = inflate.decompress(stored, _LARGEST_NETWORK)
    except zlib.error:
        whole = b""
    if not inflate.eof or inflate.unused_data or len(whole) < _WEIGHTS_START:
        raise PackedError("damaged: its network cannot be read")
    present = np.unpackbits(np.frombuffer(whole[:32], np.uint8), bitorder="little")
    if present.sum() < 2:
        raise PackedError("damaged: its alphabet has fewer than two symbols")
    return np.flatnonzero(present), np.frombuffer(whole[_WEIGHTS_START:], np.int8), whole[32]


def _fill(network, whole, fineness):
    """Gives a network the weights that are stored: int8, in units of 2^-fineness."""
    arrays = []
    for array in network.get_weights():
        arrays.append(whole[: array.size].reshape(array.shape) / np.float32(2**fineness))
        whole = whole[array.size :]
    network.set_weights(arrays)


def _unpack_deepzip(coded, size, doing, report):
    length, at = read_leb128(coded, 0)
    stored, coder = coded[at : at + length], range_coder.reader(coded[at + length :])
    symbols = _code_deepzip(None, size, stored, coder, doing, report)
    return _read_network(stored)[0].astype(np.uint8)[symbols], coder


def _code_deepzip(symbols, size, stored, coder, doing, report):
    """Codes symbols uint8 [n]; returns them, or where they are None what the coder reads."""
    streams = min(max(size // 1024, 1), _MOST_STREAMS)
    alphabet, whole, fineness = _read_network(stored)
    with _networks() as networks:
        before = networks.WINDOW
        history = _streams(symbols, size, streams, before)
        network = networks.deepzip(len(alphabet))
        if network.count_params() != len(whole) or fineness not in _FINENESS:
            raise PackedError("damaged: its network is none that is written")
        _fill(network, whole, fineness)
        for at, reach in _steps(history, before, size, coder, doing, report):
            chances = network.predict_symbols(history[:, at - before : at].astype(np.int32))
            chances, coming = chances.numpy(), history[:, at].astype(np.int32)
            _code_symbols(coder, chances, coming, reach)
            history[:, at] = coming
    return history[:, before:].reshape(-1)[:size]


_PACK = {ONLINE: _pack_online, DEEPZIP: _pack_deepzip}
_UNPACK = {ONLINE: _unpack_online, DEEPZIP: _unpack_deepzip}
