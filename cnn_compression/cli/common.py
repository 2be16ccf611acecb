"""What verbs share: flags and their help, one line per failure, the loop over files.

A verb over files goes `gather` (arguments -> sources), then `each` (source -> result), and a
`Tally` goes with it and ends as the summary and the exit status. Those that write go `convert`,
which puts `place` (source -> target) in between.
"""

import functools
import importlib
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from absl import flags

import cnn_compression
from cnn_compression import files
from cnn_compression.container import PAYLOAD_SUFFIX

PAYLOADS = f"*{PAYLOAD_SUFFIX} files"
# What TensorFlow puts before the text of an error inside a graph.
TRACE = re.compile(r"Graph execution error:|Detected at node |\s+File |\s*$")
HELP_WORDS = ("--help", "-help", "-h")


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
    return text


def parse_quality(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 100):
        raise ValueError("expected an integer from 1 to 100")
    return int(text)


PATH = Parser("PATH", _path)
QUALITY = Parser("1..100", parse_quality)


def add_quality_flag(values: flags.FlagValues) -> None:
    help_text = "as in JPEG: higher is better and larger"
    flags.DEFINE(QUALITY, "quality", "50", help_text, flag_values=values, short_name="q")


def add_model_flag(values: flags.FlagValues) -> None:
    help_text = "a name in saved_models, or the folder of an exported model"
    flags.DEFINE_string("model", "default", help_text, flag_values=values)


def add_output_flags(values: flags.FlagValues, default: str) -> None:
    """Defines `--output` and `--overwrite`, which `place` obeys."""
    help_text = (
        f"file or folder to write; without it {default} beside the input. "
        "It is a folder if it is one, ends in '/', or there are several inputs"
    )
    flags.DEFINE(PATH, "output", None, help_text, flag_values=values, short_name="o")
    flags.DEFINE_boolean("overwrite", False, "replace existing outputs", flag_values=values)


def start_tensorflow() -> None:
    """Imports TensorFlow, which takes seconds, without what it prints at that.

    Call it before the first import of a module of ours that needs TensorFlow: 2.21 writes some
    lines before it reads TF_CPP_MIN_LOG_LEVEL, and straight to the descriptor.
    """
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        importlib.import_module("tensorflow")
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def load_codec(name: str):
    """`cnn_compression.load`, which raises ValueError where there is no such model."""
    start_tensorflow()
    return cnn_compression.load(name)


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


@dataclass(frozen=True)
class Result:
    """What was done with one file; `payload_bytes` over `pixels` of the original is the rate."""

    bytes_in: int = 0
    bytes_out: int = 0
    payload_bytes: int = 0
    pixels: int = 0
    notes: tuple[str, ...] = ()
    line: str = ""  # for stdout


@dataclass
class Tally:
    """What was done with all files of one call."""

    results: list[Result] = field(default_factory=list)
    failed: int = 0
    start: float = field(default_factory=time.monotonic)

    def fail(self, path: str | os.PathLike, error: Exception) -> None:
        self.failed += 1
        complain(reason(error, path), path)

    @property
    def status(self) -> int:
        return 1 if self.failed else 0

    @property
    def summary(self) -> str:
        def total(name):
            return sum(getattr(result, name) for result in self.results)

        count = len(self.results) + self.failed
        written = f" -> {total('bytes_out')}" if total("bytes_out") else ""
        pixels = total("pixels")
        rate = f"{8 * total('payload_bytes') / pixels:.3f} bpp, " if pixels else ""
        return (
            f"{count} file{'s'[: count != 1]}, {self.failed} failed, "
            f"{total('bytes_in')}{written} bytes, {rate}"
            f"{time.monotonic() - self.start:.1f} s"
        )


def convert(
    values: flags.FlagValues,
    arguments: list[str],
    keep: Callable[[Path], bool],
    kind: str,
    rename: Callable[[Path], str],
    open_worker: Callable[[], Callable[[Path, Path], Result]],
    at_once: int = 1,
) -> int:
    """All of a verb that writes a file for each file; returns the exit status.

    Args:
        values: of the flags of `add_output_flags`.
        arguments, keep, kind: as for `gather`.
        rename: as for `place`.
        open_worker: called once if there is anything to do, it loads the model and returns the
            function that reads the first path, writes the second and raises what goes wrong.
        at_once: as for `each`.
    """
    tally = Tally()
    sources = gather(arguments, keep, kind, tally)
    targets = place(sources, arguments, values, rename, tally)
    if targets:
        worker = open_worker()
        make_folders(targets.values())
        each(targets, lambda source: worker(source, targets[source]), tally, at_once=at_once)
    print(tally.summary)
    return tally.status


def gather(
    arguments: list[str], keep: Callable[[Path], bool], kind: str, tally: Tally
) -> list[Path]:
    """The files that the arguments name, each once; a folder gives those that `keep` keeps.

    A folder that has none of this `kind`, and what does not exist, is a failure for the tally.
    """
    if not arguments:
        raise ValueError("expected at least one file or folder; see --help. Received: none")
    sources = {}
    for argument in arguments:
        try:
            found = files.find_files([argument], keep)
            if not found:
                raise ValueError(f"the folder has no {kind}")
            sources.update((os.path.abspath(path), path) for path in found)
        except (OSError, ValueError) as error:
            tally.fail(argument, error)
    return list(sources.values())


def place(
    sources: list[Path],
    arguments: list[str],
    values: flags.FlagValues,
    rename: Callable[[Path], str],
    tally: Tally,
) -> dict[Path, Path]:
    """Decides what is written where, before any work.

    Args:
        sources, arguments: the inputs, as `gather` found them and as the user named them.
        values: of the flags of `add_output_flags`.
        rename: the input -> the name of its output where the user gave none.
        tally: is told of the inputs whose output may not be written.

    Returns:
        The input -> its output, without those inputs.

    Raises:
        ValueError: two inputs have one output, or `--output` is a file and must be a folder.
    """
    folder, file = _split_output(values.output, arguments)
    writers = {}
    for source in sources:
        target = file or Path(folder or source.parent) / rename(source)
        other, _ = writers.setdefault(os.path.realpath(target), (source, target))
        if other != source:
            both = f"{shown(other)} and {shown(source)} would both write {shown(target)}"
            raise ValueError(f"{both}: nothing was done; give them different folders")
    inputs = identities(sources)
    targets = {}
    for source, target in writers.values():
        try:
            check_file(target, inputs, values.overwrite)
            if not folder:  # which is made if need be, after what else could stop the work
                check_folder(target.parent)
            targets[source] = target
        except (OSError, ValueError) as error:
            tally.fail(source, error)
    return targets


def _split_output(output: str | None, arguments: list[str]) -> tuple[Path | None, Path | None]:
    """What `--output` means: (folder, None), (None, file), or (None, None) if it was not given."""
    if output is None:
        return None, None
    several = len(arguments) > 1 or any(map(os.path.isdir, arguments))
    if not (several or output.endswith(("/", os.sep)) or os.path.isdir(output)):
        return None, Path(output)
    if os.path.exists(output.rstrip("/" + os.sep)) and not os.path.isdir(output):
        raise ValueError(f"expected --output to be a folder. Received the file: {shown(output)}")
    return Path(output), None


def identities(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Files by number, not by name: links and case must not hide that two of them are one."""
    return {(status.st_dev, status.st_ino) for status in map(os.stat, paths)}


def check_file(target: Path, inputs: set[tuple[int, int]], overwrite: bool) -> None:
    """Raises ValueError where something at `target` must stay; `inputs` are `identities`."""
    if not target.exists():
        return
    if identities([target]) & inputs:
        raise ValueError(f"the output would be an input: {shown(target)}")
    if not target.is_file():
        raise ValueError(f"the output exists and is no regular file: {shown(target)}")
    if not overwrite:
        raise ValueError(f"the output exists: {shown(target)}; pass --overwrite to replace it")


def check_folder(folder: Path) -> None:
    """Raises ValueError where no file can be written to `folder`."""
    if not folder.is_dir():
        raise ValueError(f"the output's folder does not exist: {shown(folder)}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"the output's folder cannot be written: {shown(folder)}")


def make_folders(targets: Iterable[Path]) -> None:
    """Makes the outputs' folders; raises OSError or ValueError, one for all that is the matter."""
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)


def each(
    sources: Iterable[Path],
    work: Callable[[Path], Result],
    tally: Tally,
    progress=None,
    at_once: int = 1,
) -> None:
    """Does every file; one that fails is said on stderr and the others are done.

    `progress` stands in for `show_progress`; with `at_once` above 1, `work` is called in threads.
    """
    sources, progress = list(sources), progress or show_progress
    for index, (source, outcome) in enumerate(_outcomes(sources, work, at_once)):
        progress(index, len(sources), source)
        try:
            result = outcome()
        except Exception as error:  # whatever a file provokes, it is that file's failure only
            tally.fail(source, error)
            continue
        tally.results.append(result)
        for note in result.notes:
            complain(f"note: {note}", source)
        if result.line:
            progress()
            print(result.line)
    progress()


def _outcomes(sources, work, at_once):
    """Pairs of a source and a function that gives its result, or raises."""
    if at_once == 1:
        yield from ((source, functools.partial(work, source)) for source in sources)
        return
    threads = ThreadPoolExecutor(at_once)
    try:
        futures = [threads.submit(work, source) for source in sources]
        yield from (
            (source, future.result) for source, future in zip(sources, futures, strict=True)
        )
    finally:
        threads.shutdown(cancel_futures=True)


def show_progress(done: int = 0, count: int = 0, path: str | Path | None = None) -> None:
    """Draws a bar on a terminal's last line; without arguments, wipes it."""
    if not sys.stderr.isatty():
        return
    text = ""
    if path is not None:
        filled = 20 * done // count
        text = f"[{'#' * filled}{'.' * (20 - filled)}] {done}/{count} {shown(path)}"
    line = text[: shutil.get_terminal_size().columns - 1]
    print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
