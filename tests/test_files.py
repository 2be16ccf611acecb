"""Finding files, and writing them whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnn_compression import files


def keep_text(path):
    return path.suffix == ".txt"


def fill(folder, *names):
    for name in names:
        (folder / name).write_bytes(name.encode())


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gives_its_kept_files_sorted_and_not_those_below(tmp_path):
    fill(tmp_path, "b.txt", "a.txt", "c.png", ".hidden.txt")
    (tmp_path / "below.txt").mkdir()
    fill(tmp_path / "below.txt", "d.txt")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nothing")
    assert [path.name for path in files.find_files([tmp_path], keep_text)] == ["a.txt", "b.txt"]


def test_a_file_given_by_name_is_taken_whatever_keep_says_and_order_is_the_users(tmp_path):
    fill(tmp_path, "c.png", "a.txt")
    given = [str(tmp_path / "c.png"), tmp_path / "a.txt"]
    assert files.find_files(given, keep_text) == [tmp_path / "c.png", tmp_path / "a.txt"]


@pytest.mark.parametrize("name", ["missing.txt", ""])
def test_what_does_not_exist_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # "" must not mean this folder
    fill(tmp_path, "a.txt")
    with pytest.raises(FileNotFoundError) as caught:
        files.find_files(["a.txt", name], keep_text)
    assert caught.value.filename == name


def test_writes_the_bytes_and_replaces_what_was_there(tmp_path):
    path = tmp_path / ("n" * 255)  # the longest name of common file systems
    for data in (b"first and longer", b"\x00second"):
        files.write_atomically(path, data)
        assert path.read_bytes() == data
    assert names_in(tmp_path) == [path.name]


def test_permissions_are_those_of_any_new_file(tmp_path):
    files.write_atomically(tmp_path / "ours", b"")
    fill(tmp_path, "theirs")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_write_that_stops_leaves_everything_as_it_was(tmp_path, monkeypatch, step, error):
    fill(tmp_path, "kept")

    def stop(*_):
        raise error

    monkeypatch.setattr(os, step, stop)
    with pytest.raises(type(error)) as caught:
        files.write_atomically(tmp_path / "kept", b"new")
    monkeypatch.undo()
    assert (tmp_path / "kept").read_bytes() == b"kept"
    assert names_in(tmp_path) == ["kept"]
    if isinstance(error, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(tmp_path / "kept")


NO_LINKS = OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_what_came_meanwhile_is_not_replaced_unless_told_to(tmp_path, monkeypatch, links):
    def link(source, target):
        raise NO_LINKS

    if not links:
        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "out"
    files.write_atomically(path, b"first", overwrite=False)
    assert path.read_bytes() == b"first"
    with pytest.raises(FileExistsError, match="exists: pass --overwrite") as caught:
        files.write_atomically(path, b"second", overwrite=False)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"first" and names_in(tmp_path) == ["out"]
    files.write_atomically(path, b"third")
    assert path.read_bytes() == b"third" and names_in(tmp_path) == ["out"]
    assert path.stat().st_nlink == 1


def test_a_link_that_leads_nowhere_is_not_replaced_either(tmp_path):
    path = tmp_path / "out"
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(FileExistsError):
        files.write_atomically(path, b"data", overwrite=False)
    assert path.is_symlink() and names_in(tmp_path) == ["out"]


def test_a_folder_is_one_process_alone_s(tmp_path):
    folder = tmp_path / "in" / "here"
    with files.locked(folder):
        with pytest.raises(BlockingIOError) as caught, files.locked(folder):
            pass
        assert f"Received: one where process {os.getpid()} on " in caught.value.strerror
        assert caught.value.filename == str(folder)
        with files.locked(tmp_path):
            fill(tmp_path, "kept")
    assert not folder.exists() and names_in(tmp_path) == ["in", "kept"]
    with files.locked(folder):
        fill(folder, "kept")
    assert names_in(folder) == ["kept"]


def test_a_lock_ends_with_its_process(tmp_path):
    program = (
        "import sys\nfrom cnn_compression.files import locked\n"
        "with locked(sys.argv[1]):\n    print('taken', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        assert holder.stdout.readline() == b"taken\n"
        with pytest.raises(BlockingIOError, match=f"process {holder.pid} on"):
            with files.locked(tmp_path):
                pass
        holder.kill()
        holder.wait()
        assert names_in(tmp_path) == [".lock"]
        with files.locked(tmp_path):
            pass
    assert names_in(tmp_path) == []


def test_without_locks_in_the_file_system_there_are_none(tmp_path, monkeypatch):
    import fcntl

    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.locked(tmp_path), files.locked(tmp_path):
        pass
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_output(tmp_path, folder):
    fill(tmp_path, "file")
    path = tmp_path / folder / "out"
    with pytest.raises((FileNotFoundError, NotADirectoryError)) as caught:
        files.write_atomically(path, b"data")
    assert caught.value.filename == str(path)
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", [str, Path])
def test_names_of_images(kind):
    names = ["a.png", "B.JPG", "in/a.b.tiff", "a.cnn.jpg", "A.CNN.JPG", "a.txt", "png", "a.png.zip"]
    assert [name for name in names if files.is_image_name(kind(name))] == names[:3]


@pytest.mark.parametrize(
    "name, payload, restored",
    [
        ("photo.png", "photo.cnn.jpg", "photo.png"),
        ("x.y/photo.v1.JPEG", "x.y/photo.v1.cnn.jpg", "x.y/photo.v1.png"),
        ("x.y/photo", "x.y/photo.cnn.jpg", "x.y/photo.png"),
        ("a/photo.cnn.jpg", "a/photo.cnn.cnn.jpg", "a/photo.png"),
        ("PHOTO.CNN.JPG", "PHOTO.CNN.cnn.jpg", "PHOTO.png"),
        (".png", ".png.cnn.jpg", ".png.png"),
        ("a/photo.v1.cnnp", "a/photo.v1.cnn.jpg", "a/photo.v1.png"),
    ],
)
def test_names_of_outputs(name, payload, restored):
    assert files.payload_name(name) == payload
    assert files.restored_name(name) == restored
    assert files.is_payload_name(payload)


def test_names_of_packed_payloads():
    for name in ("a/photo.png", "a/photo.cnn.jpg"):
        assert files.packed_name(name) == "a/photo.cnnp"
    assert files.is_packed_name("a/PHOTO.CNNP") and files.is_restorable_name("photo.cnn.jpg")
    assert not files.is_payload_name("photo.cnnp") and not files.is_restorable_name("photo.jpg")


def test_extensions_are_lower_case_suffixes():
    assert {".png", ".jpg", ".webp", ".jp2", ".pbm"} <= set(files.EXTENSIONS)
    assert {".jfif", ".jpe", ".mpo", ".heic", ".heif", ".avif"} <= set(files.EXTENSIONS)
    assert all(e == e.lower() and e.startswith(".") for e in files.EXTENSIONS)
    assert len(set(files.EXTENSIONS)) == len(files.EXTENSIONS)
