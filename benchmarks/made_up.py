"""What a generative model makes up, beside the same networks trained for squared error alone.

    python benchmarks/made_up.py --output=runs/made_up --models=generative,runs/squared DATA/kodak

Prints means over the images: bits a pixel, how near pictures are to their originals, and how much
of the originals' fine detail they have, be it the right one or not. Writes `crops.png`, the same
square of each picture side by side, of the images whose stems `--crops` names.
"""

from pathlib import Path

import numpy as np
from absl import app, flags

from cnn_compression import files, images, load
from cnn_compression.benchmark import Latent, measure
from cnn_compression.benchmark.crops import sheet
from cnn_compression.benchmark.report import table
from cnn_compression.tensors.levels import to_unit
from cnn_compression.tensors.texture import texture_squares
from cnn_compression.training.data import list_images

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "folder for crops.png", required=True)
flags.DEFINE_list("models", "generative", "names in saved_models, or folders")
flags.DEFINE_list("crops", "01,05,13", "stems of the images to show")

MEASURES = ("bpp", "psnr", "ms_ssim", "ssimulacra2")


def detail(image):
    """The variance that goes where a picture is halved, and where that is halved again: two
    float, mean of the picture."""
    squares = texture_squares(to_unit(image[None]))
    return np.mean(squares, axis=(0, 1, 2))[:2]


def main(arguments):
    codecs = {name: Latent(load(name)) for name in FLAGS.models}
    seen, scenes = {name: [] for name in codecs}, []
    for file in list_images(arguments[1:]):
        image = images.read(file, (255, 255, 255))[0]
        codeds, whole = {}, detail(image)
        for name, codec in codecs.items():
            [codeds[name]] = measure(codec, file.stem, image, codec.qualities)
            kept = detail(codeds[name].image_hat) / whole
            seen[name].append([*(getattr(codeds[name].row, each) for each in MEASURES), *kept])
        if file.stem in FLAGS.crops:
            scenes.append((file.stem, image, codeds))
    heads = ["", "bpp", "PSNR, dB", "MS-SSIM", "SSIMULACRA2", "detail to 1/2", "to 1/4"]
    lines = []
    for name, values in seen.items():
        bpp, psnr, ms_ssim, ssimulacra2, *kept = np.mean(values, axis=0)
        numbers = (f"{bpp:.4f}", f"{psnr:.2f}", f"{ms_ssim:.4f}", f"{ssimulacra2:.1f}")
        lines.append([name, *numbers, *(f"{share:.3f}" for share in kept)])
    print("\n".join(table(heads, lines)))
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    files.write_atomically(output / "crops.png", sheet(scenes, target=0.1))


if __name__ == "__main__":
    app.run(main)
