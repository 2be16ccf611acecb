"""The paper's networks with its authors' weights, on grey pictures.

    python benchmarks/paper.py --com=ComCNN_QF=50.mat --rec=RecCNN_QF=50.mat DATA/set5 ...

The weights are MATLAB files of MatConvNet networks (`cnn_compression.models.paper_weights`), which
SciPy reads (`pip install '.[bench]'`). Of colour pictures luma is taken. PSNR in dB, and SSIM, are
means over the images of a folder, of pictures in whole levels. With --output the model is kept in a
folder that `--model` takes.

What is expected of the weights for quality 50, PSNR / SSIM: Lena 33.11 / .8838, Set5 31.71 / .8869,
classic5 28.93 / .7968, Set14 28.56 / .8170.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags
from scipy.io import loadmat

from cnn_compression import Codec, images
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.paper_weights import set_com_weights, set_rec_weights
from cnn_compression.tensors import metrics
from cnn_compression.training.data import as_channels, list_images

FLAGS = flags.FLAGS
flags.DEFINE_string("com", None, "the ComCNN's file", required=True)
flags.DEFINE_string("rec", None, "the RecCNN's file", required=True)
flags.DEFINE_integer("quality", 50, "of the compact image's JPEG", 1, 100)
flags.DEFINE_string("output", None, "folder to keep the model in")


def load_pair(com_file, rec_file):
    """The `ComRec` of grey pictures with the weights of two files; see `read_mat`."""
    pair = ComRec.from_preset("paper", channels=1)
    set_com_weights(pair.com, read_mat(com_file))
    set_rec_weights(pair.rec, read_mat(rec_file))
    return pair


def read_mat(path):
    """The layers of a network in a MATLAB file of version 5 to 7: its `net.layers`.

    Raises:
        ValueError: where the file has none.
    """
    net = loadmat(path, simplify_cells=True).get("net")
    if not isinstance(net, dict) or "layers" not in net:
        raise ValueError(f"expected a MatConvNet network, net.layers. Received: {path}")
    return list(net["layers"])


def measure(codec, image, quality):
    """Bits a pixel, PSNR and SSIM of a grey picture."""
    payload = codec.encode(image, quality)
    image_hat = codec.decode(payload)
    bpp = metrics.bpp(len(payload.numpy()), *image.shape[:2])
    return [
        float(bpp),
        float(metrics.psnr(image, image_hat)),
        float(metrics.ssim(image, image_hat)),
    ]


def main(arguments):
    pair = load_pair(FLAGS.com, FLAGS.rec)
    if FLAGS.output:
        folder = Path(FLAGS.output)
        folder.mkdir(parents=True, exist_ok=True)
        pair.save(folder / "model.keras")
    codec = Codec(pair)
    print("| set | bpp | PSNR | SSIM |")
    print("|---" * 4 + "|")
    for folder in map(Path, arguments[1:]):
        rows = []
        for file in list_images([folder]):
            image = as_channels(tf.constant(images.read(file)[0]), 1)
            rows.append(measure(codec, image, FLAGS.quality))
        bpp, psnr, ssim = np.mean(rows, axis=0)
        print(f"| {folder.stem} | {bpp:.3f} | {psnr:.2f} | {ssim:.4f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
