"""What an exported latent model offers, in stock TensorFlow ops: all but the range coder.

    signature    inputs                                          outputs
    analyse      pixels uint8[N, H, W, C], quality int32[N]      codes int32[N, h, w, D]
    synthesise   codes int32[N, h, w, D], quality int32[N]       pixels uint8[N, cell h, cell w, C]

C are the model's channels, D the codes that a cell of `cell` x `cell` pixels has at the quality,
and h and w are the whole cells that a picture takes: of what `synthesise` gives, the picture is the
upper left part. A request fails where a quality is none of the model's, or where one batch has
qualities of different D, as those of a progressive model are; or where pictures have more pixels,
counted in whole cells, than the export was told to take. `packing.symbols` makes bytes of
codes, `payload.latent_layout` a payload of them.
"""

import tensorflow as tf

from cnn_compression.payload.layout import MAX_PIXELS
from cnn_compression.tensors.bytes import require

_QUALITY = tf.TensorSpec((None,), tf.int32)


def signatures(codec, max_pixels=MAX_PIXELS):
    """The functions of a `LatentCodec`.

    Args:
        codec: `LatentCodec`.
        max_pixels: int: of a picture, in and out, in whole cells.

    Returns:
        dict of signature name to `tf.function` of keyword tensors, which returns a dict of tensors.
    """
    channels, cell = codec.model.channels, codec.model.cell
    lowest, highest = codec.qualities[0], codec.qualities[-1]

    def checked(quality):
        known = tf.reduce_all((lowest <= quality) & (quality <= highest))
        return require(known, f"expected qualities of {lowest}..{highest}", quality)

    def limited(value, sides):
        rows, columns = (-(-side // cell) for side in tf.unstack(tf.cast(sides, tf.int64)))
        few = rows * columns * cell**2 <= max_pixels
        reason = f"expected at most {max_pixels} pixels in whole cells of {cell} x {cell}"
        return require(few, reason, value)

    def analyse(pixels, quality):
        items = limited(pixels, tf.shape(pixels)[1:3]), checked(quality)
        return {"codes": _each(lambda item: codec.analyse(*item), items, tf.int32)}

    def synthesise(codes, quality):
        sides = cell * tf.shape(codes, tf.int64)[1:3]
        items = limited(codes, sides), checked(quality)
        height, width = tf.unstack(tf.cast(sides, tf.int32))

        def one(item):
            return codec.synthesise(*item, height, width, tf.constant(channels))

        return {"pixels": _each(one, items, tf.uint8)}

    image = tf.TensorSpec((None, None, None, channels), tf.uint8)
    codes = tf.TensorSpec((None, None, None, None), tf.int32)
    return {
        "analyse": tf.function(analyse, [image, _QUALITY], autograph=False),
        "synthesise": tf.function(synthesise, [codes, _QUALITY], autograph=False),
    }


def _each(function, items, dtype):
    """`function` of each item, one after the other: each takes all cores."""
    spec = tf.TensorSpec((None, None, None), dtype)
    return tf.map_fn(function, items, fn_output_signature=spec, parallel_iterations=1)
