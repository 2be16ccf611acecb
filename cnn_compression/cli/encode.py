"""`cnn-compression encode`: images -> payloads."""

import functools
import math
from pathlib import Path

from absl import flags

from cnn_compression import container, files
from cnn_compression.cli import common

HELP = f"""
usage: cnn-compression encode [flags] FILES...

Compresses images into JPEG files that any viewer opens, as a preview, and `decode` restores.
A folder stands for the images in it, without its *{container.PAYLOAD_SUFFIX}.
"""

COLOURS = {
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
}


TARGETS = {
    "target_bytes": (int, "highest quality with no more bytes"),
    "target_bpp": (float, "highest quality with no more bits per pixel"),
    "target_psnr": (float, "lowest quality that reaches this PSNR, dB"),
}


def add_flags(values: flags.FlagValues) -> None:
    common.add_quality_flag(values)
    for name, (kind, help_text) in TARGETS.items():
        number = common.Parser("NUMBER", functools.partial(_above_zero, kind))
        flags.DEFINE(number, name, None, f"instead of a quality: {help_text}", flag_values=values)
    help_text = "seconds spent for bytes, 0..3: each level takes longer; files stay as good"
    flags.DEFINE_integer("effort", 0, help_text, 0, 3, flag_values=values)
    common.add_output_flags(values, f"<stem>{container.PAYLOAD_SUFFIX}")
    common.add_model_flag(values)
    colour = common.Parser("COLOUR", _colour)
    help_text = f"put transparent images on this colour: #rrggbb, {', '.join(COLOURS)}"
    flags.DEFINE(colour, "flatten", None, help_text, flag_values=values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    target = {name: values[name].value for name in TARGETS if values[name].value is not None}
    given = [*target, *(["quality"] if values["quality"].present else [])]
    if len(given) > 1:
        raise ValueError(f"expected one of --quality and --target_*. Received: {', '.join(given)}")

    def open_encoder():
        codec = common.load_codec(values.model)
        from cnn_compression import images

        def compress(image):
            if target:
                return codec.encode_to(image, **target, effort=values.effort)
            return codec.encode(image, values.quality, values.effort)

        def encode(source: Path, output: Path) -> common.Result:
            contents = source.read_bytes()
            if container.is_payload(contents):
                raise ValueError("is a payload already: encode the image it was made from")
            image, notes = images.read_contents(contents, values.flatten)
            payload = compress(image)
            files.write_atomically(output, payload)
            pixels = image.shape[0] * image.shape[1]
            return common.Result(len(contents), len(payload), len(payload), pixels, tuple(notes))

        return encode

    def rename(source: Path) -> str:
        return source.stem + container.PAYLOAD_SUFFIX

    return common.convert(values, arguments, common.is_image_name, "images", rename, open_encoder)


def _above_zero(kind: type, text: str) -> float:
    number = kind(text)
    if not 0 < number < math.inf:
        raise ValueError("expected a number above 0")
    return number


def _colour(text: str) -> tuple[int, int, int]:
    digits = text.removeprefix("#")
    try:
        if len(digits) == len(text) - 1 == 6:
            return tuple(bytes.fromhex(digits))
        return COLOURS[text.lower()]
    except (ValueError, KeyError):
        raise ValueError(f"expected #rrggbb or one of {', '.join(COLOURS)}") from None
