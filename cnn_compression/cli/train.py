"""`cnn-compression train`: photographs -> a model."""

import functools
import logging
import sys
from dataclasses import fields
from typing import get_type_hints

from absl import flags

from cnn_compression.cli import common, words
from cnn_compression.training.config import TrainConfig

HELP = """
usage: cnn-compression train --output=FOLDER [flags] FOLDERS...

Trains a model on the images in folders, whose names add to --data. Presets: fast and paper leave
JPEGs; bottleneck, progressive and generative are older or bolder codecs with bytes of their own;
toderici and agustsson are the last two at their papers' widths. The same command goes on from
the last checkpoint in --output if the run was stopped, with the images that it began with: what is
added to the folders later is left out. `export` makes a codec of what it writes.
"""

DEFINERS = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
    tuple[str, ...]: flags.DEFINE_multi_string,
}


def add_flags(values: flags.FlagValues) -> None:
    """A flag for each field of `TrainConfig`, by its type, default and help."""
    types = get_type_hints(TrainConfig)
    for field in fields(TrainConfig):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        help_text = field.metadata["help"].removesuffix(".")
        define = DEFINERS[types[field.name]]
        if types[field.name] is str and "choices" in field.metadata:
            # Like DEFINE_enum, which would say the choices once more in front of the help.
            define = functools.partial(flags.DEFINE, flags.EnumParser(field.metadata["choices"]))
        define(name=field.name, default=default, help=help_text, flag_values=values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    settings = {field.name: values[field.name].value for field in fields(TrainConfig)}
    settings["data"] = (*settings["data"], *words.expanded(arguments))
    config = TrainConfig(**settings)
    common.start_tensorflow()
    from cnn_compression.training.data import TooManyBadFilesError
    from cnn_compression.training.loop import train

    _log_to_stderr()
    try:
        train(config)
    except (FloatingPointError, TooManyBadFilesError) as error:  # the data's fault, not a bug's
        raise ValueError(str(error)) from error
    print(f"trained: {config.output}")
    return 0


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cnn_compression").setLevel(logging.INFO)
