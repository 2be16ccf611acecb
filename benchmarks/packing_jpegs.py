"""How much packing takes off JPEGs that are no payloads, beside Lepton, and how fast it is.

    pip install lepton-jpeg-python
    python benchmarks/packing_jpegs.py [--qualities=75,85,95] [--settings=NAME=VALUE,...] FILES...

The photographs are coded by Pillow, by default as it does: baseline, 4:2:0, T.81's Huffman tables;
--settings=progressive=1,subsampling=4:4:4 says otherwise. Every packed file is unpacked and
compared. Ratios are means over the files, of all bytes. Seconds are those that pass, for packing
with that comparison in it; those of CPU are of all cores, and say more where others use the machine
too. Megapixels are the photographs'. Without Lepton its columns are empty.
"""

import io
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

import cnn_compression
from cnn_compression import images
from cnn_compression.files import find_files, is_image_name

try:
    import lepton_jpeg_python as lepton
except ImportError:
    lepton = None

FLAGS = flags.FLAGS
flags.DEFINE_list("qualities", "75,85,95", "of the JPEGs")
flags.DEFINE_list("settings", "", "of Pillow's writer: NAME=VALUE,...")


def coded(image, quality):
    """A JPEG's bytes."""
    settings = dict(setting.split("=") for setting in FLAGS.settings)
    settings = {name: int(one) if one.isdigit() else one for name, one in settings.items()}
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality, **settings)
    return file.getvalue()


def clocks():
    """Seconds: those that pass, and those of CPU."""
    return time.perf_counter(), time.process_time()


def main(arguments):
    files = find_files(arguments[1:], is_image_name)
    photographs = [images.read(Path(file))[0] for file in files]
    pixels = sum(image.shape[0] * image.shape[1] for image in photographs) / 1e6
    cnn_compression.pack_jpeg(coded(photographs[0][:64, :64], 50))  # compiles
    print("| quality | JPEG, bytes | packed / JPEG | Lepton / JPEG | fewer, points "
          "| pack, Mpx/s | unpack, Mpx/s | pack, CPU s/Mpx | unpack |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for quality in map(int, FLAGS.qualities):
        sizes, seconds, of_cpu = [], np.zeros(2), np.zeros(2)
        for image in photographs:
            jpeg = coded(image, quality)
            start = clocks()
            packed = cnn_compression.pack_jpeg(jpeg)
            middle = clocks()
            if cnn_compression.unpack_jpeg(packed) != jpeg:
                raise ValueError("a JPEG did not come back")
            spent = np.diff([start, middle, clocks()], axis=0)
            seconds, of_cpu = seconds + spent[:, 0], of_cpu + spent[:, 1]
            beside = len(lepton.compress_bytes(jpeg)) if lepton else np.nan
            sizes.append((len(jpeg), len(packed), beside))
        sizes = np.array(sizes)
        ours, theirs = (sizes[:, 1:] / sizes[:, :1]).mean(0)
        row = [quality, f"{sizes[:, 0].mean():.0f}", f"{ours:.3f}"]
        row += [f"{theirs:.3f}", f"{100 * (theirs - ours):.1f}"] if lepton else ["", ""]
        row += [f"{pixels / each:.2f}" for each in seconds]
        row += [f"{each / pixels:.2f}" for each in of_cpu]
        print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    app.run(main)
