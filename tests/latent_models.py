"""Small latent models, made without training, and pictures for them."""

import numpy as np
import skimage.data

from cnn_compression.models.bottleneck import Bottleneck
from cnn_compression.models.generative import Generative
from cnn_compression.models.progressive import Progressive


def photo(height=192, width=256):
    """uint8 `[height, width, 3]`, part of a photograph."""
    return skimage.data.astronaut()[:height, 100 : 100 + width].copy()


def bottleneck(channels=3):
    """Solved for one photograph."""
    model = Bottleneck(channels)
    model.solve([photo()[None, ..., :channels].astype(np.float32) / 255.0])
    return model


def progressive():
    """As it was drawn: its pictures are none, but its codes are."""
    import keras

    keras.utils.set_random_seed(1)
    return Progressive(encoder=(8, 8, 8, 8), decoder=(16, 16, 16, 16), bits=4)


def generative():
    """As it was drawn, with codes that take all of their levels."""
    import keras

    keras.utils.set_random_seed(1)
    model = Generative(widths=(8, 8, 8, 8, 8), blocks=1)
    x = photo(64, 64)[None].astype(np.float32) / 127.5 - 1.0
    for layer in model.encoder:
        x = np.maximum(layer(x), 0.0)
    spread = float(np.std(model.bottleneck(x)))
    model.bottleneck.kernel.assign(model.bottleneck.kernel / spread)
    return model
