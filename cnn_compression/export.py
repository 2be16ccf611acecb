"""codec -> SavedModel: the signatures that TensorFlow Serving and `tf.saved_model.load` offer.

    signature       inputs                                        outputs
    encode          image_bytes string[N], quality int32[N]       payload_bytes string[N]
    encode_to_size  image_bytes string[N], max_bytes int32[N]     payload_bytes string[N],
                                                                  quality int32[N]
    decode          payload_bytes string[N]                       image_bytes string[N], PNG
    encode_pixels   pixels uint8[N, H, W, C], quality int32[N]    payload_bytes string[N]
    decode_pixels   payload_bytes string[N]                       pixels uint8[N, H, W, C]

`encode_to_size` takes the highest quality whose payload is no larger than `max_bytes`; an image
that does not fit at any quality gets an empty payload and quality 0. `image_bytes` going in are
JPEG, PNG, BMP or GIF, of different sizes in one batch where wanted; `pixels` of one batch share a
size. Stock ops only: nothing of this package, nor Python, is needed to run them. The names of bytes
end in `_bytes`, so that TensorFlow Serving's REST sends base64.
"""

import contextlib
import functools
import re
import shutil
from pathlib import Path

import tensorflow as tf

from cnn_compression import images
from cnn_compression.codec import Codec, load
from cnn_compression.model_files import MODEL_FILE
from cnn_compression.models.multi_scale import MultiScale

_STRINGS = tf.TensorSpec((None,), tf.string)
_PIXELS = tf.TensorSpec((None, None, None, None), tf.uint8)
_INTEGERS = tf.TensorSpec((None,), tf.int32)


def signatures(codec):
    """The functions of a codec.

    Args:
        codec: `Codec`.

    Returns:
        dict of signature name to `tf.function` of keyword tensors, which returns a dict of tensors.
    """

    def encode_one(item):
        image = images.decode(item[0], stock=True)
        return codec.encoder()(image[None], item[1][None])[0]

    def decode_one(payload):
        return images.encode_png(codec.decode_one(payload))

    def each(function, elements):
        return tf.map_fn(function, elements, fn_output_signature=tf.string)

    def encode(image_bytes, quality):
        tf.debugging.assert_equal(
            tf.shape(image_bytes), tf.shape(quality), "expected a quality for each image"
        )
        return {"payload_bytes": each(encode_one, (image_bytes, quality))}

    def encode_one_to_size(item):
        return codec.size_encoder()(images.decode(item[0], stock=True), item[1])

    def encode_to_size(image_bytes, max_bytes):
        tf.debugging.assert_equal(
            tf.shape(image_bytes), tf.shape(max_bytes), "expected a limit for each image"
        )
        payloads, qualities = tf.map_fn(
            encode_one_to_size,
            (image_bytes, max_bytes),
            fn_output_signature=(tf.string, tf.int32),
        )
        return {"payload_bytes": payloads, "quality": qualities}

    def decode(payload_bytes):
        return {"image_bytes": each(decode_one, payload_bytes)}

    def encode_pixels(pixels, quality):
        return {"payload_bytes": codec.encoder()(pixels, quality)}

    def decode_pixels(payload_bytes):
        return {"pixels": codec.decode_batch(payload_bytes)}

    trace = functools.partial(tf.function, autograph=False)
    return {
        "encode": trace(encode, [_STRINGS, _INTEGERS]),
        "encode_to_size": trace(encode_to_size, [_STRINGS, _INTEGERS]),
        "decode": trace(decode, [_STRINGS]),
        "encode_pixels": trace(encode_pixels, [_PIXELS, _INTEGERS]),
        "decode_pixels": trace(decode_pixels, [_STRINGS]),
    }


def export(models, name="", output="saved_models", version=0, ranges=None, handovers=None):
    """Writes `<output>/<name>/<version>/`, whole or not at all.

    The folder is a SavedModel with `signatures`, and carries the Keras model in `assets.extra/`,
    which `cnn_compression.load` reads and training can start from.

    Args:
        models: one or several as for `model_files.find_model`: the output folder of a training run,
            say. Several are joined to one codec, the largest scale first.
        name: what the codec is called, letters, digits, `_`, `-` and `.`; by default what the
            folder of the last model is called.
        output: folder of models, as `tensorflow_model_server --model_base_path` is told `<output>/
            <name>`.
        version: integer from 1; 0 takes the next one that is free.
        ranges, handovers: which qualities and pictures each of several models serves; see
            `MultiScale`.

    Returns:
        `Path` of the version's folder.

    Raises:
        ValueError: where a model is none or they do not go together, the name is no name, or the
            version is taken.
    """
    codec = _joined(models, ranges, handovers)
    name = name or codec.name
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"name must be letters, digits, '_', '-' and '.'. Received: {name!r}")
    folder = Path(output, name)
    taken = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    version = version or max(taken, default=0) + 1
    if version < 1 or version in taken:
        raise ValueError(f"version must be from 1 and not of {taken}. Received: {version}")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{version}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
    try:
        _write(codec, temporary)
        temporary.rename(folder / str(version))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where it is empty
    return folder / str(version)


def _joined(models, ranges, handovers):
    """One `Codec` of one or several models."""
    models = [models] if isinstance(models, (str, Path)) else list(models)
    codecs = [load(model) for model in models]
    if len(codecs) == 1 and ranges is None:
        return codecs[0]
    pairs = [pair for codec in codecs for pair in codec.model.pairs]
    return Codec(MultiScale(pairs, ranges, handovers), codecs[-1].name)


def _write(codec, folder):
    module = tf.Module()
    # Bare variables: a tracked Keras model would bring its own functions along.
    module.weights = [variable.value for variable in codec.model.variables]
    tf.saved_model.save(module, str(folder), signatures=signatures(codec))
    model_file = folder / MODEL_FILE
    model_file.parent.mkdir(parents=True, exist_ok=True)
    codec.model.save(model_file)
