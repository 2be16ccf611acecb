"""The command line: `cnn-compression VERB [flags] FILES...`.

A verb is a module of this package with

    HELP: str                       what `VERB --help` prints above the verb's flags
    add_flags(values)               defines the verb's flags in an `absl.flags.FlagValues`
    run(values, arguments) -> int   does it; `values` are parsed, `arguments` is what is not a flag
    KNOWN_FLAGS_ONLY = True         where unknown flags are arguments too

`run` returns the exit status. What it raises as `ValueError`, `OSError`, `flags.Error` or an error
of TensorFlow's ops ends the command with that one line. A verb imports TensorFlow inside `run`, so
that `--help` is quick.
"""

import importlib
import logging
import os
import sys
import warnings

from absl import flags

from cnn_compression import __version__
from cnn_compression.cli import common

VERBS = {
    "encode": "images -> payloads, JPEG files that any viewer opens",
    "decode": "payloads -> restored images",
    "info": "what payloads say of themselves, one line each",
    "train": "photographs -> a model",
    "export": "a model -> a SavedModel, for TensorFlow Serving and for the verbs above",
    "serve": "TensorFlow Serving's REST and gRPC on this machine, with a page to look at",
    "batch": "encode or decode on many machines, by Apache Beam",
    "benchmark": "how good models are on images, beside JPEG, WebP, AVIF and others",
    "demo": "a photograph there and back, beside JPEG at the same bytes",
}
INTERRUPTED = 130

HELP = f"""\
cnn-compression {__version__}: neural image compression that stays a JPEG.

usage: cnn-compression VERB [flags] FILES...

{common.table(VERBS.items())}

cnn-compression VERB --help    the flags of a verb
cnn-compression --version
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 if anything failed, 130 if interrupted.
    """
    _quieten_tensorflow()
    _quieten_pillow()
    try:
        status = _dispatch(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        common.complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, `head` perhaps, has what it wanted; Python would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (flags.Error, ValueError, OSError, *_errors_of_tensorflow()) as error:
        common.complain(common.reason(error))
        return 1


def _dispatch(words: list[str]) -> int:
    verb, words = (words[0], words[1:]) if words else (None, [])
    if verb in ("--help", "-h"):
        print(HELP, end="")
        return 0
    if verb == "--version":
        print(f"cnn-compression {__version__}")
        return 0
    if verb not in VERBS:
        raise flags.Error(
            f"expected a verb: {', '.join(VERBS)}; see cnn-compression --help. "
            f"Received: {verb or 'none'}"
        )
    module = importlib.import_module(f"cnn_compression.cli.{verb}")
    values = flags.FlagValues()
    values.set_gnu_getopt()  # flags may come after files
    module.add_flags(values)
    if common.asks_for_help(words):
        print(f"{module.HELP.strip()}\n\n{common.describe(values)}".strip())
        return 0
    known_only = getattr(module, "KNOWN_FLAGS_ONLY", False)
    return module.run(values, values([verb, *words], known_only=known_only)[1:])


def _errors_of_tensorflow() -> tuple[type[Exception], ...]:
    """What its ops raise (out of memory, say), if it was started; to import it takes seconds."""
    tensorflow = sys.modules.get("tensorflow")
    return (tensorflow.errors.OpError,) if tensorflow else ()


def _quieten_pillow() -> None:
    """What it has to say of a damaged file is in the line that refuses it."""
    warnings.filterwarnings("ignore", module=r"PIL\b")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def _quieten_tensorflow() -> None:
    """Leaves the user's terminal to the user; the environment still has the last word."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3":
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
