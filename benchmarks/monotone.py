"""Do bytes and PSNR (or SSIMULACRA2) rise with quality on every image? Prints the exceptions.

python benchmarks/monotone.py --model=default --step=1 IMAGES...
"""

import sys

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "default", "a name in saved_models, or a folder")
flags.DEFINE_integer("step", 1, "of the quality")
flags.DEFINE_enum("metric", "psnr", ["psnr", "ssimulacra2"], "that is to rise")
flags.DEFINE_float("tolerance", 0.05, "dB, or points, that it may fall by between qualities")


def main(arguments):
    from cnn_compression import images, load
    from cnn_compression.training.data import list_images
    from cnn_compression.training.evaluation import MEASURES, code

    codec, exceptions = load(FLAGS.model), 0
    qualities = range(1, 101, FLAGS.step)
    files = list_images(arguments[1:])
    for number, file in enumerate(files):
        image = images.read(file, (255, 255, 255))[0]
        last = None
        for quality in qualities:
            coded = code(codec, image, quality)
            worth = float(MEASURES[FLAGS.metric](image, coded.image_hat))
            point = len(coded.payload), worth
            if last and (point[0] < last[0] or point[1] < last[1] - FLAGS.tolerance):
                exceptions += 1
                print(f"{file.name}, quality {quality}: {last} -> {point}", flush=True)
            last = point
        print(f"{number + 1} of {len(files)}", end="\r", file=sys.stderr)
    print(f"{exceptions} exceptions on {len(files)} images at {len(qualities)} qualities")


if __name__ == "__main__":
    app.run(main)
