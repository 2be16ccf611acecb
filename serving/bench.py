"""How fast a server of the model is, and whether it holds out.

    python -m cnn_compression.serving.bench                  # the tables of README.md
    python -m cnn_compression.serving.bench --soak=2000      # so many requests, a tenth of it bad

Without --rest and --grpc, host:port both, `cnn-compression serve` is started in a process of its
own. Pictures are photographs of scikit-image's; memory is the largest resident size of the server.
"""

import contextlib
import itertools
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import app, flags

from cnn_compression.model_files import find_model
from cnn_compression.serving.client import Client, ItemError

FLAGS = flags.FLAGS
flags.DEFINE_string("rest", None, "host:port of a server that runs already")
flags.DEFINE_string("grpc", None, "host:port of its gRPC")
flags.DEFINE_string("model", "default", "what that server calls the model")
flags.DEFINE_float("seconds", 10, "to measure each row for")
flags.DEFINE_integer("soak", 0, "requests of an endurance run in place of the tables")

QUALITY = 50
# Height and width of the pictures: the first alone, and all mixed.
SIZES = ((512, 768), (300, 400), (640, 960), (200, 200))
UNKNOWN = float("nan")


def scenes():
    """PNG files of photographs, one of each size, and how many pixels they have."""
    import tensorflow as tf
    from skimage import data

    photos = itertools.cycle([data.astronaut(), data.coffee(), data.chelsea()])
    files = []
    for size, photo in zip(SIZES, photos, strict=False):
        image = tf.cast(tf.round(tf.image.resize(photo, size, "area")), tf.uint8)
        files.append(tf.io.encode_png(image).numpy())
    return files, [height * width for height, width in SIZES]


class Started:
    """A local server in a process of its own.

    Attributes:
        rest, grpc: addresses for `Client`.
    """

    def __init__(self):
        command = [sys.executable, "-m", "cnn_compression", "serve"]
        command += ["--port=0", "--rest_api_port=0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.rest = re.search(r"http://\S+", self._process.stdout.readline())[0]
        self.grpc = "grpc://" + re.search(r"\S+:\d+", self._process.stdout.readline())[0]

    def memory(self, which):
        """MiB of the process: `VmRSS` now, `VmHWM` at most; NaN where there is no /proc."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return UNKNOWN
        return int(re.search(rf"{which}:\s+(\d+) kB", status)[1]) / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


class Given:
    """A server that runs already, somewhere."""

    def __init__(self):
        self.rest, self.grpc = FLAGS.rest, f"grpc://{FLAGS.grpc}"

    def memory(self, which):
        return UNKNOWN


def server():
    return contextlib.nullcontext(Given()) if FLAGS.rest and FLAGS.grpc else Started()


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


def in_process(file):
    """Signature's name to a function that calls the SavedModel without a server."""
    import tensorflow as tf

    model = tf.saved_model.load(str(find_model("default").parents[1]))
    encode, decode = model.signatures["encode"], model.signatures["decode"]
    quality = tf.constant([QUALITY])
    payloads = encode(image_bytes=tf.constant([file]), quality=quality)["payload_bytes"]
    return {
        "encode": lambda _: encode(image_bytes=tf.constant([file]), quality=quality),
        "decode": lambda _: decode(payload_bytes=payloads),
    }


def by_server(client, files, items):
    """The same through a server, with so many items in a request."""
    payloads = [client.encode(file, QUALITY) for file in files]
    quality = [QUALITY] * items
    return {
        "encode": lambda n: client.predict(
            "encode", {"image_bytes": [files[n]] * items, "quality": quality}
        ),
        "decode": lambda n: client.predict("decode", {"payload_bytes": [payloads[n]] * items}),
    }


def row(name, latencies, whole, pixels, memory=UNKNOWN):
    rate = len(latencies) / whole
    times = (f"{1000 * value:.0f}" for value in np.percentile(latencies, [50, 95, 99]))
    memory = "–" if np.isnan(memory) else f"{memory:.0f}"
    cells = [name, f"{rate:.2f}", f"{1e-6 * rate * pixels:.2f}", *times, memory]
    print(f"| {' | '.join(cells)} |", flush=True)


def speed():
    """Prints a table of rates and latencies, and what the server adds to one request."""
    files, pixels = scenes()
    print("| | requests/s | Mpx/s | p50, ms | p95 | p99 | memory, MiB |\n" + "|---" * 7 + "|")
    alone = {}
    for name, call in in_process(files[0]).items():
        latencies, whole = measured(call, 1, 1)
        alone[name] = np.median(latencies)
        row(f"{name}, in-process", latencies, whole, pixels[0])
    added = []
    kinds = [("", files[:1], 1), (", 4 items a request", files[:1], 4), (", mixed sizes", files, 1)]
    for transport, clients in itertools.product(("rest", "grpc"), (1, 4, 16)):
        for kind, chosen, items in kinds:
            with (
                server() as serving,
                Client(
                    getattr(serving, transport), FLAGS.model, timeout=900, attempts=9999
                ) as client,
            ):
                for name, call in by_server(client, chosen, items).items():
                    latencies, whole = measured(call, len(chosen), clients)
                    label = f"{name}, {transport}, {clients} at once{kind}"
                    mean = items * np.mean(pixels[: len(chosen)])
                    row(label, latencies, whole, mean, serving.memory("VmHWM"))
                    if clients == items == len(chosen):
                        more = np.median(latencies) / alone[name] - 1
                        added.append(f"{name}, {transport}: {more:+.1%} against in-process")
    print("", *added, sep="\n")


def soak(requests):
    """Mixed requests from four clients, a tenth of the items bad. Says what failed, and memory."""
    files, _ = scenes()
    random.seed(1)
    with (
        server() as serving,
        Client(serving.rest, FLAGS.model, timeout=900, attempts=9999) as client,
    ):
        payloads = [client.encode(file, QUALITY) for file in files[1:]]
        no_image = [b"", b"no picture", files[1][:-50], payloads[0][:-5]]
        no_payload = [*no_image, payloads[1] + b"!"]  # which is a picture still
        memory = []

        def request(number):
            signature = random.choice(["encode", "decode", "info"])
            good, bad = (files[1:], no_image) if signature == "encode" else (payloads, no_payload)
            items = [random.choice(bad if random.random() < 0.1 else good) for _ in range(2)]
            expected = [item in good for item in items]
            more = {"quality": random.randint(1, 100)} if signature == "encode" else {}
            results = list(client.map(signature, items, 2, 1, **more))
            memory.append(serving.memory("VmRSS"))
            if number % 50 == 0:
                print(f"{number} of {requests}", end="\r", file=sys.stderr)
            return [not isinstance(r, ItemError) for r in results], expected

        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(request, range(requests)))
    pairs = [pair for outcome in outcomes for pair in zip(*outcome, strict=True)]
    quarters = [np.mean(part) for part in np.array_split(memory, 4)]
    print(f"{len(pairs)} items in {requests} requests")
    print(f"good items that failed: {sum(fine and not served for served, fine in pairs)}")
    print(f"bad items that passed: {sum(served and not fine for served, fine in pairs)}")
    print(f"memory by quarters, MiB: {', '.join(f'{mean:.0f}' for mean in quarters)}")
    print(f"last against second: {quarters[3] / quarters[1] - 1:+.1%}")


def main(_):
    if FLAGS.soak:
        soak(FLAGS.soak)
    else:
        speed()


if __name__ == "__main__":
    app.run(main)
