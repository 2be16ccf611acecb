"""What verbs share: flags, their help, and one line a failure."""

import contextlib
import functools
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import zip_longest

from absl import flags

import cnn_compression
from cnn_compression import process
from cnn_compression.payload.layout import MAX_PIXELS

# What TensorFlow puts before the text of an error inside a graph.
TRACE = re.compile(r"Graph execution error:|Detected at node |\s+File |\s*$")
MANIFEST_KINDS = (".csv", ".jsonl")
HELP_WORDS = ("--help", "-help", "-h")
# What stands before a unit; SIZES is how help says it.
PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
SIZES = "kB and MB are 1000 and 1000000 bytes, KiB and MiB 1024 and 1048576"


class UsageError(flags.Error):
    """The words of a command do not go together: its status is that of a flag that is none."""


class Parser(flags.ArgumentParser):
    """A flag's text -> its value, by `convert`, which raises ValueError; `kind` is for the help."""

    def __init__(self, kind: str, convert: Callable = str):
        super().__init__()
        self.kind = kind
        self.convert = convert

    def parse(self, argument):
        return self.convert(argument)

    def flag_type(self):
        return self.kind


def _path(text: str) -> str:
    if not text:
        raise ValueError("expected a file or folder. Received: ''")
    return os.path.expanduser(text)  # which shells leave to us in --output=~/small


def _manifest(text: str) -> str:
    if not text.lower().endswith(MANIFEST_KINDS):
        raise ValueError(f"expected a name that ends in {' or '.join(MANIFEST_KINDS)}")
    return text


def parse_quality(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 100):
        raise ValueError("expected an integer from 1 to 100")
    return int(text)


def _parse_amount(unit: str, text: str) -> int:
    match = re.fullmatch(rf"([0-9]*\.?[0-9]+) ?(([kmg]i?)?{unit}?)", text.strip(), re.IGNORECASE)
    number, suffix = match.group(1, 2) if match else ("0", "")
    whole = number.isdecimal() or suffix.lower() not in ("", unit.lower())
    amount = int(Decimal(number) * PREFIXES[(match and match[3] or "").lower()]) if whole else 0
    if amount < 1:
        raise ValueError(f"expected a number above 0, such as 50000, 50k{unit} or 1.5M{unit}")
    return amount


def _parse_number(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError("expected a number above 0")
    return number


PATH = Parser("PATH", _path)
MODEL = Parser("NAME", _path)
NUMBER = Parser("NUMBER", _parse_number)
BYTES = Parser("BYTES", functools.partial(_parse_amount, "B"))
PIXELS = Parser("PIXELS", functools.partial(_parse_amount, "P"))
QUALITY = Parser("1..100", parse_quality)


def add_quality_flag(values: flags.FlagValues) -> None:
    help_text = "as in JPEG: higher is better and larger; some models have a scale of their own"
    flags.DEFINE(QUALITY, "quality", "50", help_text, flag_values=values, short_name="q")


def add_model_flag(values: flags.FlagValues) -> None:
    help_text = "a name in saved_models, or the folder of an exported model"
    flags.DEFINE(MODEL, "model", "default", help_text, flag_values=values, short_name="m")


def add_overwrite_flag(values: flags.FlagValues) -> None:
    help_text = "replace existing outputs"
    flags.DEFINE_boolean("overwrite", False, help_text, flag_values=values, short_name="f")


def add_max_pixels_flag(values: flags.FlagValues) -> None:
    help_text = "refuse larger images, by what their headers say; 100MP are 100 million"
    flags.DEFINE(PIXELS, "max_pixels", str(MAX_PIXELS), help_text, flag_values=values)


def add_colour_flag(values: flags.FlagValues) -> None:
    help_text = "srgb converts by the file's colour profile; as_is leaves its numbers"
    flags.DEFINE_enum("colour", "srgb", ["srgb", "as_is"], help_text, flag_values=values)


def add_metadata_flag(values: flags.FlagValues) -> None:
    help_text = (
        "carry Exif (without orientation and thumbnail), XMP and copyright into the payload and "
        "on into what it restores to; else they are left out"
    )
    flags.DEFINE_boolean("keep_metadata", False, help_text, flag_values=values)


def add_output_flags(values: flags.FlagValues, default: str) -> None:
    """Defines what `file_loop.convert` obeys: inputs' folders, outputs, and the manifest."""
    help_text = (
        f"file or folder to write, or - for standard output; without it {default} beside the "
        "input. It is a folder if it is one, ends in '/', or there are several inputs"
    )
    flags.DEFINE(PATH, "output", None, help_text, flag_values=values, short_name="o")
    add_overwrite_flag(values)
    help_text = "leave existing outputs as they are: goes on with what was stopped"
    flags.DEFINE_boolean("skip_existing", False, help_text, flag_values=values)
    help_text = "folders in folders too; below --output they are as below the input"
    flags.DEFINE_boolean("recursive", False, help_text, flag_values=values, short_name="r")
    help_text = "CSV or JSON lines to write: input, output, bytes, bpp and status of each file"
    parser = Parser("FILE.csv|.jsonl", _manifest)
    flags.DEFINE(parser, "manifest", None, help_text, flag_values=values)


def start_tensorflow() -> None:
    """As `process.start_tensorflow`, without any line.

    Call it before the first import of a module of ours that needs TensorFlow: 2.21 writes some
    lines before it reads TF_CPP_MIN_LOG_LEVEL, and straight to the descriptor, which is ours here.
    """
    quiet = os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3"
    with python_alone_on_stderr() if quiet else contextlib.nullcontext():
        process.start_tensorflow()


@contextlib.contextmanager
def python_alone_on_stderr():
    """Keeps what C code prints off the standard error stream; `sys.stderr` goes on."""
    sys.stderr.flush()
    usual, terminal = sys.stderr, os.dup(2)
    settings = {"encoding": usual.encoding, "errors": usual.errors}
    with open(os.devnull, "wb") as nowhere, open(terminal, "w", 1, **settings) as stream:
        os.dup2(nowhere.fileno(), 2)
        if _descriptor(usual) == 2:
            sys.stderr = stream
        try:
            yield
        finally:
            sys.stderr = usual
            os.dup2(terminal, 2)


def _descriptor(stream):
    try:
        return stream.fileno()
    except OSError:  # as `io.StringIO` says that it has none
        return None


def check_model(name: str) -> None:
    """Raises ValueError where there is no such model, which takes no TensorFlow to know."""
    from cnn_compression.codec.model_files import find_model

    find_model(name)


def latent_family(name: str) -> str | None:
    """The family of a latent model, as `model_files.latent_family`."""
    from cnn_compression.codec import model_files

    return model_files.latent_family(name)


Report = Callable[[int, int], None] | None  # of `Codec.reporting`


def load_codec(name: str, report: Report = None):
    """`cnn_compression.load`, which raises ValueError where there is no such model.

    On a terminal, `report` is told of the tiles of large images; see `Codec.reporting`.
    """
    start_tensorflow()
    codec = cnn_compression.load(name)
    return codec.reporting(report) if report and sys.stderr.isatty() else codec


def asks_for_help(words: list[str]) -> bool:
    flags_end = words.index("--") if "--" in words else len(words)
    return any(word in HELP_WORDS for word in words[:flags_end])


def describe(values: flags.FlagValues) -> str:
    """The flags of a verb and their help, in the order of their definition."""
    rows = []
    for name in values:
        flag = values[name]
        if name != flag.name:  # its short name: the same flag once more
            continue
        names = f"-{flag.short_name}, --{name}" if flag.short_name else f"--{name}"
        if flag.boolean:
            names = names.replace("--", "--[no]") if flag.default else names
        else:
            choices = getattr(flag.parser, "enum_values", None)
            names += "=" + ("|".join(choices) if choices else flag.parser.flag_type().upper())
        default = flag.default
        if isinstance(default, (list, tuple)):
            default = ",".join(map(str, default))
        silent = default is None or default is False or default == ""  # 0 is worth saying
        rows.append((names, flag.help + ("" if silent else f" (default: {default})")))
    return table(rows)


def table(rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max((len(left) for left, _ in rows), default=0)
    lines = [
        f"  {cell:{width}}  {text}"
        for left, right in rows
        for cell, text in zip_longest([left], _wrap(right, 96 - width), fillvalue="")
    ]
    return "\n".join(lines)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width)


def complain(reason: str, path: str | os.PathLike | None = None) -> None:
    """Prints one line on stderr, over what a progress bar may have left there."""
    bar = "\r\033[K" if sys.stderr.isatty() else ""
    where = f"{shown(path)}: " if path is not None else ""
    print(f"{bar}cnn-compression: {where}{reason}", file=sys.stderr)


def shown(path: str | os.PathLike) -> str:
    """A path as one printable line: names may hold newlines and bytes of no encoding."""
    text = os.fspath(path)
    if text == "/dev/stdin":
        return "-"
    return text if text.isprintable() else ascii(text)


def reason(error: Exception, path: str | os.PathLike | None = None) -> str:
    """One line that says why; names the file that an OSError is about, unless that is `path`."""
    if isinstance(error, OSError) and error.strerror:
        about = error.filename
        known = about is None or (path is not None and os.fspath(about) == os.fspath(path))
        return error.strerror if known else f"{shown(about)}: {error.strerror}"
    lines = [line for line in str(error).splitlines() if not TRACE.match(line)] or [""]
    # Other errors are none that anybody foresaw: their text says little without their name.
    foreseen = isinstance(error, (ValueError, OSError, flags.Error)) and lines[0]
    return lines[0] if foreseen else f"{type(error).__name__}: {lines[0]}".rstrip(": ")
