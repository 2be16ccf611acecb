"""Folders on the file systems that Beam knows: their names, reading them, writing whole files."""

import contextlib
import errno
import secrets

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from cnn_compression.beam.counts import counters
from cnn_compression.files import EXISTS, publish

WILDCARDS = "*?[{"


def folder_of(pattern):
    """The part of a pattern before its first wildcard, up to the last separator."""
    fixed = pattern[: min((pattern.find(c) for c in WILDCARDS if c in pattern), default=None)]
    return fixed[: fixed.rfind("/") + 1]


def any_name(name):
    return True


class ReadFiles(beam.PTransform):
    """The files of a pattern as (name below the pattern's fixed folder, bytes).

    What is hidden is left out: what a stopped run left half written, for one.

    Args:
        pattern: on any file system that Beam knows; `**` is any depth of folders.
        skip: names to leave out, unread. They travel with the pipeline, some bytes each.
        keep: function of a name: whether the file is meant.
    """

    def __init__(self, pattern, skip=frozenset(), keep=any_name):
        super().__init__()
        self._pattern, self._skip, self._keep = anchored(pattern), frozenset(skip), keep

    def expand(self, pipeline):
        root = folder_of(self._pattern)
        files = pipeline | fileio.MatchFiles(self._pattern)
        wanted = files | beam.Filter(_is_wanted, root, self._skip, self._keep)
        # One worker lists; all of them read.
        return wanted | beam.Reshuffle() | fileio.ReadMatches() | beam.Map(_named, root)


class WriteFiles(beam.PTransform):
    """Writes (name, bytes) as files of a folder; a collection of the paths comes out.

    Args:
        folder: on a file system of Beam's whose renaming replaces what is there, as that of this
            machine, `gs://` and `s3://` do; folders in it are made.
    """

    def __init__(self, folder):
        super().__init__()
        self._folder = folder

    def expand(self, files):
        return files | beam.ParDo(Write(self._folder))


def _as_named(name):
    return name


def _named(file, root):
    return file.metadata.path.removeprefix(root), file.read()


def _is_wanted(metadata, root, skip, keep):
    name = metadata.path.removeprefix(root)
    return not _is_hidden(name) and name not in skip and keep(name)


def _is_hidden(name):
    return any(part.startswith(".") for part in name.split("/"))


def anchored(pattern):
    """Beam lists the folder before the first wildcard, and there must be one."""
    return pattern if folder_of(pattern) else f"./{pattern}"


def join(folder, name):
    return FileSystems.join(folder, *name.split("/"))


def names_of(pattern):
    """Of the files of a pattern, below its fixed folder."""
    [match] = FileSystems.match([pattern])
    names = [file.path.removeprefix(folder_of(pattern)) for file in match.metadata_list]
    return [name for name in names if not _is_hidden(name)]


def names_in(folder):
    """Of the files below a folder, which need not be there."""
    try:
        return set(names_of(FileSystems.join(folder, "**")))
    except BeamIOError:  # of file systems that cannot list what is not there
        if FileSystems.exists(folder):
            raise
        return set()


class Write(beam.DoFn):
    """(name, bytes) to the path that was written; to `failed`, (name, why), what may not be.

    Args:
        folder: as of `WriteFiles`.
        rename: an element's name to its file's.
        overwrite: whether files of other bytes are replaced. Files of the same bytes are our own,
            of an earlier try.
        namespace: of the counters, to which these elements counted as done.
    """

    def __init__(self, folder, rename=_as_named, overwrite=True, namespace="cnn_compression.write"):
        self._folder, self._rename, self._overwrite = folder, rename, overwrite
        self._counters = counters(namespace)

    def process(self, element):
        name, data = element
        path = join(self._folder, self._rename(name))
        parent, _ = FileSystems.split(path)
        if not FileSystems.exists(parent):
            try:
                FileSystems.mkdirs(parent)
            except OSError:  # another worker was faster
                if not FileSystems.exists(parent):
                    raise
        temporary = FileSystems.join(parent, f".{secrets.token_hex(8)}.tmp")
        try:
            with FileSystems.create(temporary, "application/octet-stream") as file:
                file.write(data)
            self._publish(temporary, path, data)
        except FileExistsError as error:
            FileSystems.delete([temporary])
            done, failed, bytes_out = self._counters
            done.dec()
            failed.inc()
            bytes_out.dec(len(data))
            yield beam.pvalue.TaggedOutput("failed", (name, f"{path}: {error.strerror}"))
            return
        except BaseException:
            with contextlib.suppress(OSError):
                FileSystems.delete([temporary])
            raise
        yield path

    def _publish(self, temporary, path, data):
        """Names a whole file. Raises FileExistsError where the name is another's."""
        if not self._overwrite and FileSystems.exists(path):
            with FileSystems.open(path, "application/octet-stream") as file:
                if file.read() != data:
                    raise FileExistsError(errno.EEXIST, EXISTS, path)
        elif not self._overwrite and "://" not in path:  # where a rename can also refuse
            return publish(temporary, path, overwrite=False)
        FileSystems.rename([temporary], [path])
