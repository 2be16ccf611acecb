"""image -> payload -> image, by a trained model.

`codec` is what everyone calls; it finds models by `model_files`, cuts pictures into tiles for a
`pair` of networks around JPEG, and meets `targets` of bytes or PSNR by `bisection`. `effort` tunes
one picture's compact image.
"""

from cnn_compression.process import start_tensorflow

start_tensorflow()  # before what follows imports it

from cnn_compression.codec.codec import Codec, fingerprint, load  # noqa: E402

__all__ = ["Codec", "fingerprint", "load"]
