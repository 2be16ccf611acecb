"""What TensorFlow does to the process that it starts in, which may be somebody else's."""

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator

_starting = threading.RLock()
_forked = False  # whether this process has a started TensorFlow from its parent


def start_tensorflow() -> None:
    """Imports TensorFlow and Keras, which takes seconds, without the lines they print at that.

    What they are told by the environment is theirs alone: afterwards it is as it was, and so is
    what children inherit. A host's own settings have the last word.
    """
    with _starting:  # the two import each other: threads that come at once would be in the way
        missing = [name for name in ("tensorflow", "keras") if name not in sys.modules]
        if missing:
            # Another backend than TensorFlow can be named, to train the networks under it.
            with (
                _environment("TF_CPP_MIN_LOG_LEVEL", "3"),
                _environment("KERAS_BACKEND", "tensorflow"),
            ):
                for name in missing:
                    importlib.import_module(name)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Sets a variable that is not set."""
    given = name in os.environ
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if not given:
            os.environ.pop(name, None)


def check_not_forked() -> None:
    """Raises RuntimeError where TensorFlow would wait for ever: for its threads in the parent."""
    if _forked:
        raise RuntimeError(
            "expected a process that starts TensorFlow itself. Received: a fork of one that had "
            "started it, in which it hangs; start processes by "
            "multiprocessing.get_context('spawn'), or load the codec after the fork only"
        )


def _after_fork() -> None:
    global _forked
    _forked = _forked or _tensorflow_runs()


def _tensorflow_runs() -> bool:
    """Whether TensorFlow has threads, which it gets with its first op; importing it gives none."""
    context = sys.modules.get("tensorflow.python.eager.context")
    if context is None:
        return False
    try:
        current = context.context_safe()
        return current is not None and current._context_handle is not None
    except AttributeError:  # of a TensorFlow that keeps it elsewhere
        return True


os.register_at_fork(after_in_child=_after_fork)
