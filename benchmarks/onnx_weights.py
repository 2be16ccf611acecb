"""What RecCNN as ONNX differs by from TensorFlow's, with weights of 32 and of 16 bits.

    python benchmarks/onnx_weights.py DATA/kodak

Each picture at qualities whose payloads are of each scale; a line for each quality and kind of
weights: PSNR by TensorFlow and what ONNX adds to it, mean difference in levels of [0, 255], the
share of samples that differ by more than one, and the largest difference. Needs the extra `onnx`
and onnxruntime.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import tensorflow as tf

import cnn_compression
from cnn_compression import images
from cnn_compression.export.onnx_models import WEIGHTS, export_onnx
from cnn_compression.jpeg import coding
from cnn_compression.payload import layout
from cnn_compression.tensors.metrics import psnr

QUALITIES = (10, 25, 45, 65, 90)


def restore(sessions, payload):
    """bytes to uint8 `[H, W, C]`, by sessions of each scale."""
    header = layout.read_header(payload)
    compact_hat = coding.decode(tf.constant(payload)).numpy()
    feed = {"compact_hat": compact_hat[None], "quality": np.array([header.quality], np.int32)}
    [image_hat] = sessions[header.scale].run(["image_hat"], feed)
    return image_hat[0, : header.height, : header.width]


def sessions_of(weights):
    with tempfile.TemporaryDirectory() as output:
        folder = export_onnx("default", output=output, weights=weights)
        return {
            int(file.stem.removeprefix("scale")): onnxruntime.InferenceSession(
                file.read_bytes(), providers=["CPUExecutionProvider"]
            )
            for file in folder.glob("*.onnx")
        }


def main(folder):
    codec = cnn_compression.load()
    sessions = {weights: sessions_of(weights) for weights in WEIGHTS}
    paths = [str(path) for path in sorted(Path(folder).glob("*.png"))]
    print(f"{len(paths)} pictures\nquality weights   PSNR    adds    mean    over 1   most")
    for quality in QUALITIES:
        rows = {weights: [] for weights in WEIGHTS}
        for path in paths:
            image, _ = images.read(path)
            payload = codec.encode(image, quality)
            expected = codec.decode(payload)
            before = float(psnr(image, expected))
            for weights in WEIGHTS:
                image_hat = restore(sessions[weights], payload)
                apart = np.abs(image_hat.astype(int) - expected)
                added = float(psnr(image, image_hat)) - before
                rows[weights].append((before, added, apart.mean(), (apart > 1).mean(), apart.max()))
        for weights, figures in rows.items():
            psnr_tf, added, mean, over, _ = np.mean(figures, axis=0)
            most = max(row[-1] for row in figures)
            print(
                f"{quality:7} {weights} {psnr_tf:7.3f} {added:+.4f} {mean:.5f} {over:.2e} {most:6}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
