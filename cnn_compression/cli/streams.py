"""What is read and written in place: standard input and output, pipes, devices.

On the command line `-` is standard input among inputs and standard output as an output. Inside,
they have the paths that the system knows them by too.
"""

import os
import re
import sys
from pathlib import Path

from cnn_compression import files

STDIN, STDOUT = Path("/dev/stdin"), Path("/dev/stdout")
# How else a process's open files are called.
_DESCRIPTOR = re.compile(r"/dev/(?:std(in|out|err)|fd/(\d+))|/proc/self/fd/(\d+)")
_NUMBERS = {"in": 0, "out": 1, "err": 2}


def descriptor(path: str | os.PathLike) -> int | None:
    """The number of the open file that a path stands for; None if it is another path."""
    match = _DESCRIPTOR.fullmatch(os.fspath(path))
    if not match:
        return None
    name, *numbers = match.groups()
    return _NUMBERS[name] if name else int(numbers[0] or numbers[1])


def is_stream(path: Path) -> bool:
    """Whether an output is written in place: nothing that has a name in a folder to take over."""
    return descriptor(path) is not None or (path.exists() and not (path.is_file() or path.is_dir()))


def is_stdout(path: Path) -> bool:
    """Whether an output goes where the command's own lines would go."""
    return descriptor(path) == 1


def read(path: Path) -> bytes:
    """The bytes of a file, or of a stream up to its end."""
    if descriptor(path) != 0:
        return path.read_bytes()
    if sys.stdin is None:
        raise ValueError("standard input is closed")
    return sys.stdin.buffer.read()


def write(path: Path, data: bytes, overwrite: bool) -> None:
    """Writes a stream in place, and a file whole or not at all.

    Args:
        overwrite: as of `files.write_atomically`.

    Raises:
        FileExistsError: as of `files.write_atomically`.
        BrokenPipeError: who read the stream has gone.
        OSError: it cannot be written.
    """
    if not is_stream(path):
        files.write_atomically(path, data, overwrite)
        return
    number = descriptor(path)
    standard = {1: sys.stdout, 2: sys.stderr}.get(number)
    if standard is not None:  # what was printed before comes before
        standard.flush()
        standard.buffer.write(data)
        standard.flush()
        return
    with open(path if number is None else os.dup(number), "wb") as stream:
        stream.write(data)
