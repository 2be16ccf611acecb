"""Files and folders: finding inputs, writing outputs whole or not at all, one writer at a time."""

import contextlib
import errno
import os
import posixpath
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cnn_compression.packing.layout import PACKED_SUFFIX
from cnn_compression.payload.latent_layout import LATENT_SUFFIX
from cnn_compression.payload.layout import PAYLOAD_SUFFIX

# Of images; payloads have a suffix of their own.
EXTENSIONS = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".webp")
EXTENSIONS += (".avif", ".avifs", ".heic", ".heif", ".hif", ".tif", ".tiff", ".jp2", ".j2k")
EXTENSIONS += (".j2c", ".jpc", ".jpf", ".jpx", ".pnm", ".ppm", ".pgm", ".pbm")
JPEG_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif")


def is_image_name(path: str | os.PathLike) -> bool:
    """Whether a folder's file is taken for an image: it has one of `EXTENSIONS`, no payload's."""
    name = os.fspath(path).lower()
    return name.endswith(EXTENSIONS) and not is_payload_name(path)


def is_payload_name(path: str | os.PathLike) -> bool:
    """Whether a folder's file is taken for a payload."""
    return os.fspath(path).lower().endswith(PAYLOAD_SUFFIX)


def is_packed_name(path: str | os.PathLike) -> bool:
    """Whether a folder's file is taken for a packed file."""
    return os.fspath(path).lower().endswith(PACKED_SUFFIX)


def is_latent_name(path: str | os.PathLike) -> bool:
    """Whether a folder's file is taken for a latent codec's payload."""
    return os.fspath(path).lower().endswith(LATENT_SUFFIX)


def is_restorable_name(path: str | os.PathLike) -> bool:
    """Whether a folder's file is taken for a payload of any kind, packed or not."""
    return is_payload_name(path) or is_latent_name(path) or is_packed_name(path)


def payload_name(name: str) -> str:
    """The name of an image's, or of a packed, payload: `a/photo.png` -> `a/photo.cnn.jpg`."""
    return posixpath.splitext(name)[0] + PAYLOAD_SUFFIX


def latent_name(name: str) -> str:
    """The name of an image's payload by a latent codec: `a/photo.png` -> `a/photo.cnnl`."""
    return posixpath.splitext(name)[0] + LATENT_SUFFIX


def packed_name(name: str) -> str:
    """The name of an image's, or of a payload's, packing: `a/photo.cnn.jpg` -> `a/photo.cnnp`."""
    return _stem(name) + PACKED_SUFFIX


def packed_file_name(name: str) -> str:
    """The name of another file's packing, which keeps its own: `notes.txt` -> `notes.txt.cnnp`."""
    return name + PACKED_SUFFIX


def unpacked_name(name: str, suffix: str) -> str:
    """The name that a packed file had before it was packed.

    Args:
        name: of the packed file.
        suffix: of a JPEG, where the name has none: `a/photo.cnnp` -> `a/photo.cnn.jpg`, but
            `a/photo.jpeg.cnnp` -> `a/photo.jpeg`; "" of any other file, whose name is all that
            stands before: `a/notes.txt.cnnp` -> `a/notes.txt`.

    Raises:
        ValueError: of a file that is no JPEG and has no other name than this one.
    """
    before = name[: -len(PACKED_SUFFIX)] if is_packed_name(name) else ""
    if suffix:
        before = before or posixpath.splitext(name)[0]
        return before if before.lower().endswith(JPEG_ENDINGS) else before + suffix
    if not posixpath.basename(before):
        raise ValueError(f"expected a name that ends in {PACKED_SUFFIX}, or -o with another")
    return before


def restored_name(name: str) -> str:
    """A payload's name, or another, -> its image's: `a/photo.cnn.jpg` -> `a/photo.png`."""
    return _stem(name) + ".png"


def _stem(name):
    if is_payload_name(name):
        return name[: -len(PAYLOAD_SUFFIX)]
    return posixpath.splitext(name)[0]


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


def write_atomically(path: str | os.PathLike, data: bytes, overwrite: bool = True) -> None:
    """Writes a file that is at no moment half there.

    The bytes go to a hidden file in the same folder, which then takes the name; whatever stops
    the writing, Ctrl-C included, that file is removed and `path` is as it was.

    Args:
        path: of the file.
        data: all of it.
        overwrite: whether to replace what `path` names by then.

    Raises:
        FileExistsError: something has the name and may not be replaced.
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
        publish(temporary, path, overwrite)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


EXISTS = "the output exists: pass --overwrite to replace it"
# Of file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def publish(temporary: str | os.PathLike, path: str | os.PathLike, overwrite: bool) -> None:
    """Gives a whole file its name, in the same folder.

    Raises:
        FileExistsError: something has the name, and may not be replaced: another command may have
            written it since this one looked. Both files are as they were.
        OSError: the file cannot be renamed.
    """
    if not overwrite:
        try:
            os.link(temporary, path)
            os.unlink(temporary)
            return
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        try:  # the name is taken first, by an empty file
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            raise _exists(path) from None
    os.replace(temporary, path)


def _exists(path: str | os.PathLike) -> FileExistsError:
    return FileExistsError(errno.EEXIST, EXISTS, os.fspath(path))


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Keeps a folder, which is made if need be, from other processes that ask so too.

    The lock ends with its process, however that ends. Where a file system knows no locks there is
    none.

    Raises:
        BlockingIOError: another process is at work there; says which.
        OSError: the folder cannot be made or written.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = _take(folder / ".lock")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / ".lock")
        os.close(file)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where it is empty


def _take(path: Path) -> int:
    """The open file of a lock that is ours now."""
    import fcntl  # which Windows has not

    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace") or "another process"
            os.close(file)
            text = f"expected a folder that nobody else writes to. Received: one where {holder} is"
            raise BlockingIOError(errno.EWOULDBLOCK, f"{text} at work", str(path.parent)) from None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}:
                os.close(file)
                raise
        # Whoever had it before may have removed it meanwhile: then it is nobody's.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                os.truncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return file
        os.close(file)
