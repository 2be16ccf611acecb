"""What lies in a run's folder beside its checkpoints: its settings, its files, its model."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cnn_compression.files import find_files, is_image_name, write_atomically
from cnn_compression.training.config import TrainConfig
from cnn_compression.training.data import list_images, split_held_out

_log = logging.getLogger(__name__)

CONFIG_FILE, LIST_FILE, MODEL_FILE = "config.json", "files.json", "model.keras"


@dataclass(frozen=True)
class FileList:
    """Which files a run trains on and which it evaluates on, from its start to its end.

    Attributes:
        data: the folders (and files) that were listed; absolute, without links.
        training, held_out: files in them.
    """

    data: tuple[str, ...]
    training: tuple[str, ...]
    held_out: tuple[str, ...]

    @classmethod
    def of_folders(cls, config: TrainConfig) -> "FileList":
        """Lists the images there are now, each once, and holds some out.

        Raises:
            FileNotFoundError, ValueError: as `list_images` and `split_held_out`.
        """
        files = {os.path.realpath(file): _anchored(file) for file in list_images(config.data)}
        parts = split_held_out(list(files.values()), config.held_out)
        return cls(_resolved(config.data), *map(tuple, parts))

    def write(self, folder: Path) -> None:
        lists = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        data = (lists + "\n").encode("utf-8", "surrogateescape")
        write_atomically(folder / LIST_FILE, data)

    @classmethod
    def read(cls, folder: Path) -> "FileList":
        """Raises ValueError where the file is no such list."""
        path = folder / LIST_FILE
        try:
            lists = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
            return cls(**{field.name: tuple(lists[field.name]) for field in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"expected a run's list of files. Received: {path}: {error}") from None


def _anchored(file: Path) -> str:
    """A file of this name in its folder, wherever the process stands and whatever links lead."""
    return os.path.join(os.path.realpath(file.parent), file.name)


def _resolved(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(os.path.realpath, paths)))


def files_of_run(config: TrainConfig, folder: Path) -> FileList:
    """The files of the run in a folder; of a new one those that there are now.

    Photographs that were added since are left out, and those that are gone are missed: either is
    said in the log.

    Raises:
        FileNotFoundError, ValueError: as of `FileList.of_folders`; or where more of the files are
            gone than may be unreadable.
    """
    if not (folder / LIST_FILE).exists():
        if (folder / CONFIG_FILE).exists():
            text = "%s has no list of its files, being of an earlier version: takes those of today"
            _log.warning(text, folder)
        return FileList.of_folders(config)
    files = FileList.read(folder)
    known = [*files.training, *files.held_out]
    gone = [file for file in known if not os.path.exists(file)]
    if len(gone) > config.max_bad_files:
        raise ValueError(
            f"expected the {len(known)} files of the run in {folder}, or all but "
            f"max_bad_files={config.max_bad_files}. Received: {len(gone)} are gone, {gone[0]} first"
        )
    if gone:
        _log.warning("%d files of the run are gone, %s first", len(gone), gone[0])
    there = [data for data in files.data if os.path.exists(data)]
    present = map(os.path.realpath, find_files(there, is_image_name))
    added = set(present).difference(map(os.path.realpath, known))
    if added:
        text = "%d files were added since the run began, %s first: it goes on without them"
        _log.warning(text, len(added), min(added))
    return files


def check_same_config(config: TrainConfig, folder: Path) -> None:
    """Raises ValueError where a run is to be resumed with settings that would change it."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return
    # By way of JSON, in which tuples are lists.
    before, now = json.loads(path.read_text()), json.loads(json.dumps(asdict(config)))
    before.setdefault("colour", "as_is")  # runs that began when profiles were passed over
    # Other settings that came later have the run's behaviour as their default.
    before = {f.name: f.default for f in fields(config)} | before
    free = {f.name for f in fields(config) if f.metadata.get("free")} | {"output"}
    if _same_data(config, folder):
        free.add("data")
    changed = {
        name: (before.get(name), value)
        for name, value in now.items()
        if name not in free and before.get(name) != value
    }
    if not changed:
        return
    text = (
        f"{folder} holds a run with other settings (before, now): {changed}; "
        "give the same ones to resume it, or another output"
    )
    if "steps" in changed and (folder / MODEL_FILE).exists():
        text += f"; to train its model further, give --init={folder} and another output"
    raise ValueError(text)


def _same_data(config: TrainConfig, folder: Path) -> bool:
    """Whether the folders are those of the run, however they are spelt."""
    if not (folder / LIST_FILE).exists():
        return False
    return FileList.read(folder).data == _resolved(config.data)


def write_config(config: TrainConfig, folder: Path) -> None:
    write_atomically(folder / CONFIG_FILE, json.dumps(asdict(config), indent=2).encode())


def save_model(model, path: Path) -> None:
    """Writes a `keras.Model` as a `.keras` file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
