"""Neural image compression that stays a JPEG.

An `image` (uint8 `[H, W, 3]` or `[H, W, 1]`) becomes a smaller `compact` image by `ComCNN`, a
standard JPEG carries the compact image as the `payload` (bytes), and `RecCNN` rebuilds `image_hat`
from the decoded `compact_hat`:

    image -> ComCNN -> compact -> JPEG -> payload -> JPEG -> compact_hat -> RecCNN -> image_hat

`quality` is 1..100 as in JPEG; `bpp` counts every byte of the payload over the pixels of the image.
Images are uint8 [0, 255] at every edge and float32 [0, 1] inside.

    codec = cnn_compression.load()
    payload = codec.encode(image, quality=50)
    image_hat = codec.decode(payload)
"""

import os

# The codec is TensorFlow's; another backend can still be named, to train the networks under it.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

__version__ = "0.1.0"
__all__ = ["Codec", "load"]


def __getattr__(name):
    # TensorFlow takes seconds to import: only those who load a codec pay for it.
    if name in __all__:
        from cnn_compression import codec

        return getattr(codec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
