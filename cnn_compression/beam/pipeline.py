"""A whole pipeline: files to files."""

import argparse
import json
import os
import re

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners import create_runner

from cnn_compression.beam.counts import counts, namespace_of
from cnn_compression.beam.folders import (
    WILDCARDS,
    ReadFiles,
    Write,
    anchored,
    folder_of,
    join,
    names_in,
    names_of,
)
from cnn_compression.files import is_packed_name, is_payload_name, payload_name

_FAILURES = re.compile(r"failed-\d+-of-\d+\.jsonl")  # as Beam names them


def convert_files(pattern, folder, transform, *, overwrite=False, skip_existing=False, options=()):
    """A whole pipeline: files to files, and `folder`/failed-*.jsonl with name and reason of others.

    Files that would have one output are among those others; but of a payload and its packing beside
    it the payload alone is taken.

    Args:
        pattern: as of `ReadFiles`.
        folder: as of `WriteFiles`; failed-*.jsonl of an earlier run are removed.
        transform: `EncodeImages`, `DecodeImages`, `PackPayloads` or `UnpackPayloads`.
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
    pattern, folder = anchored(pattern), folder.rstrip("/") or "/"
    outputs, clashes, spare = _outputs(pattern, folder, transform)
    there = names_in(folder)
    existing = outputs.keys() & there
    if existing and not (overwrite or skip_existing):
        raise ValueError(
            f"outputs that exist: {len(existing)}, first {join(folder, min(existing))}; "
            "pass --overwrite or --skip_existing"
        )
    pipeline = _pipeline(options)
    skip = frozenset(outputs[name] for name in existing) if skip_existing else frozenset()
    skip |= clashes.keys() | spare
    coded = pipeline | ReadFiles(pattern, skip, transform.keep) | transform
    namespace = namespace_of(transform.verb)
    write = beam.ParDo(Write(folder, transform.rename, overwrite, namespace))
    written = coded.done | write.with_outputs("failed", main="done")
    clashed = pipeline | beam.Create(list(clashes.items()))
    failed = (coded.failed, written.failed, clashed) | beam.Flatten()
    lines = failed | beam.MapTuple(lambda name, why: json.dumps({"input": name, "why": why}))
    lines | beam.io.WriteToText(join(folder, "failed"), ".jsonl", skip_if_empty=True)
    FileSystems.delete([join(folder, name) for name in there if _FAILURES.fullmatch(name)])
    result = pipeline.run()
    result.wait_until_finish()
    counted = counts(result.metrics(), namespace)
    return counted | {"failed": counted["failed"] + len(clashes)}


def _outputs(pattern, folder, transform):
    """Names of outputs to names of their inputs; inputs that share an output, to what is wrong; and
    inputs that are not needed.

    Raises ValueError where they cannot be so.
    """
    rename = transform.rename
    if os.path.isdir(pattern) and not pattern.endswith("/"):  # which Beam takes as /*
        raise ValueError(f"expected a pattern of files, {pattern}/** perhaps. Received: a folder")
    if any(c in folder for c in WILDCARDS):  # which Beam has no quotes for
        raise ValueError(f"expected a folder without any of {WILDCARDS}. Received: {folder}")
    names = [name for name in names_of(pattern) if transform.keep(name)]
    if not names:
        raise ValueError(f"no file matches {pattern}")
    spare = _spare(names)
    names = [name for name in names if name not in spare]
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
    for path in (join(folder, name) for name in outputs):
        if _identity(path) in inputs:
            raise ValueError(f"the output would be an input: {path}")
    return outputs, clashes, spare


def _spare(names):
    """Packings that lie beside their payloads, which are enough."""
    payloads = set(filter(is_payload_name, names))
    return {name for name in names if is_packed_name(name) and payload_name(name) in payloads}


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
