"""How a run does: what it logs, and how its model does on held-out images, by real bytes."""

import contextlib
import logging
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cnn_compression.codec import Codec
from cnn_compression.jpeg import coding
from cnn_compression.tensors.metrics import bpp, ms_ssim, psnr
from cnn_compression.tensors.ssimulacra2 import ssimulacra2
from cnn_compression.training.data import as_channels

_log = logging.getLogger(__name__)

QUALITIES = (15, 40, 75)
# Functions of a uint8 image and what was restored of it.
MEASURES = {"psnr": psnr, "ms_ssim": ms_ssim, "ssimulacra2": ssimulacra2}


class Coded(NamedTuple):
    """An image that went through a codec: bytes, uint8 `[H, W, C]`, bits a pixel, dB."""

    payload: bytes
    image_hat: np.ndarray
    bpp: float
    psnr: float


def code(codec, image, quality):
    """Encodes and decodes uint8 `[H, W, C]`: `Coded`."""
    payload = codec.encode(image, quality)
    image_hat = codec.decode(payload)
    rate = bpp(len(payload), *image.shape[:2])
    return Coded(payload, image_hat, float(rate), float(psnr(image, image_hat)))


class HeldOutEvaluation:
    """Real payloads of the middle of each held-out image.

    Args:
        reader: `ImageReader` of the images; what it cannot read is left out.
        channels: 1 for luma, 3 for RGB.
        size: sides of what is cut from the middle, pixels, at most.
        strips: how many images `strip` shows.
        codec: the class that makes a codec of a model.
        qualities: those that are tried.
        preview: function of a payload to what a viewer shows of it, uint8 `[h, w, C]`.
    """

    def __init__(
        self,
        reader,
        channels,
        size=512,
        strips=4,
        codec=Codec,
        qualities=QUALITIES,
        preview=lambda payload: coding.decode(payload).numpy(),
    ):
        read = [reader.read(position) for position in range(len(reader.files))]
        middles = [_middle(image, size) for image in read if image is not None]
        self.images = [as_channels(middle, channels).numpy() for middle in middles]
        self.strips = strips
        self.codec, self.qualities, self.preview = codec, qualities, preview

    def __call__(self, model):
        """Evaluates a model.

        Returns:
            scalars: dict of float: `psnr/q15`, `bpp/q15` and so on, means over the images.
            strips: uint8 `[K, H, W, C]`: original | preview | restored, at the middle quality.
        """
        codec = self.codec(model)
        scalars, strips = {}, []
        for quality in self.qualities:
            coded = [code(codec, image, quality) for image in self.images]
            if coded:
                scalars[f"psnr/q{quality}"] = np.mean([one.psnr for one in coded])
                scalars[f"bpp/q{quality}"] = np.mean([one.bpp for one in coded])
            if quality == self.qualities[len(self.qualities) // 2]:
                for image, one in list(zip(self.images, coded, strict=True))[: self.strips]:
                    strips.append(strip(image, self.preview(one.payload), one.image_hat))
        return scalars, strips


def strip(image, preview, image_hat, size=256):
    """The upper left of original | preview | restored side by side: uint8 `[size, 3 size, C]`."""
    canvas = np.zeros((size, 3 * size, image.shape[-1]), np.uint8)
    preview = tf.image.resize(preview, image.shape[:2], "nearest").numpy()
    for column, picture in enumerate((image, preview, image_hat)):
        cut = picture[:size, :size]
        canvas[: cut.shape[0], column * size : column * size + cut.shape[1]] = cut
    return canvas


def _middle(image, size):
    top, left = (max(0, (length - size) // 2) for length in image.shape[:2])
    return image[top : top + size, left : left + size]


class RunLog:
    """What a run says: log lines, TensorBoard, images a second and the share spent on waiting."""

    def __init__(self, folder, batch_size):
        self.writer = tf.summary.create_file_writer(str(folder))
        self.batch_size = batch_size
        self._reset()

    def _reset(self):
        self.pending, self.waited, self.since = [], 0.0, time.perf_counter()

    def next_batch(self, batches):
        """The next batch; the time until it comes counts as waiting for input."""
        start = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - start
        return batch

    def done(self, phase, results):
        """Takes what a step of a phase gave: dict of scalar tensors, not waited for."""
        self.pending.append((phase, results))

    def write(self, step, rates):
        """Means over the steps of each phase since the last line.

        Args:
            step: int.
            rates: dict of phase to its learning rate.
        """
        seconds = time.perf_counter() - self.since
        shared = {
            "images_per_second": len(self.pending) * self.batch_size / seconds,
            "input_wait": self.waited / seconds,
        }
        for phase in dict.fromkeys(phase for phase, _ in self.pending):
            results = [results for of, results in self.pending if of == phase]
            values = {
                name: float(np.mean([float(result[name]) for result in results]))
                for name in results[0]
            }
            if "mse" in values:
                values["psnr"] = 10 * np.log10(255**2 / values["mse"])
            values |= {"learning_rate": rates[phase]} | shared
            self.scalars(step, values, phase)
            _log.info("step %d %s %s", step, phase, _format(values))
        self._reset()

    @contextlib.contextmanager
    def paused(self):
        """What is done inside does not count into the time of the steps."""
        start = time.perf_counter()
        yield
        self.since += time.perf_counter() - start

    def scalars(self, step, values, group):
        with self.writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)
        self.writer.flush()

    def held_out(self, step, scalars, strips):
        """What `HeldOutEvaluation` found."""
        self.scalars(step, scalars, "held_out")
        with self.writer.as_default(step):
            if strips:
                # From a list it would make int32, and take that for images of 31 bits.
                data = np.stack(strips)
                tf.summary.image("original, preview, restored", data, max_outputs=len(strips))
        self.writer.flush()
        _log.info("step %d held out: %s", step, _format(scalars))


def _format(values):
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())
