"""codec -> SavedModel, as TensorFlow Serving and `tf.saved_model.load` want it."""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_compression import files
from cnn_compression.codec import Codec, load
from cnn_compression.codec.model_files import write_exported
from cnn_compression.export import graph, latent_signatures, warmup
from cnn_compression.export.signatures import MAX_PIXELS, signatures
from cnn_compression.models.multi_scale import MultiScale

_MOST_PIXELS = (2**31 - 2**20) // 3  # a protocol buffer ends at 2 GiB


def export(
    models: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    name: str = "",
    output: str | os.PathLike[str] = "saved_models",
    version: int = 0,
    ranges: Sequence[Sequence[int]] | None = None,
    handovers: Sequence[Sequence[float]] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Path:
    """Writes `<output>/<name>/<version>/`, whole or not at all.

    The folder is a SavedModel with `signatures`, and says in `assets.extra/` how the Keras model of
    its variables is built, which `cnn_compression.load` reads and training can start from. Beside
    it lie warm-up requests, where tensorflow-serving-api is installed. Of a latent model there are
    `latent_signatures` alone, for images of any size.

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
        max_pixels: int: the largest image that the signatures take, or restore.

    Returns:
        `Path` of the version's folder.

    Raises:
        ValueError: where a model is none or they do not go together, the name is no name, the
            version is taken, or `max_pixels` are more than a tensor's bytes can say.
        OSError: where another process exports to the same folder.
    """
    codec = joined(models, ranges, handovers)
    name = name or codec.name
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"name must be letters, digits, '_', '-' and '.'. Received: {name!r}")
    folder = Path(output, name)
    if not 1 <= max_pixels <= _MOST_PIXELS:
        raise ValueError(f"max_pixels must be in 1..{_MOST_PIXELS}. Received: {max_pixels}")
    with files.locked(folder):
        taken = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
        version = version or max(taken, default=0) + 1
        if version < 1 or version in taken:
            raise ValueError(f"version must be from 1 and not of {taken}. Received: {version}")
        temporary = folder / f".{version}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        try:
            if codec.family:
                signed = latent_signatures.signatures(codec, max_pixels)
                write_exported(codec.model, temporary, signed)
            else:
                write_exported(codec.model, temporary, signatures(codec, max_pixels))
                graph.make_light(temporary)
                warmup.write(codec, name, temporary)
            temporary.rename(folder / str(version))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder / str(version)


def joined(models, ranges, handovers):
    """One `Codec` of one or several models, or the `LatentCodec` of one."""
    models = [models] if isinstance(models, (str, os.PathLike)) else list(models)
    codecs = [load(model) for model in models]
    if len(codecs) == 1 and ranges is None:
        return codecs[0]
    if latent := [codec.name for codec in codecs if codec.family]:
        raise ValueError(f"expected models around JPEG, which can be joined. Received: {latent[0]}")
    pairs = [pair for codec in codecs for pair in codec.model.pairs]
    return Codec(MultiScale(pairs, ranges, handovers), codecs[-1].name)
