"""Which files a verb reads, and where what it makes of them goes: decided before any work."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import streams
from cnn_compression.cli.common import UsageError, shown
from cnn_compression.cli.tally import Tally


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
        raise UsageError("expected at least one file or folder; see --help. Received: none")
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
    accept: Callable[[Path], None],
    tally: Tally,
) -> dict[Path, Path]:
    """Decides what is written where, before any work.

    Args:
        sources, arguments: the inputs, as `gather` found them and as the user named them.
        values: of the flags of `add_output_flags`.
        rename: the input -> the name of its output where the user gave none; raises OSError or
            ValueError where there can be none.
        accept: raises ValueError where a file of this name may not be written.
        tally: is told of the inputs whose output may not be written, two that have one among them.

    Returns:
        The input -> its output, without those inputs and without what is done already. Below an
        output folder lies what lies below a folder of inputs.

    Raises:
        UsageError: `--output` is a file or a stream and must be a folder.
    """
    folder, file = _split_output(values.output, arguments)
    writers = {}
    for source, below in sources.items():
        if streams.descriptor(source) == 0 and values.output is None:
            target = streams.STDOUT
        else:
            try:
                home = folder / below.parent if folder else source.parent
                target = file or home / rename(source)
            except (OSError, ValueError) as error:
                tally.fail(source, error)
                continue
        writers.setdefault(os.path.realpath(target), []).append((source, target))
    inputs = identities(sources)
    targets = {}
    for source, target in (pair for pairs in writers.values() for pair in pairs):
        try:
            _check_alone(source, target, writers[os.path.realpath(target)])
            if values.skip_existing and target.is_file() and not streams.is_stream(target):
                tally.skip(source, target)
                continue
            check_file(target, inputs, values.overwrite)
            accept(target)
            if not (folder or streams.is_stream(target)):
                # A folder is made if need be, after what else could stop the work.
                check_folder(target.parent)
            targets[source] = target
        except (OSError, ValueError) as error:
            tally.fail(source, error)
    return targets


def _split_output(output: str | None, arguments: list[str]) -> tuple[Path | None, Path | None]:
    """What `--output` means: (folder, None), (None, file), or (None, None) if it was not given."""
    if output is None:
        return None, None
    path = streams.STDOUT if output == "-" else Path(output)
    several = len(arguments) > 1 or any(map(os.path.isdir, arguments))
    if not several and (streams.is_stream(path) or not _means_folder(output)):
        return None, path
    if streams.is_stream(path) or (path.exists() and not path.is_dir()):
        raise UsageError(f"expected --output to be a folder. Received the file: {shown(output)}")
    return path, None


def _means_folder(output: str) -> bool:
    return output.endswith(("/", os.sep)) or os.path.isdir(output)


def _check_alone(source: Path, target: Path, writers: list[tuple[Path, Path]]) -> None:
    """Raises ValueError where another input would write the same file."""
    others = [shown(other) for other, _ in writers if other != source]
    if others:
        raise ValueError(
            f"{' and '.join(others)} would write {shown(target)} too: rename one of them, or pass "
            "-o with another name for each alone"
        )


def identities(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Files by number, not by name: links and case must not hide that two of them are one."""
    return {(status.st_dev, status.st_ino) for status in map(os.stat, paths)}


def check_file(target: Path, inputs: set[tuple[int, int]], overwrite: bool) -> None:
    """Raises ValueError where something at `target` must stay; `inputs` are `identities`."""
    if streams.is_stream(target):
        if streams.is_stdout(target) and sys.stdout is not None and sys.stdout.isatty():
            raise ValueError("the output would fill the terminal: pass -o FILE, or lead it to one")
        return
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
    for folder in {target.parent for target in targets if not streams.is_stream(target)}:
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)
