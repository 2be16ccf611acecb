"""Untrained pairs of networks that pass a picture on, and are small enough to be tried often."""

import numpy as np

from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN

# Of two pairs, without a gap in PSNR between them.
RANGES = [[1, 60, 5, 90], [61, 100, 30, 95]]


def pair(scale, channels=3, chroma="4:2:0"):
    model = ComRec(
        FastComCNN(channels, scale, filters=8, blocks=1),
        FastRecCNN(channels, scale, filters=8, blocks=0, inner_blocks=1),
        chroma,
    )
    model.com.tail.bias.assign(np.full(model.com.tail.bias.shape, 0.33 / 255, np.float32))
    return model
