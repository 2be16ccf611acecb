"""The command line: `cnn-compression VERB [flags] FILES...`.

A verb is a module of this package with

    HELP: str                       what `VERB --help` prints above the verb's flags
    add_flags(values)               defines the verb's flags in an `absl.flags.FlagValues`
    run(values, arguments) -> int   does it; `values` are parsed, `arguments` is what is not a flag
    KNOWN_FLAGS_ONLY = True         where unknown flags are arguments too

`run` returns the exit status. What it raises as `ValueError`, `OSError` or an error of TensorFlow's
ops ends the command with that one line and status 1, as `flags.Error` with status 2. A verb imports
TensorFlow inside `run`, so that `--help` is quick.
"""

import contextlib
import importlib
import logging
import os
import sys
import warnings

from absl import flags

from cnn_compression import __version__
from cnn_compression.cli import common, words

VERBS = {
    "encode": "images -> payloads, JPEG files that any viewer opens",
    "decode": "payloads -> restored images",
    "pack": "JPEGs -> the same in a quarter or a third fewer bytes, no JPEG until unpacked",
    "unpack": "packed files -> the JPEGs, byte for byte",
    "info": "what payloads say of themselves, one line each",
    "train": "photographs -> a model",
    "train_packing": "photographs -> the networks that pack predicts with",
    "export": "a model -> a SavedModel, for TensorFlow Serving and for the verbs above",
    "serve": "TensorFlow Serving's REST and gRPC on this machine, with a page to look at",
    "batch": "encode or decode on many machines, by Apache Beam",
    "benchmark": "how good models are on images, beside JPEG, WebP, AVIF and others",
    "demo": "a photograph there and back, beside JPEG at the same bytes",
}
FAILED, MISUSED, INTERRUPTED = 1, 2, 130

HELP = f"""\
cnn-compression {__version__}: neural image compression that stays a JPEG.

usage: cnn-compression VERB [flags] FILES...

{common.table(VERBS.items())}

cnn-compression VERB --help    the flags of a verb
cnn-compression --version

Ends with 0 if all went well, 1 if anything failed, 2 if this is no command, 130 if interrupted.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 if anything failed, 2 if the words are no command, 130 if interrupted.
    """
    _mend_streams()
    _quieten_tensorflow()
    _quieten_pillow()
    try:
        status = _dispatch(sys.argv[1:] if argv is None else list(argv))
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        common.complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` perhaps, has what it wanted
        _give_up_stdout()
        return FAILED
    except flags.Error as error:
        common.complain(common.reason(error))
        return MISUSED
    except (ValueError, OSError, *_errors_of_tensorflow()) as error:
        common.complain(common.reason(error))
        _give_up_stdout()
        return FAILED


def _dispatch(arguments: list[str]) -> int:
    verb, arguments = (arguments[0], arguments[1:]) if arguments else (None, [])
    if verb in ("--help", "-h"):
        print(HELP, end="")
        return 0
    if verb == "--version":
        print(f"cnn-compression {__version__}")
        return 0
    if verb not in VERBS:
        raise flags.Error(
            f"expected a verb: {', '.join(VERBS)}; see cnn-compression --help. "
            f"Received: {verb or 'none'}{words.suggestion(verb or '', VERBS)}"
        )
    module = importlib.import_module(f"cnn_compression.cli.{verb}")
    values = flags.FlagValues()
    values.set_gnu_getopt()  # flags may come after files
    module.add_flags(values)
    if common.asks_for_help(arguments):
        print(f"{module.HELP.strip()}\n\n{common.describe(values)}".strip())
        return 0
    known_only = getattr(module, "KNOWN_FLAGS_ONLY", False)
    arguments = words.spelled_out(arguments, values)
    return module.run(values, values([verb, *arguments], known_only=known_only)[1:])


def _give_up_stdout() -> None:
    """Keeps Python from one more flush at exit where standard output takes nothing any more."""
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):  # full, closed, or its reader is gone
        with contextlib.suppress(OSError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _errors_of_tensorflow() -> tuple[type[Exception], ...]:
    """What its ops raise (out of memory, say), if it was started; to import it takes seconds."""
    tensorflow = sys.modules.get("tensorflow")
    return (tensorflow.errors.OpError,) if tensorflow else ()


def _mend_streams() -> None:
    """What was closed (`2>&-`) is the null device, so that no file of ours takes its number; a name
    that a stream's encoding lacks is escaped."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(file, True)
    os.close(file)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not of a host that put a stream of its own there
            stream.reconfigure(errors="backslashreplace")


def _quieten_pillow() -> None:
    """What it has to say of a damaged file is in the line that refuses it."""
    warnings.filterwarnings("ignore", module=r"PIL\b")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def _quieten_tensorflow() -> None:
    """Leaves the user's terminal to the user; the environment still has the last word."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3":
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
