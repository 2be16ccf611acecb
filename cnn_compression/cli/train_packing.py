"""`cnn-compression train_packing`: photographs -> the predicting networks of `pack`."""

import logging
import sys
from dataclasses import fields
from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, words
from cnn_compression.training.config import PackingConfig

HELP = """
usage: cnn-compression train_packing --output=FOLDER [flags] FOLDERS...

Trains the networks that `pack` predicts with, on payloads that a model makes of the photographs in
folders, or on JPEGs of them such as cameras write. The same command goes on where it was stopped.
It writes FOLDER/packing.npz, which serves `pack` and `unpack` as saved_models/packing/NUMBER.npz:
of those for payloads, and of those for other JPEGs, the greatest number packs, and what others
packed needs them still. Of 1,000 photographs payloads take 2 GB of memory, JPEGs 6.
"""
RESULT = "packing.npz"
_PAYLOADS, _JPEGS = "payloads", "jpegs"


def add_flags(values: flags.FlagValues) -> None:
    flags.DEFINE(common.PATH, "output", None, "folder of the run", flag_values=values)
    common.add_model_flag(values)
    flags.DEFINE_enum("of", _PAYLOADS, [_PAYLOADS, _JPEGS], "what to pack", flag_values=values)
    flags.DEFINE(common.PATH, "init", None, "packing.npz to start from", flag_values=values)
    for field in fields(PackingConfig):
        define = flags.DEFINE_float if field.type is float else flags.DEFINE_integer
        define(field.name, field.default, field.metadata["help"][:-1], flag_values=values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    if not values.output or not arguments:
        raise common.UsageError("expected --output=FOLDER and folders of photographs")
    config = PackingConfig(
        **{field.name: values[field.name].value for field in fields(PackingConfig)}
    )
    photographs = files.find_files(words.expanded(arguments), files.is_image_name, True)
    of_payloads = values.of == _PAYLOADS
    if of_payloads:
        common.check_model(values.model)
    elif values["model"].present:
        raise common.UsageError("expected no --model with --of=jpegs: any JPEG is packed alike")
    output = Path(values.output)
    codec = common.load_codec(values.model) if of_payloads else None
    from cnn_compression.packing import predictors
    from cnn_compression.training import packing

    init = predictors.load(Path(values.init)) if values.init else None
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cnn_compression").setLevel(logging.INFO)
    output.mkdir(parents=True, exist_ok=True)
    with files.locked(output):
        # What another model's run left there is no part of this one.
        model = codec.fingerprint if codec else ""
        run = output / (model or _JPEGS)
        if codec:
            made = packing.make_payloads(codec, photographs, run / "payloads", config.payloads)
        else:
            made = packing.make_jpegs(photographs, run / "jpegs", config.payloads)
        read = [file.read_bytes() for file in made]
        networks = packing.train_predictors(read, model, config, run, init)
        files.write_atomically(output / RESULT, predictors.saved(networks))
    print(f"trained networks {networks.fingerprint}: {output / RESULT}")
    return 0
