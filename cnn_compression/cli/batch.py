"""`cnn-compression batch`: many files on many machines, by Apache Beam."""

import contextlib
import importlib
import logging
import warnings

from absl import flags

from cnn_compression.cli import common

HELP = """
usage: cnn-compression batch --input=PATTERN --output=FOLDER [flags] [options of Beam]

Encodes, restores, packs or unpacks all files of a pattern, as a pipeline of Apache Beam (extra
`beam`). ** is any depth of folders; below FOLDER files lie as below the pattern's fixed part. What
is not listed here goes to Beam: --runner=DirectRunner (the default) with --direct_num_workers=4
--direct_running_mode=multi_processing uses this machine, and on others run
  --runner=FlinkRunner --flink_master=HOST:8081 --environment_type=DOCKER --environment_config=IMAGE
  --runner=SparkRunner --spark_master_url=spark://HOST:7077, and the same two
  --runner=DataflowRunner --project=P --region=R --temp_location=gs://.. --sdk_container_image=IMAGE
where IMAGE is Beam's with this package installed (see docs/many_machines.md).
--environment_type=LOOPBACK leaves the work to this process. Files that fail are listed in
FOLDER/failed-*.jsonl, those of more pixels than the model was exported for among them (64 million;
export --max_pixels).
"""

# Besides encoding.
VERBS = {
    "decode": "restore payloads, packed or not, to PNG files",
    "pack": "pack payloads",
    "unpack": "unpack what was packed",
}
# What is no flag of ours is Beam's.
KNOWN_FLAGS_ONLY = True


def add_flags(values: flags.FlagValues) -> None:
    def text(name, help_text, default=None):
        flags.DEFINE(common.PATH, name, default, help_text, flag_values=values)

    text("input", "files, on any file system that Beam knows: 'photos/**.jpg', 'gs://photos/*'")
    text("output", "folder to write to")
    for verb, help_text in VERBS.items():
        flags.DEFINE_boolean(verb, False, help_text, flag_values=values)
    common.add_quality_flag(values)
    common.add_model_flag(values)
    common.add_overwrite_flag(values)
    common.add_colour_flag(values)
    common.add_metadata_flag(values)
    help_text = "leave existing outputs as they are: goes on with what was stopped"
    flags.DEFINE_boolean("skip_existing", False, help_text, flag_values=values)
    flags.DEFINE_integer("batch_size", 8, "files the model is given at once", 1, flag_values=values)
    help_text = "show what Beam says of itself"
    flags.DEFINE_boolean("verbose", False, help_text, flag_values=values, short_name="v")


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    missing = [f"--{name}" for name in ("input", "output") if not values[name].value]
    if missing:
        raise common.UsageError(f"expected {' and '.join(missing)}; see --help. Received: none")
    if strays := [word for word in arguments if not word.startswith("-")]:
        raise common.UsageError(f"expected flags only, each as --name=value. Received: {strays[0]}")
    if len(verbs := [f"--{verb}" for verb in VERBS if values[verb].value]) > 1:
        raise common.UsageError(f"expected one of them at most. Received: {' and '.join(verbs)}")
    common.start_tensorflow()
    with contextlib.nullcontext() if values.verbose else _beam_is_quiet():
        counts = _convert(values, arguments)
    print(
        f"{counts['done']} files done, {counts['failed']} failed, {counts['bytes_out']} bytes"
        + (f"; see {values.output}/failed-*.jsonl" if counts["failed"] else "")
    )
    return 1 if counts["failed"] else 0


def _convert(values: flags.FlagValues, arguments: list[str]) -> dict[str, int]:
    try:
        beam = importlib.import_module("cnn_compression.beam")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"batch needs the extra `beam`, pip install 'cnn-compression[beam]': {error}"
        ) from error
    return beam.convert_files(
        *(values.input, values.output, _transform(beam, values)),
        overwrite=values.overwrite,
        skip_existing=values.skip_existing,
        options=arguments,
    )


def _transform(beam, values):
    if values.decode:
        return beam.DecodeImages(values.model, values.batch_size)
    if values.pack:
        return beam.PackPayloads()
    if values.unpack:
        return beam.UnpackPayloads()
    return beam.EncodeImages(
        values.quality,
        values.model,
        values.batch_size,
        colour=values.colour,
        keep_metadata=values.keep_metadata,
    )


@contextlib.contextmanager
def _beam_is_quiet():
    """Keeps what Beam logs and warns of, here and in workers that it starts, off the terminal.

    What stops a pipeline is raised, and what stops a file is in failed-*.jsonl.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), common.python_alone_on_stderr():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
