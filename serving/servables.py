"""Models' versions on disk, as TensorFlow Serving finds them, loaded and run in this process."""

import logging
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from cnn_compression.export.warmup import WARMUP_FILE

DEFAULT_SIGNATURE = "serving_default"
log = logging.getLogger(__name__)


class NotFoundError(LookupError):
    """No such model or version."""


class Servable:
    """One version.

    Args:
        folder: `Path`, `<base path>/<version>`.

    Attributes:
        version: int.
        signature_defs: dict of name to `SignatureDef`.
    """

    def __init__(self, folder):
        self.version = int(folder.name)
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        [graph] = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
        self._model = tf.saved_model.load(str(folder))
        # What tf.saved_model keeps for itself has a name of its own.
        self.signature_defs = {
            name: graph.signature_def[name] for name in sorted(self._model.signatures)
        }
        self._warm_up(folder / WARMUP_FILE)

    def inputs_of(self, signature):
        """Input's name -> (NumPy dtype, rank), object for strings; of "" as of `serving_default`.

        Raises:
            ValueError: for another signature.
        """
        name = signature or DEFAULT_SIGNATURE
        if name not in self.signature_defs:
            known = ", ".join(self.signature_defs)
            raise ValueError(f"expected a signature: {known}. Received: {name!r}")
        return {
            key: (np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype), len(info.tensor_shape.dim))
            for key, info in self.signature_defs[name].inputs.items()
        }

    def _warm_up(self, file):
        """Runs the requests that lie with the model: a version that fails them is not served."""
        if not file.is_file():
            return
        for record in tf.data.TFRecordDataset(str(file)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            request = log.predict_log.request
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            self.run(request.model_spec.signature_name, inputs)

    def run(self, signature, inputs):
        """Runs a signature.

        Args:
            signature: its name; "" for `serving_default`.
            inputs: dict of name to array; bytes in arrays of objects.

        Returns:
            dict of name to array.

        Raises:
            ValueError: for another signature, other names, dtypes or ranks than it has, or inputs
                that the graph refuses as a whole.
        """
        expected = self.inputs_of(signature)
        if inputs.keys() != expected.keys():
            raise ValueError(f"expected inputs {sorted(expected)}. Received: {sorted(inputs)}")
        for name, (dtype, rank) in expected.items():
            given = inputs[name]
            if (given.dtype, given.ndim) != (dtype, rank):
                raise ValueError(
                    f"expected {name} as {dtype} of {rank} dimensions. "
                    f"Received: {given.dtype} of {given.ndim}"
                )
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        try:
            outputs = self._model.signatures[signature or DEFAULT_SIGNATURE](**tensors)
        except (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError) as error:
            own = re.search(r"assertion failed: \[([^]]*)\]", error.message)
            raise ValueError(own[1] if own else error.message) from error
        return {name: value.numpy() for name, value in outputs.items()}


@dataclass(frozen=True)
class State:
    """Of a version: `LOADING`, `AVAILABLE` or `END`, and why it is none of the former two."""

    version: int
    state: str
    error: str = ""


class Versions:
    """A model's versions on disk, the newest of which that loads is served.

    Args:
        name: of the model, as clients call it.
        base_path: folder of the versions.

    Raises:
        ValueError: where there is no version that loads.
    """

    def __init__(self, name, base_path):
        self.name, self.base_path = name, Path(base_path)
        self._current, self._states, self._failed = None, {}, {}
        self.look()
        if self._current is None:
            reasons = [f"version {state.version}: {state.error}" for state in self.states()]
            raise ValueError(
                f"expected a model's folder with <version>/saved_model.pb. Received: "
                f"{str(base_path)!r} {'; '.join(reasons)}".rstrip()
            )

    def get(self, version=None):
        """The `Servable`, of a version where that is given.

        Raises:
            NotFoundError: where it is not served.
        """
        current = self._current
        if version not in (None, current.version):
            raise NotFoundError(
                f"expected version {current.version} of {self.name!r}. Received: {version}"
            )
        return current

    def states(self):
        """List of `State`, the newest version first."""
        return sorted(self._states.values(), key=lambda state: -state.version)

    def look(self):
        """Loads the newest version where it is not loaded yet; then lets go of the one before."""
        found = [path for path in self.base_path.glob("*") if path.name.isdigit()]
        for folder in sorted(found, key=lambda path: -int(path.name)):
            version = int(folder.name)
            if self._current and version <= self._current.version:
                return
            written = max((path.stat().st_mtime for path in folder.rglob("*")), default=0.0)
            if self._failed.get(version) == written:
                continue
            self._states[version] = State(version, "LOADING")
            try:
                servable = Servable(folder)
            except Exception as error:  # whatever a broken folder provokes
                self._failed[version] = written  # tried again when something in it changes
                self._states[version] = State(version, "END", str(error))
                log.error("version %d of %s does not load: %s", version, self.name, error)
                continue
            before, self._current = self._current, servable
            self._states[version] = State(version, "AVAILABLE")
            log.info("version %d of %s is served", version, self.name)
            if before:
                self._states[before.version] = State(before.version, "END")
            return


class Servables:
    """Models by name; newer versions take the place of older ones as they come.

    Args:
        models: dict of name, as clients call it, to folder of the versions.
        poll_seconds: how often the folders are looked at.

    Attributes:
        names: of the models, in their order.

    Raises:
        ValueError: where one has no version that loads.
    """

    def __init__(self, models, poll_seconds=1.0):
        self._models = {name: Versions(name, base_path) for name, base_path in models.items()}
        self.names = tuple(self._models)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=[poll_seconds], daemon=True)
        self._thread.start()

    def get(self, name, version=None):
        """The `Servable` of a model's name, and of a version where that is given.

        Raises:
            NotFoundError: where it is not served.
        """
        return self._named(name).get(version)

    def states(self, name):
        """Of a model's name: list of `State`, the newest version first.

        Raises:
            NotFoundError: where there is no such model.
        """
        return self._named(name).states()

    def look(self):
        """Loads newer versions; an error of one model's folder keeps no other from it."""
        for versions in self._models.values():
            try:
                versions.look()
            except OSError as error:  # a folder of the network is away, say
                log.error("%s cannot be looked at: %s", versions.base_path, error)

    def close(self):
        self._closed.set()
        self._thread.join()

    def _named(self, name):
        if name not in self._models:
            known = " or ".join(map(repr, self.names))
            raise NotFoundError(f"expected the model {known}. Received: {name!r}")
        return self._models[name]

    def _watch(self, poll_seconds):
        while not self._closed.wait(poll_seconds):
            self.look()
