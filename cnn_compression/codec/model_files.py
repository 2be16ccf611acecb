"""Where trained models lie: names, exported folders and training runs, and reading them.

They are found without TensorFlow; to read one imports it.
"""

import importlib
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Union

from cnn_compression.process import check_not_forked, start_tensorflow

if TYPE_CHECKING:
    from cnn_compression.models.com_rec import ComRec
    from cnn_compression.models.latent import LatentModel
    from cnn_compression.models.multi_scale import MultiScale

# What a training run writes; and what an exported folder carries beside its SavedModel: how to
# build the Keras model whose weights are the SavedModel's variables.
RUN_FILE = "model.keras"
EXPORTED_FILE = Path("assets.extra", "model.json")
# Classes of latent models -> their families, which is what their files in `models/` are called.
LATENT_CLASSES = {
    "Bottleneck": "bottleneck",
    "Progressive": "progressive",
    "Generative": "generative",
}


def model_folders() -> list[Path]:
    """Where named models are looked for: with the package, in a checkout or a wheel; then here."""
    package = Path(__file__).resolve().parents[1]
    return [package.parent / "saved_models", package / "saved_models", Path("saved_models")]


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """The file that a model is read from: `.keras` of a training run, `.json` of an exported one.

    Args:
        name_or_path: a name in `saved_models/`, of which the newest version is taken; the folder of
            an exported model, of one of its versions, or of a training run; or a `.keras` file.

    Returns:
        `Path`, absolute.

    Raises:
        ValueError: where no model is found; names the known ones.
    """
    for place in [Path(name_or_path), *(folder / name_or_path for folder in model_folders())]:
        versions = [version for version in place.glob("*") if version.name.isdigit()]
        newest_first = sorted(versions, key=lambda version: -int(version.name))
        folders = [place, *newest_first]
        files = [place, place / RUN_FILE, *(folder / EXPORTED_FILE for folder in folders)]
        for file in files:
            if file.suffix in (".keras", ".json") and file.is_file():
                return file.resolve()
    found = {file.parents[2].name for file in installed_models()}
    raise ValueError(
        f"expected a model: one of {', '.join(sorted(found)) or 'none installed'}, the folder of "
        f"an exported one or of a training run, or a .keras file. Received: {str(name_or_path)!r}"
    )


def installed_models() -> list[Path]:
    """The files, as of `find_model`, of all that have a name; the newest of each name first."""
    files = [file for home in model_folders() for file in home.glob(f"*/*/{EXPORTED_FILE}")]
    versions = [file.resolve() for file in files if file.parents[1].name.isdigit()]
    newest_first = sorted(versions, key=lambda file: -int(file.parents[1].name))
    return sorted(dict.fromkeys(newest_first), key=lambda file: file.parents[2])


def latent_family(name_or_path: str | os.PathLike[str]) -> str | None:
    """The family of a latent model; None of one whose payloads are JPEGs, or that cannot be read.

    It takes no TensorFlow to know.

    Raises:
        ValueError: where no model is found.
    """
    file = find_model(name_or_path)
    try:
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                config = json.loads(archive.read("config.json"))
        else:
            config = json.loads(file.read_bytes())
        return LATENT_CLASSES.get(config["class_name"])
    except Exception:  # of a damaged archive, whatever its parts raise
        return None  # whoever loads it says what is the matter


def load_model(
    name_or_path: str | os.PathLike[str],
) -> Union["ComRec", "MultiScale", "LatentModel"]:
    """Reads a model from where `find_model` finds it.

    Raises:
        ValueError: where there is no model, or what is there cannot be read.
        RuntimeError: in a process that was forked from one in which TensorFlow runs.
    """
    check_not_forked()
    start_tensorflow()
    import keras

    from cnn_compression.models.com_rec import ComRec
    from cnn_compression.models.latent import LatentModel
    from cnn_compression.models.multi_scale import MultiScale

    file = find_model(name_or_path)
    try:
        if family := latent_family(file):
            importlib.import_module(f"cnn_compression.models.{family}")
        if file.suffix == ".keras":
            model = keras.saving.load_model(file, compile=False)
        else:
            model = _load_exported(file)
    except Exception as error:  # of a damaged archive Keras raises whatever its parts raise
        raise ValueError(f"{str(file)!r} cannot be read as a model: {error}") from error
    if not isinstance(model, (ComRec, MultiScale, LatentModel)):
        kinds = "a ComRec, a MultiScale or a latent model"
        raise ValueError(f"expected {kinds} in {str(file)!r}. Received: {type(model).__name__}")
    return model


def write_exported(model, folder, signatures=None):
    """Writes a SavedModel that carries how to build the Keras model of its variables.

    Args:
        model: `ComRec`, `MultiScale` or a `LatentModel`.
        folder: `Path`, new.
        signatures: dict of name to `tf.function` of the model's variables.
    """
    import keras
    import tensorflow as tf

    module = tf.Module()
    # Bare variables: a tracked Keras model would bring its own functions along.
    module.weights = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(folder), signatures=signatures)
    file = folder / EXPORTED_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    config = keras.saving.serialize_keras_object(model)
    file.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _load_exported(file):
    import keras
    import tensorflow as tf

    model = keras.saving.deserialize_keras_object(json.loads(file.read_text(encoding="utf-8")))
    weights = tf.train.load_checkpoint(str(file.parents[1] / "variables" / "variables"))
    for number, variable in enumerate(model.variables):
        variable.assign(weights.get_tensor(f"weights/{number}/.ATTRIBUTES/VARIABLE_VALUE"))
    return model
