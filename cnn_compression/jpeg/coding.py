"""The bytes codec: JPEG by TensorFlow's own ops, in-graph, with the quality as a tensor.

Huffman tables are optimised, which saves a third of the coarsest files and 2 % of fine ones. Files
are baseline or progressive, whichever is smaller: several scans, each with its own tables, save up
to 6 % of fine files and cost coarse ones 5 to 50 %, small images the most. Chroma is 4:2:0 or
4:4:4. Decoding is libjpeg's accurate integer DCT, which gives the same pixels everywhere.

`jpeg_twin` is the differentiable counterpart.
"""

import functools

import tensorflow as tf

from cnn_compression.tensors.functions import one_of, shared

MAX_SIDE = 65_500  # pixels: libjpeg's limit
MAX_SAMPLES = 2**29 - 1  # of all channels: what TensorFlow's decoder takes


@functools.cache
def _encoder(chroma, progressive=(False, True)):
    """`tf.function` of (image, quality) for one kind of chroma: the smallest of these files.

    `tf.io.encode_jpeg` takes its quality as an attribute, and the op that takes a tensor has
    neither progressive mode nor optimised tables: so each quality is a function of its own.
    """

    def encode(image, quality):
        in_range = tf.debugging.assert_equal(
            tf.clip_by_value(quality, 1, 100), quality, "quality must be in 1..100"
        )
        with tf.control_dependencies([in_range, check_size(*tf.unstack(tf.shape(image)))]):
            image = tf.identity(image)

        writers = [functools.partial(write, quality) for quality in range(1, 101)]
        files = one_of(quality - 1, writers, image, tf.string, [len(progressive)])
        return files[tf.argmin(tf.strings.length(files))]

    def write(quality, image):
        chroma_downsampling = chroma == "4:2:0"
        files = [
            tf.io.encode_jpeg(
                image,
                quality=quality,
                progressive=kind,
                optimize_size=True,
                chroma_downsampling=chroma_downsampling,
            )
            for kind in progressive
        ]
        return tf.stack(files)

    image = tf.TensorSpec((None, None, None), tf.uint8)
    return shared(encode, [image, tf.TensorSpec((), tf.int32)])


def check_size(height, width, channels):
    """An op that fails where an image, of three int32 scalars, has more than `MAX_SAMPLES`."""
    return tf.debugging.assert_less_equal(
        tf.reduce_prod(tf.cast([height, width, channels], tf.int64)),
        tf.constant(MAX_SAMPLES, tf.int64),
        f"a JPEG of at most {MAX_SAMPLES} samples can be read again: reduce the image, or take a "
        "lower quality, whose compact image is smaller",
    )


def encode(image, quality, chroma="4:2:0"):
    """Writes a JPEG.

    Args:
        image: uint8 `[H, W, C]`, C = 1 or 3, sides up to `MAX_SIDE`, up to `MAX_SAMPLES` in all.
        quality: int32 scalar, 1..100.
        chroma: `4:2:0`, or `4:4:4` for chroma at full size.

    Returns:
        string scalar, the file.

    Raises:
        tf.errors.InvalidArgumentError: where quality or size is out of range.
    """
    return _encoder(chroma)(image, quality)


def decode(data, channels=0):
    """Reads a JPEG: string scalar to uint8 `[H, W, C]`; `channels` 0 keeps the file's own.

    Raises:
        tf.errors.InvalidArgumentError: where the bytes are not a complete JPEG.
    """
    return tf.io.decode_jpeg(data, channels, dct_method="INTEGER_ACCURATE")


def round_trip(images, quality, chroma="4:2:0"):
    """Codes and decodes a batch: uint8 `[N, H, W, C]` and int32 `[N]` to uint8 `[N, H, W, C]`."""
    encoder = _encoder(chroma, progressive=(False,))  # the pixels are the same in both
    decoded = tf.map_fn(
        lambda item: decode(encoder(*item), images.shape[-1] or 0),
        (images, quality),
        fn_output_signature=tf.TensorSpec(images.shape[1:], tf.uint8),
    )
    return tf.ensure_shape(decoded, images.shape)
