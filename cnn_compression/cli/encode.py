"""`cnn-compression encode`: images -> payloads."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, remote
from cnn_compression.cli.progress import BAR
from cnn_compression.payload import layout

HELP = f"""
usage: cnn-compression encode [flags] FILES...

Compresses images into JPEG files that any viewer opens, as a preview, and `decode` restores.
A folder stands for the images in it, without its *{layout.PAYLOAD_SUFFIX}.
"""

COLOURS = {
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
}


# An image file's bytes to a payload, the image's pixels, and remarks.
Compress = Callable[[bytes], tuple[bytes, int, list[str]]]

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
    help_text = "seconds spent for bytes, 0..2: each level takes longer; files stay as good"
    flags.DEFINE_integer("effort", 0, help_text, 0, 2, flag_values=values)
    common.add_output_flags(values, f"<stem>{layout.PAYLOAD_SUFFIX}")
    common.add_model_flag(values)
    colour = common.Parser("COLOUR", _colour)
    help_text = f"put transparent images on this colour: #rrggbb, {', '.join(COLOURS)}"
    flags.DEFINE(colour, "flatten", None, help_text, flag_values=values)
    common.add_colour_flag(values)
    common.add_metadata_flag(values)
    common.add_max_pixels_flag(values)
    remote.add_server_flags(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    target = {name: values[name].value for name in TARGETS if values[name].value is not None}
    given = [*target, *(["quality"] if values["quality"].present else [])]
    if len(given) > 1:
        raise ValueError(f"expected one of --quality and --target_*. Received: {', '.join(given)}")

    if values.server:
        remote.refuse(values, "flatten", "colour", "keep_metadata", "max_pixels", "effort")
        remote.refuse(values, "target_bpp", "target_psnr")

    def open_encoder(alone):
        if values.server:
            compress = _open_server(values, target)
        else:
            compress = _open_codec(values, target, BAR.tiles if alone else None)

        def encode(source: Path, output: Path) -> file_loop.Result:
            contents = source.read_bytes()
            if layout.is_payload(contents):
                raise ValueError("is a payload already: encode the image it was made from")
            payload, pixels, notes = compress(contents)
            files.write_atomically(output, payload)
            size = len(payload)
            return file_loop.Result(len(contents), size, size, pixels, output, tuple(notes))

        return encode

    def rename(source: Path) -> str:
        return files.payload_name(source.name)

    return file_loop.convert(
        *(values, arguments, files.is_image_name, "images", rename, open_encoder),
        jobs=remote.jobs(values),
    )


def _open_codec(values: flags.FlagValues, target: dict, report: common.Report) -> Compress:
    codec = common.load_codec(values.model, report)
    from cnn_compression import images, metadata

    def compress(contents):
        how = (values.flatten, values.max_pixels, values.colour)
        kept = metadata.Metadata()
        if values.keep_metadata:
            image, notes, kept = images.read_with_metadata(contents, *how)
        else:
            image, notes = images.read_contents(contents, *how)
        pixels = image.shape[0] * image.shape[1]
        if target:
            left = _less(target, kept.num_bytes, pixels)
            payload = codec.encode_to(image, **left, effort=values.effort)
        else:
            payload = codec.encode(image, values.quality, values.effort)
        return metadata.into_payload(payload, kept) if kept else payload, pixels, notes

    return compress


def _less(target: dict, num_bytes: int, pixels: int) -> dict:
    """The target that is left to the picture where metadata take so many bytes."""
    taken = {"target_bytes": num_bytes, "target_bpp": 8 * num_bytes / pixels}
    return {name: value - taken.get(name, 0) for name, value in target.items()}


def _open_server(values: flags.FlagValues, target: dict) -> Compress:
    client = remote.open_client(values)

    def compress(contents):
        if target:
            payload, _ = client.encode_to_size(contents, min(target["target_bytes"], 2**31 - 1))
        else:
            payload = client.encode(contents, values.quality)
        header = layout.read_header(payload)
        return payload, header.height * header.width, []

    return compress


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
