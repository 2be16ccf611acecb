"""Where trained models lie: names, exported folders and training runs, and reading them."""

from pathlib import Path

import keras

from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.multi_scale import MultiScale

# The model that an exported folder carries beside its SavedModel, to load and to fine-tune.
MODEL_FILE = Path("assets.extra", "model.keras")


def model_folders():
    """Where named models are looked for: with the package, in a checkout or a wheel; then here."""
    package = Path(__file__).resolve().parent
    return [package.parent / "saved_models", package / "saved_models", Path("saved_models")]


def find_model(name_or_path):
    """The `.keras` file of a model.

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
        files = [place, place / MODEL_FILE.name, *(folder / MODEL_FILE for folder in folders)]
        for file in files:
            if file.suffix == ".keras" and file.is_file():
                return file.resolve()
    installed = [file for home in model_folders() for file in home.glob(f"*/*/{MODEL_FILE}")]
    found = {file.parents[2].name for file in installed}
    raise ValueError(
        f"expected a model: one of {', '.join(sorted(found)) or 'none installed'}, the folder of "
        f"an exported one or of a training run, or a .keras file. Received: {str(name_or_path)!r}"
    )


def load_model(name_or_path):
    """Reads a `ComRec` or a `MultiScale` from where `find_model` finds it.

    Raises:
        ValueError: where there is no model, or what is there cannot be read.
    """
    file = find_model(name_or_path)
    try:
        model = keras.saving.load_model(file, compile=False)
    except Exception as error:  # of a damaged archive Keras raises whatever its parts raise
        raise ValueError(f"{str(file)!r} cannot be read as a Keras model: {error}") from error
    if not isinstance(model, (ComRec, MultiScale)):
        kinds = "a ComRec or a MultiScale"
        raise ValueError(f"expected {kinds} in {str(file)!r}. Received: {type(model).__name__}")
    return model
