"""A folder of photographs through the command line, beside the networks and JPEG alone.

    python benchmarks/folder.py [--model=default] [--count=500] [--quality=50]

PNG files of 512 x 768, cut from scikit-image's photographs. Alone means `Codec.encode` and
`Codec.decode` of what is in memory already, one after the other; both have been called before.
"""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags

from cnn_compression import cli, load

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "default", "a name in saved_models, or a folder")
flags.DEFINE_integer("count", 500, "photographs")
flags.DEFINE_integer("quality", 50, "of the codec")
SIZE = (512, 768)


def photographs():
    """uint8 `[512, 768, 3]`, all different."""
    from skimage import data

    scenes = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    random = np.random.default_rng(1)
    for number in range(FLAGS.count):
        scene = scenes[number % len(scenes)].astype(np.float32)
        large = tf.image.resize(scene, [700 + number % 60, 1000 + number % 80], "bicubic")
        top, left = random.integers(150), random.integers(200)
        yield np.uint8(np.clip(large[top : top + SIZE[0], left : left + SIZE[1]], 0, 255))


def seconds(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def by_command(*words):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if cli.main([*map(str, words), f"--model={FLAGS.model}"]):
            raise RuntimeError(said.getvalue())


def main(_):
    codec = load(FLAGS.model)
    pixels = FLAGS.count * SIZE[0] * SIZE[1]
    with tempfile.TemporaryDirectory() as folder:
        source, small, back = (Path(folder, name) for name in ("in", "small", "back"))
        source.mkdir()
        images = []
        for number, image in enumerate(photographs()):
            (source / f"{number:04}.png").write_bytes(tf.io.encode_png(image).numpy())
            images.append(image)
        codec.decode(codec.encode(images[0], FLAGS.quality))
        first = source / "0000.png"
        by_command("encode", first, "-o", f"{folder}/first/")
        alone, payloads = seconds(lambda: [codec.encode(x, FLAGS.quality) for x in images])
        command, _ = seconds(
            lambda: by_command("encode", f"--quality={FLAGS.quality}", source, "-o", small)
        )
        rows = [("encode", alone, command)]
        alone, _ = seconds(lambda: [codec.decode(payload) for payload in payloads])
        command, _ = seconds(lambda: by_command("decode", small, "-o", back))
        rows.append(("decode", alone, command))
    print("| | alone, Mpx/s | command, Mpx/s | of it |\n|---|---|---|---|")
    for verb, alone, command in rows:
        rates = [1e-6 * pixels / time for time in (alone, command)]
        print(f"| {verb} | {rates[0]:.2f} | {rates[1]:.2f} | {rates[1] / rates[0]:.0%} |")


if __name__ == "__main__":
    app.run(main)
