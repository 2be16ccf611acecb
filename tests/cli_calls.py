"""What tests of the command line share: a quick codec, pictures, and what lies in a folder."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from cnn_compression.payload import layout


class FakeCodec:
    """Quick: its payload is the image's shape and bytes."""

    family, default_quality = None, 50

    def reporting(self, report):
        return self

    def encode(self, image, quality, effort=0):
        return b"fake %d %d %d %d " % (quality, *image.shape) + image.tobytes()

    def decode(self, payload, max_pixels=None):
        payload = payload.numpy()
        if payload[:5] != b"fake ":
            raise ValueError("not a payload")
        _, _, *shape, data = payload.split(b" ", 5)
        return np.frombuffer(data, np.uint8).reshape([int(size) for size in shape])


def read_header(payload, real=layout.read_header):
    """`layout.read_header`, which knows the fake codec's payloads too."""
    if payload[:5] != b"fake ":
        return real(payload)
    height, width, channels = map(int, payload.split(b" ", 5)[2:5])
    return SimpleNamespace(height=height, width=width, channels=channels)


def picture(path, size=(6, 4), mode="RGB", colour=None):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode) if colour is None else None
    (image or Image.new(mode, size, colour)).save(path)


def tree(path="."):
    return sorted(str(p.relative_to(path)) for p in Path(path).rglob("*") if p.is_file())
