"""The loop over files.

A verb over files goes `gather` (arguments -> sources), then `each` (source -> result), and a
`Tally` goes with it and ends as the summary, the exit status and the manifest. Those that write go
`convert`, which puts `place` (source -> target) in between.
"""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, manifest
from cnn_compression.cli.common import complain, reason, shown
from cnn_compression.cli.progress import BAR
from cnn_compression.payload.layout import PAYLOAD_SUFFIX

PAYLOADS = f"*{PAYLOAD_SUFFIX} files"


@dataclass(frozen=True)
class Result:
    """What was done with one file; `payload_bytes` over `pixels` of the original is the rate."""

    bytes_in: int = 0
    bytes_out: int = 0
    payload_bytes: int = 0
    pixels: int = 0
    output: Path | None = None
    notes: tuple[str, ...] = ()
    line: str = ""  # for stdout


@dataclass
class Tally:
    """What was done with all files of one call."""

    results: list[Result] = field(default_factory=list)
    failed: int = 0
    skipped: int = 0
    rows: list[tuple] = field(default_factory=list)  # of the manifest
    start: float = field(default_factory=time.monotonic)

    def add(self, path: Path, result: Result) -> None:
        self.results.append(result)
        bpp = 8 * result.payload_bytes / result.pixels if result.pixels else None
        self._row(path, result.output, result.bytes_out, bpp, manifest.DONE)

    def skip(self, path: Path, output: Path) -> None:
        self.skipped += 1
        self._row(path, output, output.stat().st_size, None, manifest.SKIPPED)

    def fail(self, path: str | os.PathLike, error: Exception) -> None:
        self.failed += 1
        complain(reason(error, path), path)
        self._row(path, None, None, None, reason(error, path))

    def _row(self, path, output, size, bpp, status):
        names = (None if name is None else os.fspath(name) for name in (path, output))
        self.rows.append((*names, size, bpp and round(bpp, 4), status))

    @property
    def status(self) -> int:
        return 1 if self.failed else 0

    @property
    def summary(self) -> str:
        def total(name):
            return sum(getattr(result, name) for result in self.results)

        count = len(self.results) + self.failed + self.skipped
        written = f" -> {total('bytes_out')}" if total("bytes_out") else ""
        pixels = total("pixels")
        rate = f"{8 * total('payload_bytes') / pixels:.3f} bpp, " if pixels else ""
        return (
            f"{count} file{'s'[: count != 1]}, {self.failed} failed, "
            f"{f'{self.skipped} skipped, ' if self.skipped else ''}"
            f"{total('bytes_in')}{written} bytes, {rate}"
            f"{time.monotonic() - self.start:.1f} s"
        )


def convert(
    values: flags.FlagValues,
    arguments: list[str],
    keep: Callable[[Path], bool],
    kind: str,
    rename: Callable[[Path], str],
    open_worker: Callable[[bool], Callable[[Path, Path], Result]],
    jobs: int,
) -> int:
    """All of a verb that writes a file for each file; returns the exit status.

    Args:
        values: of the flags of `add_output_flags`.
        arguments, keep, kind: as for `gather`.
        rename: as for `place`.
        open_worker: called once if there is anything to do, with whether one file at a time will
            be, it loads the model and returns the function that reads the first path, writes the
            second and raises what goes wrong.
        jobs: how many files to have in work, if there are so many.
    """
    if values.overwrite and values.skip_existing:
        raise ValueError("expected --overwrite or --skip_existing. Received: both")
    tally = Tally()
    sources = gather(arguments, keep, kind, tally, values.recursive)
    targets = place(sources, arguments, values, rename, tally)
    rows = _check_manifest(values, sources, targets.values()) if values.manifest else []
    jobs = max(min(jobs, len(targets)), 1)
    worker = open_worker(jobs == 1) if targets else None
    make_folders(targets.values())
    try:
        each(targets, lambda source: worker(source, targets[source]), tally, at_once=jobs)
    finally:
        if values.manifest:
            manifest.write(Path(values.manifest), manifest.joined(rows, tally.rows))
    print(tally.summary)
    return tally.status


def _check_manifest(
    values: flags.FlagValues, sources: Iterable[Path], targets: Iterable[Path]
) -> list[tuple]:
    """Raises ValueError where it may not be written; gives its rows where the work goes on."""
    path, targets = Path(values.manifest), list(targets)
    if os.path.realpath(path) in map(os.path.realpath, targets):
        raise ValueError(f"the manifest would be an output: {shown(path)}")
    check_file(path, identities(sources), values.overwrite or values.skip_existing)
    if not any(target.is_relative_to(path.parent) for target in targets):
        check_folder(path.absolute().parent)
    return manifest.read(path) if values.skip_existing and path.exists() else []


def gather(
    arguments: list[str],
    keep: Callable[[Path], bool],
    kind: str,
    tally: Tally,
    recursive: bool = False,
) -> dict[Path, Path]:
    """The files that the arguments name, each once; a folder gives those that `keep` keeps.

    A folder that has none of this `kind`, and what does not exist, is a failure for the tally.

    Returns:
        The files -> where they lie below the folder that was named; their name if they were.
    """
    if not arguments:
        raise ValueError("expected at least one file or folder; see --help. Received: none")
    sources = {}
    for argument in arguments:
        try:
            found = files.find_files([argument], keep, recursive)
            if not found:
                raise ValueError(f"the folder has no {kind}")
        except (OSError, ValueError) as error:
            tally.fail(argument, error)
            continue
        root = argument if os.path.isdir(argument) else Path(argument).parent
        sources.update((os.path.abspath(path), (path, path.relative_to(root))) for path in found)
    return dict(sources.values())


def place(
    sources: dict[Path, Path],
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
        The input -> its output, without those inputs and without what is done already. Below an
        output folder lies what lies below a folder of inputs.

    Raises:
        ValueError: two inputs have one output, or `--output` is a file and must be a folder.
    """
    folder, file = _split_output(values.output, arguments)
    writers = {}
    for source, below in sources.items():
        home = folder / below.parent if folder else source.parent
        target = file or home / rename(source)
        other, _ = writers.setdefault(os.path.realpath(target), (source, target))
        if other != source:
            both = f"{shown(other)} and {shown(source)} would both write {shown(target)}"
            raise ValueError(f"{both}: nothing was done; give them different folders")
    inputs = identities(sources)
    targets = {}
    for source, target in writers.values():
        try:
            if values.skip_existing and target.is_file():
                tally.skip(source, target)
                continue
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

    `progress` stands in for `BAR.files`; with `at_once` above 1, `work` is called in threads.
    """
    sources, progress = list(sources), progress or BAR.files

    def take(index, outcome):
        source = sources[index]
        progress(index, len(sources), source)
        try:
            result = outcome(source)
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
