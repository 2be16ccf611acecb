"""The predicting networks' integers as files: `saved_models/packing/<number>.npz`.

A packed file names the networks that it was coded with, so those that were ever shipped stay.
"""

import functools
import hashlib
import io
import json
import threading
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnn_compression.packing.predictor import Predictor, checked

_loading = threading.Lock()


class Predictors(NamedTuple):
    """Networks for luma and for chroma.

    Attributes:
        luma, chroma: `Predictor`.
        model: 16 hexadecimal digits: the decoder whose payloads they were trained on.
    """

    luma: Predictor
    chroma: Predictor
    model: str

    @property
    def fingerprint(self) -> str:
        """8 hexadecimal digits that packed files carry: of all integers and what they are."""
        digest = hashlib.sha256(self.model.encode())
        for part in (self.luma, self.chroma):
            for name, array in part._asdict().items():
                digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
                digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()[:8]


def folders() -> list[Path]:
    """Where predictors are looked for: with the package, in a checkout or a wheel."""
    package = Path(__file__).resolve().parents[1]
    homes = [package.parent / "saved_models", package / "saved_models"]
    return [home / "packing" for home in homes if (home / "packing").is_dir()]


def find(fingerprint: str | None = None) -> tuple[Predictors, str]:
    """Predictors and their fingerprint: of those, or the newest.

    Raises:
        ValueError: where they are not installed.
    """
    files = [file for folder in folders() for file in folder.glob("*.npz") if file.stem.isdigit()]
    for file in sorted(files, key=lambda file: -int(file.stem)):
        with _loading:
            predictors, own = _load(file)
        if fingerprint in (None, own):
            return predictors, own
    named = f" {fingerprint}" if fingerprint else ""
    raise ValueError(f"expected the predicting networks{named} in saved_models/packing: not there")


@functools.lru_cache(maxsize=4)
def _load(file):
    predictors = load(file)
    return predictors, predictors.fingerprint


def saved(predictors: Predictors) -> bytes:
    """A file's bytes, which `load` reads."""
    arrays = {
        f"{part}/{name}": array
        for part in ("luma", "chroma")
        for name, array in getattr(predictors, part)._asdict().items()
    }
    about = json.dumps({"model": predictors.model})
    file = io.BytesIO()
    np.savez_compressed(file, about=np.frombuffer(about.encode(), np.uint8), **arrays)
    return file.getvalue()


def load(file: Path) -> Predictors:
    """Reads predictors.

    Raises:
        ValueError: where the file is something else.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            model = json.loads(arrays["about"].tobytes())["model"]
            parts = [
                checked(Predictor(*(arrays[f"{part}/{name}"] for name in Predictor._fields)))
                for part in ("luma", "chroma")
            ]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{str(file)!r} cannot be read as predictors: {error}") from error
    return Predictors(*parts, model)
