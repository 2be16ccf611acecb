"""How much packing takes off payloads, and how fast it is.

    python benchmarks/packing.py [--qualities=5,..,100] [--model=default] FILES...

Every packed file is unpacked and compared. Seconds are those that pass, for packing with that
comparison in it; megapixels are the original's.
"""

import time
from pathlib import Path

import numpy as np
from absl import app, flags

import cnn_compression
from cnn_compression import images
from cnn_compression.files import find_files, is_image_name

FLAGS = flags.FLAGS
flags.DEFINE_list("qualities", "5,15,25,35,45,55,65,75,90,95,98,100", "of the payloads")
flags.DEFINE_string("model", "default", "name in saved_models, or a folder")


def main(arguments):
    codec = cnn_compression.load(FLAGS.model)
    files = find_files(arguments[1:], is_image_name)
    originals = [images.read(Path(file))[0] for file in files]
    codec.unpack(codec.pack(codec.encode(originals[0], 50)))  # compiles
    print("| quality | payload, bytes | packed | ratio | pack, Mpx/s | unpack, Mpx/s |")
    print("|---|---|---|---|---|---|")
    for quality in map(int, FLAGS.qualities):
        sizes, seconds = [], np.zeros(2)
        for image in originals:
            payload = codec.encode(image, quality)
            start = time.perf_counter()
            packed = codec.pack(payload)
            middle = time.perf_counter()
            if codec.unpack(packed) != payload:
                raise ValueError("a payload did not come back")
            seconds += middle - start, time.perf_counter() - middle
            sizes.append((len(payload), len(packed)))
        sizes = np.array(sizes)
        pixels = sum(image.shape[0] * image.shape[1] for image in originals) / 1e6
        means = [f"{mean:.0f}" for mean in sizes.mean(0)]
        ratio = f"{(sizes[:, 1] / sizes[:, 0]).mean():.3f}"
        rates = [f"{pixels / each:.2f}" for each in seconds]
        print("|", " | ".join([str(quality), *means, ratio, *rates]), "|", flush=True)


if __name__ == "__main__":
    app.run(main)
