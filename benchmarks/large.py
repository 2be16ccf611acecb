"""Time and memory of large images, each in a process of its own.

    python benchmarks/large.py [--model=default] [--quality=50] [--megapixels=0.4,4,24,100]

A photograph of scikit-image's is repeated, mirrored, until it is large enough. Memory is the
largest resident size of the process, with TensorFlow, the image and the payload in it.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "default", "a name in saved_models, or a folder")
flags.DEFINE_integer("quality", 50, "of the codec")
flags.DEFINE_list("megapixels", "0.4,4,24,100", "sizes of the images")
flags.DEFINE_string("one", None, "encode or decode: measures in this process, one size")


def picture(megapixels):
    """uint8 `[H, W, 3]`, 3:2."""
    from skimage import data

    photo = data.astronaut()
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(1.5 * height)
    tile = np.block([[[photo], [photo[:, ::-1]]], [[photo[::-1]], [photo[::-1, ::-1]]]])
    rows = np.resize(np.arange(tile.shape[0]), height)
    image = np.empty((height, width, 3), np.uint8)
    for row, source in enumerate(rows):
        image[row] = np.resize(tile[source], (width, 3))
    return image


def measure(verb, megapixels):
    """Prints Mpx/s, and GB."""
    from cnn_compression import load

    codec = load(FLAGS.model)
    small = picture(0.1)
    codec.decode(codec.encode(small, FLAGS.quality))  # traces the graphs
    if verb == "encode":
        image = picture(megapixels)
        start = time.perf_counter()
        codec.encode(image, FLAGS.quality)
    else:
        payload = sys.stdin.buffer.read()
        start = time.perf_counter()
        image = codec.decode(payload)
    seconds = time.perf_counter() - start
    # Not `getrusage`, whose peak is that of the process that started this one where that is larger.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    gigabytes = int(peak[1]) * 1024 / 1e9
    print(f"{1e-6 * image.shape[0] * image.shape[1] / seconds:.2f} {gigabytes:.2f}")


def main(_):
    if FLAGS.one:
        measure(FLAGS.one, float(FLAGS.megapixels[0]))
        return
    from cnn_compression import load

    codec = load(FLAGS.model)
    print("| Mpx | encode, Mpx/s | memory, GB | decode, Mpx/s | memory, GB |\n" + "|---" * 5 + "|")
    for size in FLAGS.megapixels:
        payload = codec.encode(picture(float(size)), FLAGS.quality)
        cells = []
        for verb in ("encode", "decode"):
            command = [sys.executable, __file__, f"--one={verb}", f"--megapixels={size}"]
            command += [f"--model={FLAGS.model}", f"--quality={FLAGS.quality}"]
            run = subprocess.run(command, input=payload, stdout=subprocess.PIPE, check=True)
            cells += run.stdout.decode().split()
        print(f"| {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
