"""image -> payload -> image, by a trained model.

`codec` is what everyone calls, with what `inputs` takes; it finds models by `model_files`. `graph`
is what it does as `tf.function`s: it cuts pictures into tiles for a `pair` of networks around JPEG,
and meets `targets` of bytes or PSNR by `bisection`. `effort` tunes one picture's compact image.
`latent` is the codec of models that have bytes of their own in JPEG's place.
"""

from cnn_compression.process import start_tensorflow

__all__ = ["Codec", "LatentCodec", "fingerprint", "load"]


def __getattr__(name):
    # Where models lie can be asked without TensorFlow, which takes seconds to import.
    if name in __all__:
        start_tensorflow()
        if name == "LatentCodec":  # not with the others: it brings a compiler along
            from cnn_compression.codec import latent

            return latent.LatentCodec
        from cnn_compression.codec import codec, graph

        return getattr(graph if name == "fingerprint" else codec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
