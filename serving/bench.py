"""How fast a server of the model is, what it takes to start, and whether it holds out.

    python -m cnn_compression.serving.bench                  # the table of README.md
    python -m cnn_compression.serving.bench --gathered       # whether items go better together
    python -m cnn_compression.serving.bench --soak=2000      # so many requests, a tenth of it bad
    python -m cnn_compression.serving.bench --memory=1500    # so many sizes without a server
    python -m cnn_compression.serving.bench --startup        # loading and first calls

Without --rest and --grpc, host:port both, a `tensorflow_model_server` from the PATH is started in a
process of its own, with --batching as well as without, or else `cnn-compression serve`. Pictures
are photographs of scikit-image's.
"""

import contextlib
import ctypes
import functools
import gc
import itertools
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import app, flags

from cnn_compression.codec.model_files import find_model
from cnn_compression.serving.bench_server import (
    UNKNOWN,
    Server,
    resident,
    started,
    tensorflow_serving,
)
from cnn_compression.serving.bench_startup import startup
from cnn_compression.serving.client import ItemError

FLAGS = flags.FLAGS
flags.DEFINE_string("saved_model", None, "folder of a version, in place of the one that ships")
flags.DEFINE_string("rest", None, "host:port of a server that runs already")
flags.DEFINE_string("grpc", None, "host:port of its gRPC")
flags.DEFINE_string("model", "default", "what that server calls the model")
flags.DEFINE_bool("batching", False, "start tensorflow_model_server with batching")
flags.DEFINE_float("seconds", 10, "to measure each row for")
flags.DEFINE_bool("gathered", None, "a table of 16 items at once, apart and together")
flags.DEFINE_integer("soak", None, "requests of an endurance run", 1)
flags.DEFINE_integer("memory", None, "sizes that the codec and the SavedModel see in process", 2)
flags.DEFINE_integer("soak_side", 600, "largest side of these two's pictures", 16)
flags.DEFINE_bool("startup", None, "a table of what it takes to start")
flags.DEFINE_enum("one", None, ["codec", "SavedModel"], "--memory of this, in this process")
flags.mark_flags_as_mutual_exclusive(["gathered", "soak", "memory", "startup"])

QUALITY = 50
# Height and width of the pictures: the first alone, and all mixed.
SIZES = ((512, 768), (300, 400), (640, 960), (200, 200))
SMALLEST = 16  # side of pictures of random sizes
SETTLED = 300  # pictures after which what is made once has been made, and growth is growth
SEED = 1


def saved_model():
    """`Path` of the version that is measured."""
    # .../<version>/assets.extra/model.json
    return Path(FLAGS.saved_model or find_model("default").parents[1]).resolve()


def png(image):
    import tensorflow as tf

    return tf.io.encode_png(image).numpy()


def scenes():
    """PNG files of photographs, one of each size, and how many pixels they have."""
    import tensorflow as tf
    from skimage import data

    photos = itertools.cycle([data.astronaut(), data.coffee(), data.chelsea()])
    files = []
    for size, photo in zip(SIZES, photos, strict=False):
        files.append(png(tf.cast(tf.round(tf.image.resize(photo, size, "area")), tf.uint8)))
    return files, [height * width for height, width in SIZES]


class Crops:
    """Photographs' crops of random sizes.

    Args:
        side: the largest, in pixels.
    """

    def __init__(self, side):
        from skimage import data

        self._side = side
        self._photos = []
        for photo in (data.astronaut(), data.coffee(), data.chelsea()):
            more = [(0, max(side - length, 0)) for length in photo.shape[:2]]
            self._photos.append(np.pad(photo, [*more, (0, 0)], "symmetric"))

    def draw(self, rng):
        """uint8 `[H, W, 3]`."""
        photo = self._photos[rng.integers(len(self._photos))]
        height, width = rng.integers(SMALLEST, self._side + 1, 2)
        y, x = rng.integers(photo.shape[0] - height + 1), rng.integers(photo.shape[1] - width + 1)
        return photo[y : y + height, x : x + width].copy()


def server():
    """The `Server` that runs already, or one that runs until the end of a `with`."""
    if FLAGS.rest:
        given = Server(f"http://{FLAGS.rest}", f"grpc://{FLAGS.grpc}", FLAGS.model)
        return contextlib.nullcontext(given)
    return started(saved_model(), FLAGS.batching)


def measured(call, count, clients):
    """Calls `call(number)` from so many threads: latencies, seconds, and how long it all took."""
    for number in range(count):
        call(number)  # each size is slower at first
    end = time.perf_counter() + FLAGS.seconds

    def client(first):
        latencies = []
        for number in itertools.count(first):
            start = time.perf_counter()
            if start > end and latencies:
                return latencies
            call(number % count)
            latencies.append(time.perf_counter() - start)

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        latencies = list(itertools.chain(*threads.map(client, range(clients))))
    return np.array(latencies), time.perf_counter() - start


def in_process():
    """Signatures of the SavedModel without a server: `encode` and `decode`."""
    import tensorflow as tf

    signatures = tf.saved_model.load(str(saved_model())).signatures
    encode, decode = signatures["encode"], signatures["decode"]

    def payload(file, quality):
        inputs = {"image_bytes": tf.constant([file]), "quality": tf.constant([quality])}
        return encode(**inputs)["payload_bytes"]

    return payload, lambda payloads: decode(payload_bytes=payloads)["image_bytes"].numpy()


def by_server(client, files, items):
    """Signature's name to a function of a request's number: so many items, from there on."""
    payloads = [client.encode(file, QUALITY) for file in files]

    def some(values, number):
        return [values[(number + item) % len(values)] for item in range(items)]

    quality = [QUALITY] * items
    return {
        "encode": lambda number: client.predict(
            "encode", {"image_bytes": some(files, number), "quality": quality}
        ),
        "decode": lambda number: client.predict(
            "decode", {"payload_bytes": some(payloads, number)}
        ),
    }


def heading(*cells):
    print(f"| | {' | '.join(cells)} |\n" + "|---" * (len(cells) + 1) + "|", flush=True)


def row(name, latencies, rates, percentiles, *more):
    times = (f"{1000 * value:.0f}" for value in np.percentile(latencies, percentiles))
    cells = [name, *(f"{rate:.2f}" for rate in rates), *times, *more]
    print(f"| {' | '.join(cells)} |", flush=True)


def mebibytes(memory):
    return "–" if np.isnan(memory) else f"{memory:.0f}"


def speed():
    """Prints a table of rates and latencies, and what the server adds to one request."""
    files, pixels = scenes()
    heading("requests/s", "Mpx/s", "p50, ms", "p95", "p99", "memory, MiB")

    def line(name, call, clients, sizes=1, items=1, memory=lambda: UNKNOWN):
        latencies, whole = measured(call, sizes, clients)
        rate = len(latencies) / whole
        rates = rate, 1e-6 * rate * items * np.mean(pixels[:sizes])
        row(name, latencies, rates, [50, 95, 99], mebibytes(memory()))
        return np.median(latencies)

    encode, decode = in_process()
    payloads = encode(files[0], QUALITY)
    alone = {
        "encode": line("encode, in-process", lambda _: encode(files[0], QUALITY), 1),
        "decode": line("decode, in-process", lambda _: decode(payloads), 1),
    }
    kinds = [("1 at once", 1, 1, 1), ("4 at once", 4, 1, 1), ("16 at once", 16, 1, 1)]
    kinds += [("4 at once, 4 items a request", 4, 1, 4)]
    kinds += [("4 at once, mixed sizes", 4, len(SIZES), 1)]
    added = []
    for transport, (kind, clients, sizes, items) in itertools.product(("rest", "grpc"), kinds):
        with server() as serving, serving.client(transport) as client:
            for name, call in by_server(client, files[:sizes], items).items():
                label = f"{name}, {transport}, {kind}"
                most = functools.partial(serving.memory, "VmHWM")
                median = line(label, call, clients, sizes, items, most)
                if clients == 1:
                    more = median / alone[name] - 1
                    added.append(f"{name}, {transport}: {more:+.1%} against in-process")
    print("", *added, sep="\n")


def gathered():
    """Prints a table of 16 items at once, in requests of 1, 4 and 16 of them.

    With a server that does not batch, the most that its batching could buy: a batch that was
    gathered beforehand, without the wait for it.
    """
    files, pixels = scenes()
    heading("items/s", "Mpx/s", "p50 of a request, ms", "p95")
    kinds = itertools.product([("768 x 512", 1), ("mixed sizes", len(SIZES))], [1, 4, 16])
    with server() as serving, serving.client("grpc") as client:
        for (size, sizes), items in kinds:
            for name, call in by_server(client, files[:sizes], items).items():
                latencies, whole = measured(call, max(sizes // items, 1), 16 // items)
                rate = items * len(latencies) / whole
                label = f"{name}, {size}, {16 // items} at once of {items}"
                rates = rate, 1e-6 * rate * np.mean(pixels[:sizes])
                row(label, latencies, rates, [50, 95])


class Soak:
    """Two pictures of random sizes at a time, out by a request and back by another.

    Args:
        client: `Client`.
        visits: how often it will be called.
    """

    def __init__(self, client, visits):
        self._client, self._visits = client, visits
        self._crops = Crops(FLAGS.soak_side)
        self._payload = client.encode(png(self._crops.draw(np.random.default_rng(SEED))))

    def __call__(self, number):
        """Numbers of requests, of items, of good ones that failed and of bad ones that passed."""
        if number % 50 == 0:
            print(f"{2 * number} of {2 * self._visits} sizes", file=sys.stderr)
        rng = np.random.default_rng([SEED, number])
        items = [self._crops.draw(rng) for _ in range(2)]
        signature = rng.choice(["encode", "encode_pixels"])
        bad = [np.zeros((8, 8, 2), np.uint8), np.zeros((0, 8, 3), np.uint8)]
        if signature == "encode":
            items = [png(item) for item in items]
            bad = [b"", b"no picture", items[0][:-50], self._payload[:-5]]
        settings = {"quality": int(rng.integers(1, 101))}
        payloads, there = self._ask(rng, signature, items, bad, settings)
        if not payloads:
            return there
        signature = rng.choice(["decode", "decode_pixels", "info"])
        bad = [b"", b"no picture", payloads[0][:-5], payloads[0] + b"!"]
        return there + self._ask(rng, signature, payloads, bad, {})[1]

    def _ask(self, rng, signature, items, bad, settings):
        """What good items came to, and the numbers; some bad items come along."""
        items, place = list(items), None
        if rng.random() < 2 / 9:  # a tenth of all is bad then, and no size is left out
            place = int(rng.integers(len(items) + 1))
            items.insert(place, bad[rng.integers(len(bad))])
        results = list(self._client.map(signature, items, len(items), 1, **settings))
        passed = place is not None and not isinstance(results.pop(place), ItemError)
        good = [result for result in results if not isinstance(result, ItemError)]
        return good, np.array([1, len(items), len(results) - len(good), passed])


def soak(requests):
    """Mixed requests from four clients. Says what failed, and memory, while nothing runs."""
    visits = -(-requests // 2)
    first = min(SETTLED, visits) // 2
    with (
        server() as serving,
        serving.client() as client,
        ThreadPoolExecutor(4) as threads,
    ):
        visit = Soak(client, visits)
        outcomes = list(threads.map(visit, range(first)))
        before = serving.memory("VmRSS")
        outcomes += threads.map(visit, range(first, visits))
        after = serving.memory("VmRSS")
    requests, items, failed, passed = np.sum(outcomes, axis=0)
    print(f"{items} items in {requests} requests, sides {SMALLEST} to {FLAGS.soak_side}")
    print(f"good items that failed: {failed}")
    print(f"bad items that passed: {passed}")
    print(f"memory after {2 * first} sizes, MiB: {mebibytes(before)}")
    print(f"memory after {2 * visits} sizes, MiB: {mebibytes(after)}")
    print(f"growth, MiB: {mebibytes(after - before)}")


def memory(sizes):
    """Prints a table: resident MiB after so many sizes, each encoded and decoded in one process."""
    first = min(SETTLED, sizes // 2)
    marks = sorted({first, *(m for n in range(1, 11) if (m := sizes * n // 10) > first)})
    if FLAGS.one:
        memory_of(FLAGS.one, marks)
        return
    heading(*(f"{mark}" for mark in marks), f"growth from {first} on")
    for name in ("codec", "SavedModel"):
        command = [sys.executable, "-m", "cnn_compression.serving.bench", *sys.argv[1:]]
        subprocess.run([*command, f"--one={name}"], check=True)


def memory_of(name, marks):
    """Prints the row of the codec or of the SavedModel."""
    call = {"codec": codec_pass, "SavedModel": saved_model_pass}[name]()
    rng, crops, readings = np.random.default_rng(SEED), Crops(FLAGS.soak_side), []
    print(f"| {name} |", end="", flush=True)
    for number in range(1, marks[-1] + 1):
        call(crops.draw(rng), int(rng.integers(1, 101)))
        if number in marks:
            give_back()
            readings.append(resident("self", "VmRSS"))
            print(f" {mebibytes(readings[-1])} |", end="", flush=True)
    print(f" {mebibytes(readings[-1] - readings[0])} |", flush=True)


def codec_pass():
    from cnn_compression import load

    codec = load(saved_model())
    return lambda picture, quality: codec.decode(codec.encode(picture, quality))


def saved_model_pass():
    encode, decode = in_process()
    return lambda picture, quality: decode(encode(png(picture), quality))


def give_back():
    """What is free goes back to the system: what stays is held."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):  # glibc's
        library.malloc_trim(0)


def main(_):
    if (FLAGS.rest is None) != (FLAGS.grpc is None):
        raise app.UsageError(f"expected --rest and --grpc. Received: {FLAGS.rest or FLAGS.grpc}")
    if FLAGS.batching and (FLAGS.rest or not tensorflow_serving()):
        received = "--rest" if FLAGS.rest else "none"
        raise app.UsageError(
            f"--batching: expected a tensorflow_model_server on the PATH. Received: {received}"
        )
    if FLAGS.startup:
        startup(saved_model())
    elif FLAGS.memory:
        memory(FLAGS.memory)
    elif FLAGS.soak:
        soak(FLAGS.soak)
    elif FLAGS.gathered:
        gathered()
    else:
        speed()


if __name__ == "__main__":
    app.run(main)
