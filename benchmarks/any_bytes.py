"""Any bytes packed, beside gzip -9, xz -9 and zstd -19.

    python benchmarks/any_bytes.py --trials
    python benchmarks/any_bytes.py [--methods=online,deepzip] [--only=text,xor] [FILES...]

Without files: the text that Python keeps of its language, `pydoc_data/topics.py`, and the stream of
DeepZip's paper, 0s and 1s each of which is the last one XOR the one 20 back, as characters. Seconds
are those that pass and, in brackets, those of the cores; packing has the comparison in it. zstd is
left out where the package `zstandard` is not there.
"""

import functools
import gzip
import lzma
import time
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
from absl import app, flags

from cnn_compression.packing import any_bytes

FLAGS = flags.FLAGS
flags.DEFINE_list("methods", "online,deepzip", "of packing")
flags.DEFINE_integer("xor", 1_000_000, "symbols of the XOR stream")
flags.DEFINE_bool("trials", False, "what online's parts are worth, on 100,000 bytes of the text")
flags.DEFINE_list("only", "text,xor", "without files: which of the two")


def xor_stream(size, back=20):
    stream = np.random.default_rng(0).integers(0, 2, back).tolist()
    while len(stream) < size:
        stream.append(stream[-1] ^ stream[-back])
    return bytes(48 + symbol for symbol in stream)


def inputs(files):
    if files:
        return {Path(file).name: Path(file).read_bytes() for file in files}
    import pydoc_data.topics

    makers = {
        "text": lambda: ("topics.py", Path(pydoc_data.topics.__file__).read_bytes()),
        "xor": lambda: ("XOR-20", xor_stream(FLAGS.xor)),
    }
    return dict(makers[name]() for name in FLAGS.only)


def rivals():
    yield "gzip -9", lambda data: gzip.compress(data, 9), gzip.decompress
    yield "xz -9", lambda data: lzma.compress(data, preset=9), lzma.decompress
    try:
        import zstandard
    except ImportError:
        return
    yield (
        "zstd -19",
        zstandard.ZstdCompressor(level=19).compress,
        zstandard.ZstdDecompressor().decompress,
    )


def trials():
    """What others than the online network of today make of the start of the text."""
    from cnn_compression.packing import byte_networks, counts

    data = inputs([])["topics.py"][:100_000]
    nothing = {"look_up": lambda contexts, upper: 0 * look_up(contexts, upper)}
    look_up = counts.Contexts.look_up
    print("| network | bytes | pack without comparing, s (CPU) |")
    print("|---|---|---|")
    for name, sizes, streams, patches in [
        ("of today: 32 units, GRU of 64, 64 streams", {}, 64, {}),
        ("64 units", {"units": 64}, 64, {}),
        ("GRU of 128", {"recurrent": 128}, 64, {}),
        ("GRU of 1", {"recurrent": 1}, 64, {}),
        ("no counts, GRU of 256", {"recurrent": 256}, 64, nothing),
        ("32 streams", {}, 32, {}),
        ("16 streams", {}, 16, {}),
    ]:
        make = functools.partial(byte_networks.Online, **sizes)
        with (
            mock.patch.object(byte_networks, "online", make),
            mock.patch.object(any_bytes, "_MOST_STREAMS", streams),
            mock.patch.multiple(counts.Contexts, **patches) if patches else nullcontext(),
        ):
            packed, seconds = timed(any_bytes._pack_online, data, any_bytes._silent)
        print(f"| {name} | {len(packed)} | {seconds} |", flush=True)


def main(arguments):
    if FLAGS.trials:
        trials()
        return
    coders = list(rivals())
    for method in FLAGS.methods:
        pack = functools.partial(any_bytes.pack, method=method)
        coders.append((method, pack, any_bytes.unpack))
    print("| file | by | bytes | of the file's | of gzip's | pack, s (CPU) | unpack, s (CPU) |")
    print("|---|---|---|---|---|---|---|")
    for name, data in inputs(arguments[1:]).items():
        first = None
        for coder, pack, unpack in coders:
            packed, packing = timed(pack, data)
            again, unpacking = timed(unpack, packed)
            if again != data:
                raise ValueError(f"{name} did not come back from {coder}")
            first = first or len(packed)
            shares = [f"{100 * len(packed) / of:.2f} %" for of in (len(data), first)]
            row = [f"{name}, {len(data)}", coder, str(len(packed)), *shares, packing, unpacking]
            print("|", " | ".join(row), "|", flush=True)


def timed(function, *arguments):
    """What a function gives, and the seconds that passed, and those of the processor's cores."""
    start = time.perf_counter(), time.process_time()
    result = function(*arguments)
    passed, worked = time.perf_counter() - start[0], time.process_time() - start[1]
    return result, f"{passed:.1f} ({worked:.1f})"


if __name__ == "__main__":
    app.run(main)
