"""The codecs by the names that they have on the command line."""

from cnn_compression.benchmark.codecs import (
    Avif,
    Heic,
    Jpeg,
    Jpeg2000,
    JpegXl,
    MissingLibraryError,
    WebP,
)
from cnn_compression.benchmark.ours import (
    HalfBicubic,
    JpegInXl,
    Latent,
    Lepton,
    Model,
    Packed,
    RecAlone,
)

CODECS = {
    "jpeg": Jpeg,
    "webp": WebP,
    "jp2": Jpeg2000,
    "avif": Avif,
    "jxl": JpegXl,
    "heic": Heic,
    "bicubic": HalfBicubic,
}
# One for each model.
OF_MODELS = {"packed": Packed, "lepton": Lepton, "jxl_jpeg": JpegInXl, "rec": RecAlone}
NAMES = (*CODECS, *OF_MODELS)


def open_codecs(names, models, qualities, efforts=(0,)):
    """Makes the codecs to measure: the models, what is left of them without ComCNN, the others.

    Args:
        names: of `NAMES`, or None for all that are installed.
        models: list of `cnn_compression.codec.Codec` and `codec.latent.LatentCodec`.
        qualities: integers 1..100, for the models.
        efforts: of 0..2, each of which every model is measured at.

    Returns:
        codecs: list of `Codec`.
        notes: list of str, why some of all are left out.

    Raises:
        MissingLibraryError: a codec that was named is not installed.
        ValueError: a name is not known, two codecs have one name, or there are none.
    """
    _check(names, models)
    wanted = NAMES if names is None else names
    codecs = [
        (Latent if model.family else Model)(model, qualities, effort)
        for model in models
        for effort in efforts
    ]
    notes = []
    for name in sorted(wanted, key=CODECS.__contains__):  # those of models first
        try:
            codecs += _of(name, models, qualities)
        except MissingLibraryError as error:
            if names is not None:
                raise
            notes.append(f"left out: {error}")
    called = [codec.name for codec in codecs]
    if twice := {name for name in called if called.count(name) > 1}:
        raise ValueError(f"expected codecs of different names. Received twice: {sorted(twice)}")
    if not codecs:
        raise ValueError("expected at least one codec or model. Received: none")
    return codecs, notes


def _of(name, models, qualities):
    if name in CODECS:
        return [CODECS[name]()]
    return [OF_MODELS[name](model, qualities) for model in models if not model.family]


def _check(names, models):
    if unknown := [name for name in names or () if name not in NAMES]:
        raise ValueError(f"expected codecs of {', '.join(NAMES)}. Received: {unknown[0]!r}")
    if all(model.family for model in models) and (
        alone := [name for name in names or () if name in OF_MODELS]
    ):
        raise ValueError(
            f"codec {alone[0]!r} is for a model around JPEG: expected --models. Received: none"
        )


def find(name, codecs):
    """What the codec that a user names is called in rows.

    Args:
        name: of `CODECS`, or a model's.
        codecs: those that are measured.

    Raises:
        ValueError: it is not among them.
    """
    called = [codec.name for codec in codecs]
    known = CODECS[name].name if name in CODECS else name
    if known not in called:
        raise ValueError(
            f"expected one of the codecs that are measured, {', '.join(called)}. Received: {name!r}"
        )
    return known
