"""Payloads restored by a page in headless Chromium, beside Python: pixels, dB, seconds, memory.

    python benchmarks/browser.py FOLDER [--pictures=24] [--sizes=0.4,2,24] [--qualities=15,45,90]
        [--one_thread]

For pictures of the folder, such as the Kodak set, at a quality of each scale: by how much Chromium
decodes the JPEG otherwise than TensorFlow, and what the picture that the page restores has more or
less in PSNR. Then the seconds and the memory that a picture of so many megapixels takes, made by
repeating one of them, at a quality of each scale. Needs web/node_modules (`npm ci --prefix web`).
"""

import base64
import contextlib
import functools
import io
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags
from PIL import Image

import cnn_compression
from cnn_compression import images
from cnn_compression.jpeg import coding
from cnn_compression.payload import layout
from cnn_compression.tensors.metrics import psnr

WEB = Path(__file__).resolve().parents[1] / "web"
FLAGS = flags.FLAGS
flags.DEFINE_integer("pictures", 24, "of the folder, compared")
flags.DEFINE_list("qualities", "15,45,90", "by default one of each scale")
flags.DEFINE_list("sizes", "0.4,2,24", "megapixels, timed")
flags.DEFINE_bool("one_thread", False, "serve without the headers that threads need")

DECODE = """
async (address) => {
  const bitmap = await createImageBitmap(await (await fetch(address)).blob());
  return png(bitmap);
}
"""
RESTORE = """
async (address) => {
  const { restore } = await import("/cnn-compression.js");
  const start = performance.now();
  const bitmap = await restore(await (await fetch(address)).blob());
  const seconds = (performance.now() - start) / 1000;
  return [seconds, %s];
}
"""
TO_PNG = """
() => void (window.png = async (bitmap) => {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768)
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
})
"""


class Memory:
    """The most bytes that the processes of a group hold at once: a browser with all its tabs."""

    def __init__(self, group):
        self.group, self.most, self._ended = group, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._ended.wait(0.1):
            self.most = max(self.most, sum(map(self._held, Path("/proc").glob("[0-9]*"))))

    def _held(self, process):
        try:
            if os.getpgid(int(process.name)) != self.group:
                return 0
            fields = (process / "smaps_rollup").read_text().split()
            return 1024 * int(fields[fields.index("Pss:") + 1])
        except (OSError, ValueError):  # it has ended
            return 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


def cpu_seconds(group):
    """What the living processes of a group have used of the processor."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(process.name)) == group:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # in the user's mode and in the system's
    return ticks / os.sysconf("SC_CLK_TCK")


def group_of(word):
    """The group of the process that has a word in its command line."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word in (process / "cmdline").read_text().split("\0"):
                return os.getpgid(int(process.name))
    raise ValueError(f"expected a process with {word}. Received: none")


def pixels(text, channels=3):
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
    return image[..., :channels]


def put(folder, payload):
    (folder / "picture.jpg").write_bytes(payload)
    return "/picture.jpg"


@contextlib.contextmanager
def launched(chromium, executable_path, address):
    """A page in a browser of its own, and the group of that one's processes."""
    name = f"--user-agent=benchmark-{time.monotonic_ns()}"
    browser = chromium.launch(executable_path=executable_path, args=["--no-sandbox", name])
    page = browser.new_page()
    page.set_default_timeout(1_200_000)
    page.goto(address)
    page.evaluate(TO_PNG)
    yield page, group_of(name)
    browser.close()


def compare(page, folder, codec, paths):
    """Prints a line for each quality: Chromium's pixels and dB beside Python's."""
    print("quality  JPEG decoded otherwise   PSNR Python    page adds   samples over 1 level off")
    for quality in map(int, FLAGS.qualities):
        rows = []
        for path in paths:
            image, _ = images.read(path)
            payload = codec.encode(image, quality)
            address = put(folder, payload)
            compact_hat = coding.decode(tf.constant(payload)).numpy()
            decoded = page.evaluate(DECODE, address)
            otherwise = np.mean(pixels(decoded, compact_hat.shape[-1]) != compact_hat)
            _, restored = page.evaluate(RESTORE % "await png(bitmap)", address)
            restored, expected = pixels(restored, image.shape[-1]), codec.decode(payload)
            before = float(psnr(image, expected))
            apart = np.abs(restored.astype(int) - expected)
            rows.append(
                (otherwise, before, float(psnr(image, restored)) - before, (apart > 1).mean())
            )
        otherwise, before, added, over = np.mean(rows, axis=0)
        print(
            f"{quality:7} {otherwise:15.6f} {before:22.3f} {added:+12.4f} {over:18.2e}", flush=True
        )


def enlarged(image, megapixels):
    """An image repeated to so many pixels, three wide to two high."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(1.5 * height)
    count = (-(-height // image.shape[0]), -(-width // image.shape[1]), 1)
    return np.tile(image, count)[:height, :width]


def measure(launch, folder, codec, image):
    """Prints seconds and memory; a fresh browser for each, whose last restoring counts."""
    print("megapixels  quality  scale  seconds  of the processor  first  browser's memory, MB")
    for megapixels in map(float, FLAGS.sizes):
        for quality in map(int, FLAGS.qualities):
            payload = codec.encode(enlarged(image, megapixels), quality)
            address = put(folder, payload)
            with launch() as (page, group), Memory(group) as memory:
                runs = []
                for _ in range(1 if megapixels > 10 else 2):
                    before = cpu_seconds(group)
                    seconds, _ = page.evaluate(RESTORE % "0", address)
                    runs.append((seconds, cpu_seconds(group) - before))
            scale = layout.read_header(payload).scale
            (first, _), (seconds, used) = runs[0], runs[-1]
            print(
                f"{megapixels:10} {quality:8} {scale:6} {seconds:8.2f} {used:12.2f} {first:10.2f} "
                f"{memory.most / 1e6:10.0f}",
                flush=True,
            )


def main(argv):
    sys.path.insert(0, str(WEB))
    import build
    import serve
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ["chromium", "google-chrome"])))
    codec = cnn_compression.load()
    paths = sorted(str(path) for path in Path(argv[1]).glob("*.png"))
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary) / "built"
        build.build(folder, ["default"], gallery=False)
        (folder / "empty.html").write_text("<!doctype html><title>empty</title>")
        server = serve.make_server(folder, isolated=not FLAGS.one_thread)
        threading.Thread(target=server.serve_forever, daemon=True).start()

        address = f"http://127.0.0.1:{server.server_port}/empty.html"
        launch = functools.partial(launched, playwright.chromium, chromium, address)
        if FLAGS.pictures:
            with launch() as (page, _):
                compare(page, folder, codec, paths[: FLAGS.pictures])
        if FLAGS.sizes:
            measure(launch, folder, codec, images.read(paths[0])[0])
        server.shutdown()


if __name__ == "__main__":
    app.run(main)
