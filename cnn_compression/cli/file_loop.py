"""The loop over files.

A verb over files goes `gather` (arguments -> sources), then `each` (source -> result), and a
`Tally` goes with it and ends as the summary, the exit status and the manifest. Those that write go
`convert`, which puts `place` (source -> target) in between.
"""

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from cnn_compression.cli import common, manifest, streams, words
from cnn_compression.cli.common import UsageError, complain, shown
from cnn_compression.cli.places import (
    check_file,
    check_folder,
    gather,
    identities,
    make_folders,
    place,
)
from cnn_compression.cli.progress import BAR
from cnn_compression.cli.tally import Result, Tally
from cnn_compression.packing.layout import PACKED_SUFFIX
from cnn_compression.payload.latent_layout import LATENT_SUFFIX
from cnn_compression.payload.layout import PAYLOAD_SUFFIX

PAYLOADS = f"*{PAYLOAD_SUFFIX} files"
RESTORABLES = f"*{PAYLOAD_SUFFIX}, *{LATENT_SUFFIX} or *{PACKED_SUFFIX} files"


@dataclass(frozen=True)
class Conversion:
    """What a verb that writes a file for each file does with one.

    Attributes:
        keep, kind: as for `gather`.
        rename, accept: as for `place`.
        read: (input, output) -> all that the model needs to know; it raises what is wrong with the
            input that no model is needed for.
        open_model: called once, if any input could be read, with whether one file at a time will be
            in work. It loads the model and returns the function (what `read` gave, output) ->
            `Result` that writes the output and raises what goes wrong.
    """

    keep: Callable[[Path], bool]
    kind: str
    rename: Callable[[Path], str]
    accept: Callable[[Path], None]
    read: Callable[[Path, Path], Any]
    open_model: Callable[[bool], Callable[[Any, Path], Result]]


def convert(
    values: flags.FlagValues, arguments: list[str], conversion: Conversion, jobs: int
) -> int:
    """All of a verb that writes a file for each file; returns the exit status.

    Args:
        values: of the flags of `add_output_flags`.
        arguments: the inputs as the user named them.
        conversion: what is done with each.
        jobs: how many files to have in work, if there are so many.
    """
    if values.overwrite and values.skip_existing:
        raise UsageError("expected --overwrite or --skip_existing. Received: both")
    tally, arguments = Tally(), words.inputs(arguments)
    sources = gather(arguments, conversion.keep, conversion.kind, tally, values.recursive)
    targets = place(sources, arguments, values, conversion.rename, conversion.accept, tally)
    rows = _check_manifest(values, sources, targets.values()) if values.manifest else []
    known = _read_first(targets, conversion.read, tally)
    jobs = max(min(jobs, len(targets)), 1)
    work = conversion.open_model(jobs == 1) if targets else None
    make_folders(targets.values())

    def one(source: Path) -> Result:
        target = targets[source]
        return work(known.pop(source, None) or conversion.read(source, target), target)

    try:
        each(targets, one, tally, at_once=jobs)
    finally:
        if values.manifest:
            replaces = values.overwrite or values.skip_existing
            manifest.write(Path(values.manifest), manifest.joined(rows, tally.rows), replaces)
    print(tally.summary, file=sys.stderr if _fills_stdout(values, arguments) else sys.stdout)
    return tally.status


def _read_first(
    targets: dict[Path, Path], read: Callable[[Path, Path], Any], tally: Tally
) -> dict[Path, Any]:
    """The first input that can be read, and what it is; refuses those before, and drops them.

    So what fails without a model fails before one is loaded, which takes seconds.
    """
    for source, target in list(targets.items()):
        try:
            with common.python_alone_on_stderr():
                return {source: read(source, target)}
        except Exception as error:  # whatever a file provokes, it is that file's failure only
            tally.fail(source, error)
            del targets[source]
    return {}


def _fills_stdout(values: flags.FlagValues, arguments: list[str]) -> bool:
    """Whether standard output is for an output alone."""
    if values.output is None:
        return str(streams.STDIN) in arguments
    return values.output == "-" or streams.is_stdout(Path(values.output))


def _check_manifest(
    values: flags.FlagValues, sources: Iterable[Path], targets: Iterable[Path]
) -> list[tuple]:
    """Raises ValueError where it may not be written; gives its rows where the work goes on."""
    path, targets = Path(values.manifest), list(targets)
    if os.path.realpath(path) in map(os.path.realpath, targets):
        raise UsageError(f"the manifest would be an output: {shown(path)}")
    check_file(path, identities(sources), values.overwrite or values.skip_existing)
    if not any(target.is_relative_to(path.parent) for target in targets):
        check_folder(path.absolute().parent)
    return manifest.read(path) if values.skip_existing and path.exists() else []


def each(
    sources: Iterable[Path],
    work: Callable[[Path], Result],
    tally: Tally,
    progress=None,
    at_once: int = 1,
) -> None:
    """Does every file; one that fails is said on stderr and the others are done.

    `progress` stands in for `BAR.files`; with `at_once` above 1, `work` is called in threads.
    """
    sources, progress = list(sources), progress or BAR.files

    def take(index, outcome):
        source = sources[index]
        progress(index, len(sources), source)
        try:
            result = outcome(source)
        except BrokenPipeError:  # who reads the output has gone: there is nobody to go on for
            raise
        except Exception as error:  # whatever a file provokes, it is that file's failure only
            tally.fail(source, error)
            return
        tally.add(source, result)
        for note in result.notes:
            complain(f"note: {note}", source)
        if result.line:
            progress()
            print(result.line)

    # C libraries print complaints of their own.
    with common.python_alone_on_stderr():
        if at_once == 1:
            for index in range(len(sources)):
                take(index, work)
        else:
            _in_threads(sources, work, tally, take, at_once)
    progress()


def _in_threads(sources, work, tally, take, at_once):
    threads = ThreadPoolExecutor(at_once)
    futures = [threads.submit(work, source) for source in sources]
    taken = 0
    try:
        for taken, future in enumerate(futures):
            take(taken, lambda _, future=future: future.result())
        taken = len(futures)
    finally:  # where the loop was interrupted, some files are done that nobody asked for yet
        threads.shutdown(cancel_futures=True)
        for source, future in zip(sources[taken:], futures[taken:], strict=True):
            if not future.cancelled() and future.exception() is None:
                tally.add(source, future.result())
