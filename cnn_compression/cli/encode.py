"""`cnn-compression encode`: images -> payloads."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from cnn_compression import files, images
from cnn_compression.cli import common, file_loop, remote, streams
from cnn_compression.cli.progress import BAR
from cnn_compression.cli.tally import Result
from cnn_compression.metadata import Metadata, into_payload
from cnn_compression.packing.layout import PACKED_SUFFIX, is_packed
from cnn_compression.payload import layout
from cnn_compression.payload.latent_layout import LATENT_SUFFIX

HELP = f"""
usage: cnn-compression encode [flags] FILES...

Compresses images into JPEG files that any viewer opens, as a preview, and `decode` restores. With
--pack they take about a third fewer bytes and no viewer opens them: `unpack` gives the JPEGs, byte
for byte, and `decode` takes both. Latent models, such as `bottleneck`, have bytes of their own
instead: <stem>{LATENT_SUFFIX}.
A folder stands for the images in it, without its *{layout.PAYLOAD_SUFFIX}; - is standard input,
whose payload goes to standard output unless -o says otherwise.
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
    "target_bytes": (common.BYTES, f"highest quality with no more bytes; {common.SIZES}"),
    "target_bpp": (common.NUMBER, "highest quality with no more bits per pixel"),
    "target_psnr": (common.NUMBER, "lowest quality that reaches this PSNR, dB"),
}


class Picture(NamedTuple):
    """A file that can be compressed; `image` is uint8 `[H, W, C]`, None where a server reads it."""

    contents: bytes
    image: Any = None
    notes: tuple[str, ...] = ()
    kept: Metadata = Metadata()


# A picture to a payload and the image's pixels.
Compress = Callable[[Picture], tuple[bytes, int]]


def add_flags(values: flags.FlagValues) -> None:
    common.add_quality_flag(values)
    for name, (parser, help_text) in TARGETS.items():
        flags.DEFINE(parser, name, None, f"instead of a quality: {help_text}", flag_values=values)
    help_text = f"write packed payloads, <stem>{PACKED_SUFFIX}; targets count their bytes"
    flags.DEFINE_boolean("pack", False, help_text, flag_values=values)
    help_text = "time spent for bytes, 0..2: 60 times as much and more; no file grows or gets worse"
    flags.DEFINE_integer("effort", 0, help_text, 0, 2, flag_values=values)
    common.add_output_flags(values, f"<stem>{layout.PAYLOAD_SUFFIX}")
    common.add_model_flag(values)
    colour = common.Parser("COLOUR", _colour)
    help_text = f"put transparent images on this colour: #rrggbb, {', '.join(COLOURS)}"
    flags.DEFINE(colour, "flatten", None, help_text, flag_values=values)
    help_text = "a picture of the same size, black where a generative model may make things up"
    flags.DEFINE(common.PATH, "mask", None, help_text, flag_values=values)
    common.add_colour_flag(values)
    common.add_metadata_flag(values)
    common.add_max_pixels_flag(values)
    remote.add_server_flags(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    target = {name: values[name].value for name in TARGETS if values[name].value is not None}
    given = [*target, *(["quality"] if values["quality"].present else [])]
    if len(given) > 1:
        raise common.UsageError(
            f"expected one of --quality and --target_*. Received: {', '.join(given)}"
        )
    if values.mask and target:
        raise common.UsageError(f"expected --mask without a target. Received: {', '.join(target)}")
    if values.server:
        remote.refuse(values, "mask", "flatten", "colour", "keep_metadata", "max_pixels", "effort")
        remote.refuse(values, "target_bpp", "target_psnr", *["target_bytes"] * values.pack)
        remote.refuse_latent(values)
        family = None
    elif family := common.latent_family(values.model):
        _refuse_of_latent(values, family)
    elif values.mask:
        raise common.UsageError(
            "expected --mask with a generative model. Received: one around JPEG"
        )

    def open_encoder(alone):
        if values.server:
            compress = _open_server(values, target)
        else:
            compress = _open_codec(values, target, BAR.tiles if alone else None)

        def encode(picture: Picture, output: Path) -> Result:
            payload, pixels = compress(picture)
            if values.pack and not is_packed(payload):
                payload = _packing().pack(payload, values.max_pixels)
            streams.write(output, payload, values.overwrite)
            before, size = len(picture.contents), len(payload)
            notes = [*picture.notes]
            if size > before:
                notes.append(
                    f"the payload is larger than its input, {size} bytes for {before}: "
                    "keep the input, or pass a lower --quality"
                )
            return Result(before, size, size, pixels, output, tuple(notes))

        return encode

    if family:
        name_of, accepts = files.latent_name, accept_latent
    elif values.pack:
        name_of, accepts = files.packed_name, accept_packed
    else:
        name_of, accepts = files.payload_name, accept
    conversion = file_loop.Conversion(
        keep=files.is_image_name,
        kind="images",
        rename=lambda source: name_of(source.name),
        accept=accepts,
        read=functools.partial(_read, values),
        open_model=open_encoder,
    )
    return file_loop.convert(values, arguments, conversion, remote.jobs(values))


def accept(output: Path) -> None:
    """A name that promises another format would mislead all who read it."""
    if files.is_packed_name(output):
        raise ValueError(
            f"a payload is a JPEG file: pass --pack, or -o NAME.jpg, for {output.name}"
        )
    if files.is_image_name(output) and not output.name.lower().endswith(files.JPEG_ENDINGS):
        raise ValueError(f"a payload is a JPEG file: expected -o NAME.jpg. Received: {output.name}")


def accept_packed(output: Path) -> None:
    """As `accept`, of what is no JPEG either."""
    if files.is_image_name(output) or files.is_payload_name(output):
        raise ValueError(
            f"a packed payload is no JPEG: expected -o NAME{PACKED_SUFFIX}. Received: {output.name}"
        )


def accept_latent(output: Path) -> None:
    """As `accept`, of a latent codec's payload."""
    if files.is_image_name(output) or files.is_payload_name(output) or files.is_packed_name(output):
        raise ValueError(
            f"a latent codec's payload is no JPEG and not packed: expected -o NAME{LATENT_SUFFIX}. "
            f"Received: {output.name}"
        )


def _refuse_of_latent(values: flags.FlagValues, family: str) -> None:
    """Raises `UsageError` where flags were given that only codecs around JPEG have."""
    given = [name for name in ("pack", "effort", "keep_metadata") if values[name].value]
    if given:
        flags_given = " or ".join(f"--{name}" for name in given)
        raise common.UsageError(f"expected no {flags_given} with a model of the family {family}")


def _read(values: flags.FlagValues, source: Path, output: Path) -> Picture:
    contents = streams.read(source)
    if values.server:
        images.refuse_payload(contents)
        return Picture(contents)
    how = (values.flatten, values.max_pixels, values.colour)
    if values.keep_metadata:
        image, notes, kept = images.read_with_metadata(contents, *how)
        return Picture(contents, image, tuple(notes), kept)
    image, notes = images.read_contents(contents, *how)
    return Picture(contents, image, tuple(notes))


def _open_codec(values: flags.FlagValues, target: dict, report: common.Report) -> Compress:
    codec = common.load_codec(values.model, report)
    quality = values.quality if values["quality"].present else codec.default_quality
    mask = {"mask": _read_mask(values.mask)} if values.mask else {}

    def compress(picture):
        height, width, _ = picture.image.shape
        kept = picture.kept

        def encode(quality):
            payload = codec.encode(picture.image, quality, values.effort, **mask)
            return into_payload(payload, kept) if kept else payload

        limit = target.get("target_bytes", height * width * target.get("target_bpp", 0) / 8)
        if values.pack and limit:
            return _packing().pack_to(encode, limit, values.max_pixels)[0], height * width
        if not target:
            return encode(quality), height * width
        payload = _encode_to(codec, picture.image, target, kept.num_bytes, values.effort)
        return into_payload(payload, kept) if kept else payload, height * width

    return compress


def _read_mask(path: str) -> Any:
    """bool `[H, W]`: false where the picture is nearer to black than to white."""
    image, _ = images.read(path, COLOURS["white"])
    return image.mean(axis=-1) >= 128


def _packing() -> Any:
    from cnn_compression.packing import payloads  # its compiler takes a second to import

    return payloads


def _encode_to(codec: Any, image: Any, target: dict, num_bytes: int, effort: int) -> bytes:
    """A payload that meets a target together with so many bytes of metadata."""
    height, width, _ = image.shape
    taken = {"target_bytes": num_bytes, "target_bpp": 8 * num_bytes / (height * width)}
    left = {name: value - taken.get(name, 0) for name, value in target.items()}
    if min(left.values()) <= 0:
        raise ValueError(f"its metadata alone take {num_bytes} bytes: leave out --keep_metadata")
    return codec.encode_to(image, **left, effort=effort)


def _open_server(values: flags.FlagValues, target: dict) -> Compress:
    client = remote.open_client(values)

    def compress(picture):
        if target:
            most = min(target["target_bytes"], 2**31 - 1)
            payload, _ = client.encode_to_size(picture.contents, most)
        else:
            payload = client.encode(picture.contents, values.quality)
        header = layout.read_header(payload)
        return payload, header.height * header.width

    return compress


def _colour(text: str) -> tuple[int, int, int]:
    digits = text.removeprefix("#")
    try:
        if len(digits) == len(text) - 1 == 6:
            return tuple(bytes.fromhex(digits))
        return COLOURS[text.lower()]
    except (ValueError, KeyError):
        raise ValueError(f"expected #rrggbb or one of {', '.join(COLOURS)}") from None
