"""Many files on many machines: encoding and decoding as transforms of Apache Beam (extra `beam`).

    with beam.Pipeline(options=options) as pipeline:
        coded = pipeline | ReadFiles("gs://photos/**.jpg") | EncodeImages(quality=40)
        coded.done | WriteFiles("gs://payloads")         # (name, payload)
        coded.failed | beam.Map(print)                   # (name, why)

A worker loads the exported model once and codes the files of a bundle in batches, through Beam's
own `RunInference`, whose metrics (`num_inferences`, `inference_batch_latency_micro_secs`)
show where time goes. A bad file goes to `failed` with its reason; the others are not held up.

Runners may run an element twice. What is written is a function of the input's name and bytes, and
is renamed to its name when it is whole, so that this neither loses nor doubles anything. For the
same reason what is there already is found at launch, not by the workers, who would find their own.

Workers on other machines need this package, and files where all of them reach them;
docs/many_machines.md has the commands for Flink, Spark and Dataflow.
"""

import argparse
import contextlib
import errno
import json
import os
import re
import secrets

import apache_beam as beam
import tensorflow as tf
from apache_beam.io import fileio
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners import create_runner

from cnn_compression import images, metadata
from cnn_compression.codec.model_files import EXPORTED_FILE, find_model
from cnn_compression.export.signatures import MAX_PIXELS
from cnn_compression.files import (
    EXISTS,
    is_payload_name,
    payload_name,
    publish,
    restored_name,
)

_COUNTERS = ("done", "failed", "bytes_out")
_FAILURES = re.compile(r"failed-\d+-of-\d+\.jsonl")  # as Beam names them
_WILDCARDS = "*?[{"
BATCH = 8  # files; larger ones save little, and a batch's results are in memory together


def folder_of(pattern):
    """The part of a pattern before its first wildcard, up to the last separator."""
    fixed = pattern[: min((pattern.find(c) for c in _WILDCARDS if c in pattern), default=None)]
    return fixed[: fixed.rfind("/") + 1]


def convert_files(pattern, folder, transform, *, overwrite=False, skip_existing=False, options=()):
    """A whole pipeline: files to files, and `folder`/failed-*.jsonl with name and reason of others.

    Files that would have one output are among those others.

    Args:
        pattern: as of `ReadFiles`.
        folder: as of `WriteFiles`; failed-*.jsonl of an earlier run are removed.
        transform: `EncodeImages` or `DecodeImages`.
        overwrite: whether outputs that are there are replaced.
        skip_existing: whether they are left as they are.
        options: words for Beam's `PipelineOptions`.

    Returns:
        dict of `done`, `failed`, `bytes_out`: ints, as the runner counted them.

    Raises:
        ValueError: before anything is done, where nothing matches the pattern, an output is an
            input, or is there and neither `overwrite` nor `skip_existing` says what then, and where
            Beam does not know an option.
    """
    if overwrite and skip_existing:
        raise ValueError("expected --overwrite or --skip_existing. Received: both")
    options = _known_options(list(options))
    FileSystems.set_options(options)  # how to reach a bucket, say
    pattern, folder = _anchored(pattern), folder.rstrip("/") or "/"
    outputs, clashes = _outputs(pattern, folder, transform)
    there = _names_in(folder)
    existing = outputs.keys() & there
    if existing and not (overwrite or skip_existing):
        raise ValueError(
            f"outputs that exist: {len(existing)}, first {_join(folder, min(existing))}; "
            "pass --overwrite or --skip_existing"
        )
    pipeline = _pipeline(options)
    skip = frozenset(outputs[name] for name in existing) if skip_existing else frozenset()
    skip |= clashes.keys()
    coded = pipeline | ReadFiles(pattern, skip, transform.keep) | transform
    namespace = transform.handler.get_metrics_namespace()
    write = beam.ParDo(_Write(folder, transform.rename, overwrite, namespace))
    written = coded.done | write.with_outputs("failed", main="done")
    clashed = pipeline | beam.Create(list(clashes.items()))
    failed = (coded.failed, written.failed, clashed) | beam.Flatten()
    lines = failed | beam.MapTuple(lambda name, why: json.dumps({"input": name, "why": why}))
    lines | beam.io.WriteToText(_join(folder, "failed"), ".jsonl", skip_if_empty=True)
    FileSystems.delete([_join(folder, name) for name in there if _FAILURES.fullmatch(name)])
    result = pipeline.run()
    result.wait_until_finish()
    counts = _counts(result.metrics(), namespace)
    return counts | {"failed": counts["failed"] + len(clashes)}


def _any(name):
    return True


def _as_named(name):
    return name


def _is_no_payload(name):
    return not is_payload_name(name)


class EncodeImages(beam.PTransform):
    """Image files to payloads.

    From a collection of (name, bytes of an image file, of any format that `images` reads) to two
    collections:

    - `done`: (name, payload);
    - `failed`: (name, why).

    Args:
        quality: int, 1..100.
        model: as for `cnn_compression.load`, of exported models; or the folder of a SavedModel
            wherever TensorFlow reads files.
        batch_size: int, files that a worker takes at once.
        colour: as of `images.read`.
        keep_metadata: whether Exif, XMP and copyright go into the payloads.

    Raises:
        ValueError: for another quality or colour, or a model that is not exported.
    """

    rename, keep = staticmethod(payload_name), staticmethod(_is_no_payload)

    def __init__(
        self,
        quality=50,
        model="default",
        batch_size=BATCH,
        colour="srgb",
        keep_metadata=False,
    ):
        super().__init__()
        if quality not in range(1, 101):
            raise ValueError(f"quality must be an integer in 1..100. Received: {quality!r}")
        if colour not in images.COLOURS:
            known = ", ".join(images.COLOURS)
            raise ValueError(f"colour must be one of {known}. Received: {colour!r}")
        self.handler = _EncodeHandler(model, batch_size, quality, colour, keep_metadata)

    def expand(self, files):
        return _through(files, self.handler)


class DecodeImages(beam.PTransform):
    """Payloads to PNG files: (name, payload) to `done`, (name, PNG), and `failed`, (name, why).

    Args:
        model, batch_size: as of `EncodeImages`.

    Raises:
        ValueError: for a model that is not exported.
    """

    rename, keep = staticmethod(restored_name), staticmethod(_any)

    def __init__(self, model="default", batch_size=BATCH):
        super().__init__()
        self.handler = _DecodeHandler(model, batch_size)

    def expand(self, payloads):
        return _through(payloads, self.handler)


class ReadFiles(beam.PTransform):
    """The files of a pattern as (name below the pattern's fixed folder, bytes).

    What is hidden is left out: what a stopped run left half written, for one.

    Args:
        pattern: on any file system that Beam knows; `**` is any depth of folders.
        skip: names to leave out, unread. They travel with the pipeline, some bytes each.
        keep: function of a name: whether the file is meant.
    """

    def __init__(self, pattern, skip=frozenset(), keep=_any):
        super().__init__()
        self._pattern, self._skip, self._keep = _anchored(pattern), frozenset(skip), keep

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
        return files | beam.ParDo(_Write(self._folder))


def _named(file, root):
    return file.metadata.path.removeprefix(root), file.read()


def _is_wanted(metadata, root, skip, keep):
    name = metadata.path.removeprefix(root)
    return not _is_hidden(name) and name not in skip and keep(name)


def _is_hidden(name):
    return any(part.startswith(".") for part in name.split("/"))


def _anchored(pattern):
    """Beam lists the folder before the first wildcard, and there must be one."""
    return pattern if folder_of(pattern) else f"./{pattern}"


def _join(folder, name):
    return FileSystems.join(folder, *name.split("/"))


def _names(pattern):
    """Of the files of a pattern, below its fixed folder."""
    [match] = FileSystems.match([pattern])
    names = [file.path.removeprefix(folder_of(pattern)) for file in match.metadata_list]
    return [name for name in names if not _is_hidden(name)]


def _names_in(folder):
    """Of the files below a folder, which need not be there."""
    try:
        return set(_names(FileSystems.join(folder, "**")))
    except BeamIOError:  # of file systems that cannot list what is not there
        if FileSystems.exists(folder):
            raise
        return set()


def _outputs(pattern, folder, transform):
    """Names of outputs to names of their inputs; and inputs that share an output, to what is wrong.

    Raises ValueError where they cannot be so.
    """
    rename = transform.rename
    if os.path.isdir(pattern) and not pattern.endswith("/"):  # which Beam takes as /*
        raise ValueError(f"expected a pattern of files, {pattern}/** perhaps. Received: a folder")
    if any(c in folder for c in _WILDCARDS):  # which Beam has no quotes for
        raise ValueError(f"expected a folder without any of {_WILDCARDS}. Received: {folder}")
    names = [name for name in _names(pattern) if transform.keep(name)]
    if not names:
        raise ValueError(f"no file matches {pattern}")
    writers = {}
    for name in names:
        writers.setdefault(rename(name), []).append(name)
    clashes = {
        name: f"{' and '.join(n for n in same if n != name)} would write {output} too: rename one"
        for output, same in writers.items()
        if len(same) > 1
        for name in same
    }
    outputs = {output: same[0] for output, same in writers.items() if len(same) == 1}
    inputs = {_identity(folder_of(pattern) + name) for name in names}
    for path in (_join(folder, name) for name in outputs):
        if _identity(path) in inputs:
            raise ValueError(f"the output would be an input: {path}")
    return outputs, clashes


def _identity(path):
    return path if "://" in path else os.path.realpath(path)


def _known_options(words):
    """`PipelineOptions`, which would leave out what it does not know, and a typo unseen.

    Raises:
        ValueError: where neither Beam nor the runner knows a word.
    """
    options = PipelineOptions(words)
    try:  # first, for a runner's module may have options of its own
        name = options.view_as(StandardOptions).runner or StandardOptions.DEFAULT_RUNNER
        create_runner(name)
    except ImportError as error:
        raise ValueError(str(error)) from error

    def check(parser):
        parser.exit_on_error = False  # with a page of usage
        try:
            _, unknown = parser.parse_known_args(words)
        except argparse.ArgumentError as error:
            raise ValueError(str(error)) from error
        if unknown:
            raise ValueError(f"expected flags of batch or of Beam. Received: {unknown[0]}")

    options.get_all_options(add_extra_args_fn=check)
    return options


def _pipeline(options):
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:  # of a line for each option that is amiss
        raise ValueError(" ".join(str(error).split())) from error


def _counts(metrics, namespace):
    counts = dict.fromkeys(_COUNTERS, 0)
    for counter in metrics.query()["counters"]:
        metric = counter.key.metric
        if metric.namespace == namespace and metric.name in counts:
            counts[metric.name] += counter.result
    return counts


def _through(files, handler):
    return (
        files
        | RunInference(KeyedModelHandler(handler))
        | beam.ParDo(_Split(handler.verb)).with_outputs("failed", main="done")
    )


class _Handler(ModelHandler):
    """An exported model: bytes to (bytes, status); `signature` is what of it is called."""

    def __init__(self, model, batch_size):
        super().__init__()
        self.model = os.fspath(model)
        self._batch_size = batch_size
        self._folder()  # now rather than on a worker

    def load_model(self):
        # On the worker, where the package lies elsewhere.
        return tf.saved_model.load(self._folder())

    def _folder(self):
        if "://" in self.model:
            return self.model
        file = find_model(self.model)
        if not file.match(str(EXPORTED_FILE)):
            raise ValueError(f"expected an exported model; see export --help. Received: {file}")
        return str(file.parents[1])

    def get_num_bytes(self, batch):
        return sum(map(len, batch))

    def batch_elements_kwargs(self):
        return {"min_batch_size": 1, "max_batch_size": self._batch_size}

    def get_metrics_namespace(self):
        return f"cnn_compression.{self.verb}"


class _EncodeHandler(_Handler):
    """Image files to payloads: one picture at a time is in memory."""

    verb = "encode"

    def __init__(self, model, batch_size, quality, colour, keep_metadata):
        super().__init__(model, batch_size)
        self.quality, self.colour, self.keep_metadata = quality, colour, keep_metadata

    def run_inference(self, batch, model, inference_args=None):
        return [self._encode(contents, model.signatures["encode_pixels"]) for contents in batch]

    def _encode(self, contents, encode_pixels):
        how = {"max_pixels": MAX_PIXELS, "colour": self.colour}
        try:
            if self.keep_metadata:
                image, _, kept = images.read_with_metadata(contents, **how)
            else:
                (image, _), kept = images.read_contents(contents, **how), None
        except images.ImageError as error:
            return b"", str(error).encode()
        sizes = dict(zip(("height", "width", "channels"), image.shape, strict=True))
        numbers = {
            name: tf.constant([n]) for name, n in (sizes | {"quality": self.quality}).items()
        }
        outputs = encode_pixels(pixels_bytes=tf.constant([image.tobytes()]), **numbers)
        [payload], [status] = outputs["payload_bytes"].numpy(), outputs["status"].numpy()
        if kept and not status:
            payload = metadata.into_payload(payload, kept)
        return payload, status


class _DecodeHandler(_Handler):
    """Payloads to PNG files, with the metadata that they carry."""

    verb = "decode"

    def run_inference(self, batch, model, inference_args=None):
        contents = tf.constant(list(batch), tf.string)
        outputs = model.signatures["decode"](payload_bytes=contents)
        made = zip(batch, outputs["image_bytes"].numpy(), outputs["status"].numpy(), strict=True)
        return [
            (b"" if status else metadata.into_png(png, metadata.of_payload(payload)), status)
            for payload, png, status in made
        ]


class _Split(beam.DoFn):
    """(name, (bytes, status)) to what was done and what failed, counted."""

    def __init__(self, verb):
        self._counters = [Metrics.counter(f"cnn_compression.{verb}", name) for name in _COUNTERS]

    def process(self, element):
        done, failed, bytes_out = self._counters
        name, (made, status) = element
        if status:
            failed.inc()
            yield beam.pvalue.TaggedOutput("failed", (name, status.decode()))
            return
        done.inc()
        bytes_out.inc(len(made))
        yield name, made


class _Write(beam.DoFn):
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
        self._counters = [Metrics.counter(namespace, name) for name in _COUNTERS]

    def process(self, element):
        name, data = element
        path = _join(self._folder, self._rename(name))
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
