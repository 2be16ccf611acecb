"""`cnn-compression decode`: payloads -> restored images."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

import cnn_compression
from cnn_compression import files, metadata
from cnn_compression.cli import common, file_loop, pictures, remote, streams
from cnn_compression.cli.progress import BAR
from cnn_compression.cli.tally import Result
from cnn_compression.packing import layout as packed_layout
from cnn_compression.payload import latent_layout, layout
from cnn_compression.payload.latent_layout import is_latent

HELP = f"""
usage: cnn-compression decode [flags] FILES...

Restores payloads, the files that `encode` wrote, packed or not, into images of the original size:
PNG files, or by the ending of -o FILE also .jpg, .webp (both at quality {pictures.QUALITY}) and
.tif. Without --model each is restored by the model that wrote it, where that is installed.
A folder stands for the *{layout.PAYLOAD_SUFFIX}, *{latent_layout.LATENT_SUFFIX} and
*{packed_layout.PACKED_SUFFIX} in it; of a payload and its packing side by side the first is taken.
- is standard input, and what it restores to goes to standard output unless -o says otherwise.
"""


Header = layout.Header | latent_layout.Header | packed_layout.Header
# A payload and the ending of the output's name to the bytes of an image file.
Restore = Callable[[bytes, str], bytes]


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, "<stem>.png")
    common.add_model_flag(values)
    common.add_max_pixels_flag(values)
    help_text = "restore cut payloads of progressive models too, as far as they go"
    flags.DEFINE_boolean("partial", False, help_text, flag_values=values)
    remote.add_server_flags(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    if values.server:
        remote.refuse(values, "max_pixels", "partial")
        remote.refuse_latent(values)
    else:
        common.check_model(values.model)

    def open_decoder(alone):
        if values.server:
            restore = _open_server(values)
        else:
            restore = _open_codec(values, BAR.tiles if alone else None)

        def decode(read: tuple[bytes, Header], output: Path) -> Result:
            data, header = read
            payload = _unpacked(data, values.max_pixels) if packed_layout.is_packed(data) else data
            file = restore(payload, pictures.ending(output))
            streams.write(output, file, values.overwrite)
            before, pixels = len(data), header.height * header.width
            return Result(before, len(file), before, pixels, output)

        return decode

    conversion = file_loop.Conversion(
        keep=_keep,
        kind=file_loop.RESTORABLES,
        rename=_rename,
        accept=pictures.ending,
        read=functools.partial(_read, values),
        open_model=open_decoder,
    )
    return file_loop.convert(values, arguments, conversion, remote.jobs(values))


def _rename(source: Path) -> str:
    name = files.restored_name(source.name)
    if name == source.name:  # no payload, most likely: better said than that it is its own output
        layout.read_header(streams.read(source))
    return name


def _read(values: flags.FlagValues, source: Path, output: Path) -> tuple[bytes, Header]:
    data = streams.read(source)
    header = _header(data)
    if values.server and is_latent(data):
        raise ValueError(f"a model of the family {header.family} is not served: leave out --server")
    width, height = header.width, header.height
    if height * width > values.max_pixels:
        raise ValueError(f"{width} x {height} pixels: at most {values.max_pixels} are taken")
    pictures.check_sides(height, width, pictures.ending(output))
    return data, header


def _header(data: bytes) -> Header:
    if packed_layout.is_packed(data):
        return packed_layout.read(data)[0]
    return (latent_layout if is_latent(data) else layout).read_header(data)


def _keep(path: Path) -> bool:
    """Of a payload and its packing side by side in a folder, the payload is enough."""
    beside = path.with_name(files.payload_name(path.name))
    if files.is_packed_name(path):
        return not beside.exists()
    return files.is_restorable_name(path)


def _unpacked(packed: bytes, max_pixels: int) -> bytes:
    from cnn_compression.packing import payloads  # its compiler takes a second to import

    return payloads.unpack(packed, max_pixels)


def _open_codec(values: flags.FlagValues, report: common.Report) -> Restore:
    given = values["model"].present
    asked = functools.cache(functools.partial(common.load_codec, values.model, report))

    def image_of(payload):
        family = latent_layout.read_header(payload).family if is_latent(payload) else None
        said = f"made by a model of the family {family}"
        if given or family is None:
            try:
                return _decoded(asked(), payload, values)
            except layout.OtherModelError as error:
                said = str(error)
        maker, hint = _installed(_header(payload).fingerprint, family)
        if maker is None or given:
            raise layout.OtherModelError(f"{said}: {hint}")
        return _decoded(maker, payload, values)

    def restore(payload, ending):
        image = image_of(payload)
        kept = metadata.Metadata() if is_latent(payload) else metadata.of_payload(payload)
        return pictures.write(image, ending, kept)

    return restore


def _decoded(codec: Any, payload: bytes, values: flags.FlagValues) -> Any:
    import tensorflow as tf

    more = {"partial": values.partial} if codec.family else {}
    # A tensor for a tensor: an array would be copied again for the PNG.
    data = payload if is_latent(payload) else tf.constant(payload)
    return codec.decode(data, values.max_pixels, **more)


@functools.cache
def _installed(fingerprint: str, family: str | None) -> tuple[Any, str]:
    """The installed codec of this fingerprint, or None; and what to pass as --model for it."""
    from cnn_compression.codec import model_files

    for file in model_files.installed_models():
        if model_files.latent_family(file) != family:
            continue
        folder, name = file.parents[1], file.parents[2].name
        with contextlib.suppress(ValueError):  # of one that cannot be read
            codec = cnn_compression.load(folder)
            if codec.fingerprint == fingerprint:
                newest = model_files.find_model(name) == file
                return codec, f"pass --model={name if newest else common.shown(folder)}"
    return None, "no installed model is that one; pass --model=FOLDER of the model that encoded it"


def _open_server(values: flags.FlagValues) -> Restore:
    client = remote.open_client(values)

    def restore(payload, ending):
        return pictures.rewrite(client.decode(payload), ending, metadata.of_payload(payload))

    return restore
