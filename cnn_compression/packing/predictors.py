"""The predicting networks' integers as files: `saved_models/packing/<number>.npz`.

A packed file names the networks that it was coded with, so those that were ever shipped stay.
"""

import contextlib
import functools
import hashlib
import io
import json
import threading
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnn_compression.packing.predictor import Arranged, Predictor, arranged, checked

_loading = threading.Lock()
_NOT_THERE = "in saved_models/packing: not there"


@dataclass(frozen=True, eq=False)
class Predictors:
    """Networks for luma and for chroma.

    Attributes:
        luma, chroma: `Predictor`.
        model: 16 hexadecimal digits: the decoder whose payloads they were trained on; "" of those
            for any JPEG.
    """

    luma: Predictor
    chroma: Predictor
    model: str

    @functools.cached_property
    def arranged(self) -> tuple[Arranged, Arranged]:
        """Both as `kernels` takes them."""
        return arranged(self.luma), arranged(self.chroma)

    @functools.cached_property
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
    """Predictors and their fingerprint: of those, or the newest for payloads.

    Raises:
        ValueError: where they are not installed.
    """
    if not fingerprint:
        return _newest(of_payloads=True)
    for file in _files():
        if _loaded(file)[1] == fingerprint:
            return _loaded(file)
    raise ValueError(f"expected the predicting networks {fingerprint} {_NOT_THERE}")


def find_for_jpegs() -> tuple[Predictors, str]:
    """The newest predictors for any JPEG; as `find`."""
    return _newest(of_payloads=False)


def _newest(of_payloads):
    for file in _files():
        if bool(_model(file)) == of_payloads:
            return _loaded(file)
    kind = "payloads" if of_payloads else "JPEGs"
    raise ValueError(f"expected the predicting networks for {kind} {_NOT_THERE}")


def _files():
    """Those that are installed, the newest first."""
    files = [file for folder in folders() for file in folder.glob("*.npz") if file.stem.isdigit()]
    return sorted(files, key=lambda file: -int(file.stem))


def _loaded(file):
    with _loading:
        return _load(file)


@functools.lru_cache(maxsize=4)
def _load(file):
    predictors = load(file)
    return predictors, predictors.fingerprint


@functools.lru_cache(maxsize=4)
def _model(file):
    """What a file's predictors are for, without loading them."""
    with _opened(file) as arrays:
        return json.loads(arrays["about"].tobytes())["model"]


@contextlib.contextmanager
def _opened(file):
    try:
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{str(file)!r} cannot be read as predictors: {error}") from error


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
    with _opened(file) as arrays:
        model = json.loads(arrays["about"].tobytes())["model"]
        parts = [
            checked(Predictor(*(arrays[f"{part}/{name}"] for name in Predictor._fields)))
            for part in ("luma", "chroma")
        ]
    return Predictors(*parts, model)
