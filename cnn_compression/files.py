"""Files and folders: finding inputs, writing outputs whole or not at all."""

import contextlib
import errno
import os
import posixpath
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from cnn_compression.payload.layout import PAYLOAD_SUFFIX

# Of images; payloads have a suffix of their own.
EXTENSIONS = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".webp")
EXTENSIONS += (".avif", ".avifs", ".heic", ".heif", ".hif", ".tif", ".tiff", ".jp2", ".j2k")
EXTENSIONS += (".j2c", ".jpc", ".jpf", ".jpx", ".pnm", ".ppm", ".pgm", ".pbm")


def is_image_name(path: str | os.PathLike) -> bool:
    """Whether a folder's file is taken for an image: it has one of `EXTENSIONS`, no payload's."""
    name = os.fspath(path).lower()
    return name.endswith(EXTENSIONS) and not is_payload_name(path)


def is_payload_name(path: str | os.PathLike) -> bool:
    """Whether a folder's file is taken for a payload."""
    return os.fspath(path).lower().endswith(PAYLOAD_SUFFIX)


def payload_name(name: str) -> str:
    """An image's name -> its payload's: `a/photo.png` -> `a/photo.cnn.jpg`."""
    return posixpath.splitext(name)[0] + PAYLOAD_SUFFIX


def restored_name(name: str) -> str:
    """A payload's name, or another, -> its image's: `a/photo.cnn.jpg` -> `a/photo.png`."""
    if is_payload_name(name):
        return name[: -len(PAYLOAD_SUFFIX)] + ".png"
    return posixpath.splitext(name)[0] + ".png"


def find_files(
    paths: Iterable[str | os.PathLike], keep: Callable[[Path], bool], recursive: bool = False
) -> list[Path]:
    """Expands folders.

    Args:
        paths: files, which are always taken, and folders, which give their files, sorted by name,
            for which `keep(path)` is true. What is hidden in a folder is left out: what a system or
            an editor leaves there (`._photo.jpg`) is nobody's photograph.
        keep: says which files of a folder are meant.
        recursive: whether folders in folders are expanded too, after the files beside them; links
            to folders are not followed.

    Returns:
        The files, in the order of `paths`.

    Raises:
        FileNotFoundError: one of `paths` does not exist.
        OSError: a folder cannot be listed.
    """
    found = []
    for path in map(os.fspath, paths):
        if os.path.isdir(path):
            inside = sorted(p for p in Path(path).iterdir() if not p.name.startswith("."))
            found += [p for p in inside if keep(p) and p.is_file()]
            if recursive:
                folders = [p for p in inside if p.is_dir() and not p.is_symlink()]
                found += find_files(folders, keep, recursive)
        elif os.path.exists(path):
            found.append(Path(path))
        else:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder", path)
    return found


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file that is at no moment half there, and replaces what `path` named before.

    The bytes go to a hidden file in the same folder, which then takes the name; whatever stops
    the writing, Ctrl-C included, that file is removed and `path` is as it was.

    Raises:
        OSError: the file cannot be written; it names `path`.
    """
    path = Path(path)
    # Short and of its own: a name made from `path`'s could be longer than the system allows.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        # Not by `tempfile`, whose files only their owner may read.
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
