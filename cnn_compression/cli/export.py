"""`cnn-compression export`: a trained model -> a SavedModel that can be served."""

import re

from absl import flags

from cnn_compression.cli import common

HELP = """
usage: cnn-compression export [flags] MODELS...

Writes a model, the output folder of `train` or a .keras file, as a SavedModel to
<output>/<name>/<version>/ for TensorFlow Serving. Other verbs take it by --model=<output>/<name>,
or by --model=<name> where <output> is `saved_models` here or beside the package.
Models of several scales become one codec: --ranges says which qualities each of them serves. Where
two ranges overlap, a picture's texture decides: --handovers=A-B gives the finer model those that
have A or more (in levels of [0, 255]) at the first quality of both, B or more at the last.
"""


def add_flags(values: flags.FlagValues) -> None:
    help_text = "what the codec is called; by default what MODEL's folder is called"
    flags.DEFINE_string("name", "", help_text, flag_values=values)
    help_text = "folder of models"
    flags.DEFINE(common.PATH, "output", "saved_models", help_text, flag_values=values)
    kind = common.Parser("1-100:1-100,...", _ranges)
    help_text = "for each model its qualities and those of its JPEG, such as 1-60:5-90,61-100:30-97"
    flags.DEFINE(kind, "ranges", None, help_text, flag_values=values)
    kind = common.Parser("27-4,...", _handovers)
    help_text = (
        "where ranges overlap: limits of texture from which on the next model takes a picture"
    )
    flags.DEFINE(kind, "handovers", None, help_text, flag_values=values)
    help_text = "the largest image that the served model takes or restores"
    flags.DEFINE(common.PIXELS, "max_pixels", "64000000", help_text, flag_values=values)
    help_text = "a free integer from 1; 0 takes the next one"
    flags.DEFINE_integer("version", 0, help_text, flag_values=values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    if not arguments:
        raise common.UsageError("expected a model; see --help. Received: none")
    common.start_tensorflow()
    from cnn_compression.export import export
    from cnn_compression.export.warmup import has_serving_api

    print(export(arguments, **values.flag_values_dict()))
    if not has_serving_api():
        common.complain("note: no warm-up requests, which need the extra `serving`")
    return 0


def _ranges(text: str) -> list[list[int]]:
    found = [re.fullmatch(r"(\d+)-(\d+):(\d+)-(\d+)", item) for item in text.split(",")]
    if not all(found):
        raise ValueError("expected FIRST-LAST:JPEG_FIRST-JPEG_LAST for each model")
    return [[int(number) for number in match.groups()] for match in found]


def _handovers(text: str) -> list[list[float]]:
    found = [re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", item) for item in text.split(",")]
    if not all(found):
        raise ValueError("expected FIRST-LAST for each two neighbouring ranges")
    return [[float(number) for number in match.groups()] for match in found]
