"""`cnn-compression decode`: payloads -> restored images."""

from collections.abc import Callable
from pathlib import Path

from absl import flags

from cnn_compression import container, files
from cnn_compression.cli import common, remote

HELP = f"""
usage: cnn-compression decode [flags] FILES...

Restores payloads, the files that `encode` wrote, into PNG images of the original size.
A folder stands for the *{container.PAYLOAD_SUFFIX} in it.
"""


# A payload to a PNG file's bytes, and the image's pixels.
Restore = Callable[[bytes], tuple[bytes, int]]


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, "<stem>.png")
    common.add_model_flag(values)
    remote.add_server_flags(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    def open_decoder():
        restore = (_open_server if values.server else _open_codec)(values)

        def decode(source: Path, target: Path) -> common.Result:
            payload = source.read_bytes()
            png, pixels = restore(payload)
            files.write_atomically(target, png)
            return common.Result(len(payload), len(png), len(payload), pixels)

        return decode

    return common.convert(
        *(values, arguments, files.is_payload_name, common.PAYLOADS, _rename, open_decoder),
        at_once=remote.at_once(values),
    )


def _open_codec(values: flags.FlagValues) -> Restore:
    codec = common.load_codec(values.model)
    from cnn_compression import images

    def restore(payload):
        image = codec.decode(payload)
        return images.encode_png(image).numpy(), image.shape[0] * image.shape[1]

    return restore


def _open_server(values: flags.FlagValues) -> Restore:
    client = remote.open_client(values)

    def restore(payload):
        png = client.decode(payload)
        header = container.read_header(payload)
        return png, header.height * header.width

    return restore


def _rename(source: Path) -> str:
    if files.is_payload_name(source):
        return source.name[: -len(container.PAYLOAD_SUFFIX)] + ".png"
    return source.stem + ".png"
