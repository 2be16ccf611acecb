"""codecs x sizes x qualities of one image -> rows, those that are there already left alone."""

import numpy as np
import tensorflow as tf

from cnn_compression.benchmark.rows import measure, subject


def downscale(image, factor):
    """An image `factor` times smaller, by the mean over each new pixel's area.

    Args:
        image: uint8 `[H, W, C]`.
        factor: integer from 1; 1 gives the image itself.

    Returns:
        uint8 `[round(H / factor), round(W / factor), C]`, sides of 1 at least.
    """
    if factor == 1:
        return image
    size = [max(1, round(side / factor)) for side in image.shape[:2]]
    small = tf.image.resize(image[None], size, "area")[0].numpy()
    return np.rint(small).astype(np.uint8)


def collect(codecs, name, image, factors, store, progress=lambda codec, measured: None):
    """All rows of an image.

    Args:
        codecs: list of `cnn_compression.benchmark.codecs.Codec`; each has its own qualities.
        name: of the image, for the rows.
        image: uint8 `[H, W, 1]` or `[H, W, 3]`.
        factors: how many times smaller to measure it; see `downscale`.
        store: `Store`, which gives what it has and is given the rest, row by row.
        progress: called for each row with the codec's name, and whether it was measured now.

    Returns:
        list of `Row`, of these codecs, factors and qualities only.
    """
    rows = []
    for factor in factors:
        small = downscale(image, factor)
        for codec in codecs:
            rows += _through(codec, name, small, factor, store, progress)
    return rows


def _through(codec, name, image, factor, store, progress):
    about = tuple(subject(codec, name, image, factor).values())
    missing = [quality for quality in codec.qualities if (*about, quality) not in store.rows]
    for _ in range(len(codec.qualities) - len(missing)):
        progress(codec.name, False)
    if missing:
        for coded in measure(codec, name, image, missing, factor=factor):
            store.add(coded.row)
            progress(codec.name, True)
    return [store.rows[(*about, quality)] for quality in codec.qualities]
