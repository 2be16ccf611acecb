"""`cnn-compression export`: a trained model -> a SavedModel that can be served, or ONNX."""

import re

from absl import flags

from cnn_compression.cli import common

HELP = """
usage: cnn-compression export [flags] MODELS...

Writes a model, the output folder of `train` or a .keras file, as a SavedModel to
<output>/<name>/<version>/ for TensorFlow Serving. Other verbs take it by --model=<output>/<name>,
or by --model=<name> where <output> is `saved_models` here or beside the package.
With --format=onnx: what restores payloads, a file for each scale, to <output>/<fingerprint>/, for
browsers and for programs without TensorFlow. Needs the extra `onnx`.
Models of several scales become one codec: --ranges says which qualities each of them serves. Where
two ranges overlap, a picture's texture decides: --handovers=A-B gives the finer model those that
have A or more (in levels of [0, 255]) at the first quality of both, B or more at the last.
"""


# Flags that one of the formats has, and their defaults there.
OF_FORMAT = {
    "saved_model": {"output": "saved_models", "max_pixels": 64_000_000, "version": 0},
    "onnx": {"output": "onnx_models", "weights": "float32", "licence": "Apache-2.0"},
}


def add_flags(values: flags.FlagValues) -> None:
    help_text = "saved_model or onnx"
    flags.DEFINE_enum("format", "saved_model", [*OF_FORMAT], help_text, flag_values=values)
    help_text = "what the codec is called; by default what MODEL's folder is called"
    flags.DEFINE_string("name", "", help_text, flag_values=values)
    help_text = "folder of models; by default saved_models, or onnx_models"
    flags.DEFINE(common.PATH, "output", None, help_text, flag_values=values)
    kind = common.Parser("1-100:1-100,...", _ranges)
    help_text = "for each model its qualities and those of its JPEG, such as 1-60:5-90,61-100:30-97"
    flags.DEFINE(kind, "ranges", None, help_text, flag_values=values)
    kind = common.Parser("27-4,...", _handovers)
    help_text = (
        "where ranges overlap: limits of texture from which on the next model takes a picture"
    )
    flags.DEFINE(kind, "handovers", None, help_text, flag_values=values)
    help_text = "of a SavedModel: the largest image that it takes or restores; 64000000 by default"
    flags.DEFINE(common.PIXELS, "max_pixels", None, help_text, flag_values=values)
    help_text = "of a SavedModel: a free integer from 1; by default the next one"
    flags.DEFINE_integer("version", None, help_text, flag_values=values)
    help_text = "of ONNX: float32 (the default), or float16, which halves the files"
    flags.DEFINE_enum("weights", None, ["float32", "float16"], help_text, flag_values=values)
    help_text = "of ONNX: of the weights, as its SPDX name; Apache-2.0 by default"
    flags.DEFINE_string("licence", None, help_text, flag_values=values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    if not arguments:
        raise common.UsageError("expected a model; see --help. Received: none")
    given = values.flag_values_dict()
    kind = given.pop("format")
    of_others = {name for defaults in OF_FORMAT.values() for name in defaults}
    for name in of_others:
        if given[name] is None:
            del given[name]
        elif name not in OF_FORMAT[kind]:
            raise common.UsageError(f"--format={kind} has no --{name}")
    given = OF_FORMAT[kind] | given
    common.start_tensorflow()
    return (_to_onnx if kind == "onnx" else _to_saved_model)(arguments, given)


def _to_saved_model(models, given):
    from cnn_compression.export import export
    from cnn_compression.export.warmup import has_serving_api

    print(export(models, **given))
    if not has_serving_api():
        common.complain("note: no warm-up requests, which need the extra `serving`")
    return 0


def _to_onnx(models, given):
    from cnn_compression.export.onnx_models import export_onnx

    try:
        print(export_onnx(models, **given))
    except ModuleNotFoundError as error:
        raise ValueError(
            f"ONNX needs the extra `onnx`, pip install 'cnn-compression[onnx]': {error}"
        ) from error
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
