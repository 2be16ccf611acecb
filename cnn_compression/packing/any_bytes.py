"""Any bytes -> packed -> the same bytes, by a network that foresees the next symbol.

`online` is NNCP's way (Bellard, *Lossless Data Compression with Neural Networks*, 2019): the network
learns from each symbol right after it was coded, and whoever unpacks trains it just so; nothing of it
is stored. `deepzip` (Goyal et al., *DeepZip*, 1811.08162) trains a network on the file first, and
stores it with the file.

A file of n bytes is cut into B streams of ceil(n / B), which are coded side by side: of each one
symbol, then of each the next. One function codes both ways, on batches of the same shape.

The networks compute with floats. What is packed comes back on the same machine, with the same build
of TensorFlow; where floats come out otherwise, the checksum says so. (Packing of JPEGs, whose network
is of integers, has no such limit.)

DeepZip's network, deflated (RFC 1950): 32 bytes, a bit for each byte that the file has, the lowest
first; one byte e; all weights, a signed byte each, in units of 2^-e. An alphabet has at least two
symbols: of a file of one byte's value the other is that with the lowest bit changed.
"""

import contextlib
import zlib
from collections.abc import Callable

import numpy as np

from cnn_compression.packing import bytes_layout, counts, kernels, range_coder
from cnn_compression.packing.bytes_layout import DEEPZIP, METHODS, ONLINE, STORED
from cnn_compression.packing.layout import PackedError, leb128, read_leb128
from cnn_compression.process import check_not_forked, start_tensorflow

Report = Callable[[str, int, int], None]  # what is being done, how much of it is, of how much

_ASTRAY = (
    "damaged, or packed where floats come out otherwise: the checksum does not match. What online "
    "and deepzip pack comes back on the same machine with the same build of TensorFlow"
)
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
    try:
        coded = _PACK[number](data, report) if data else b""
        packed = bytes_layout.write(number, data, coded)
    except OverflowError:
        return stored
    if not data or len(packed) >= len(stored):
        return stored
    if _unpacked(packed, "comparing", report) != data:
        raise PackedError("these bytes would not come back: floats do not repeat here")
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
    """The module of the networks, which takes seconds to import; they are made on the processor."""
    check_not_forked()
    start_tensorflow()
    import tensorflow as tf

    from cnn_compression.packing import byte_networks

    with tf.device("/CPU:0"):
        yield byte_networks


def _laid_out(data, streams, before):
    """Streams with room for what stands before them: [B, before + L] of data [n]."""
    length = -(-len(data) // streams)
    padded = np.pad(data, (0, streams * length - len(data)))
    return np.pad(padded.reshape(streams, length), ((0, 0), (before, 0)))


def _steps(history, before, size, coder, doing, report):
    """Goes along the streams: yields the place in `history`, and how many streams reach so far."""
    length = history.shape[1] - before
    for done in range(length):
        state, coded = coder
        if state[kernels.READS] and range_coder.is_beyond(state, coded):
            raise PackedError(_ASTRAY)
        if not done % 64:
            report(doing, done, length)
        yield before + done, -(-(size - done) // length)
    report(doing, length, length)


def _code_symbols(coder, chances, symbols, reach):
    """Codes the symbols, int32 [B], of the first streams: of probabilities float32 [B, A]."""
    # Nothing is so sure as to cost nothing: so the coded bits bound how many symbols they hold.
    least = max(1, 32 // chances.shape[1])
    kernels.code_symbols(*coder, chances[:reach], least, symbols[:reach])


# Online.


def _pack_online(data, report):
    data = np.frombuffer(data, np.uint8)
    coder = range_coder.writer(len(data))
    _code_online(data, coder, "coding", report)
    return range_coder.finish(*coder)


def _unpack_online(coded, size, doing, report):
    coder = range_coder.reader(coded)
    return _code_online(np.zeros(size, np.uint8), coder, doing, report), coder


def _code_online(data, coder, doing, report):
    """Codes bytes uint8 [n]; returns them, or what the coder reads in their place."""
    streams = min(max(len(data) // 512, 1), 32)
    history = _laid_out(data, streams, counts.LONGEST)
    contexts = counts.Contexts(streams, len(data))
    with _networks() as networks:
        network = networks.Online(streams)
        for at, reach in _steps(history, counts.LONGEST, len(data), coder, doing, report):
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
    return history[:, counts.LONGEST :].reshape(-1)[: len(data)]


# DeepZip.


def _pack_deepzip(data, report):
    alphabet, symbols = np.unique(np.frombuffer(data, np.uint8), return_inverse=True)
    if len(alphabet) == 1:
        symbols = symbols + (alphabet[0] & 1)
        alphabet = np.array([alphabet[0] & 254, alphabet[0] | 1], np.uint8)
    symbols = symbols.astype(np.int32)
    with _networks() as networks:
        network = networks.DeepZip(len(alphabet))
        network.train(symbols, report)
        stored = _stored_network(network, alphabet, symbols)
    coder = range_coder.writer(len(data))
    _code_deepzip(symbols, stored, coder, "coding", report)
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
    symbols = _code_deepzip(np.zeros(size, np.int32), stored, coder, doing, report)
    return _read_network(stored)[0].astype(np.uint8)[symbols], coder


def _code_deepzip(symbols, stored, coder, doing, report):
    """Codes symbols int32 [n]; returns them, or what the coder reads in their place."""
    streams = min(max(len(symbols) // 16384, 1), 64)
    alphabet, whole, fineness = _read_network(stored)
    with _networks() as networks:
        before = networks.WINDOW
        history = _laid_out(symbols, streams, before)
        network = networks.DeepZip(len(alphabet))
        if network.count_params() != len(whole) or fineness not in _FINENESS:
            raise PackedError("damaged: its network is none that is written")
        _fill(network, whole, fineness)
        for at, reach in _steps(history, before, len(symbols), coder, doing, report):
            chances = network.predict_symbols(history[:, at - before : at]).numpy()
            coming = history[:, at].copy()
            _code_symbols(coder, chances, coming, reach)
            history[:, at] = coming
    return history[:, before:].reshape(-1)[: len(symbols)]


_PACK = {ONLINE: _pack_online, DEEPZIP: _pack_deepzip}
_UNPACK = {ONLINE: _unpack_online, DEEPZIP: _unpack_deepzip}
