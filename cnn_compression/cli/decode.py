"""`cnn-compression decode`: payloads -> restored images."""

from collections.abc import Callable
from pathlib import Path

from absl import flags

from cnn_compression import files, metadata
from cnn_compression.cli import common, file_loop, remote
from cnn_compression.cli.progress import BAR
from cnn_compression.payload import layout

HELP = f"""
usage: cnn-compression decode [flags] FILES...

Restores payloads, the files that `encode` wrote, into PNG images of the original size.
A folder stands for the *{layout.PAYLOAD_SUFFIX} in it.
"""


# A payload to a PNG file's bytes, and the image's pixels.
Restore = Callable[[bytes], tuple[bytes, int]]


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, "<stem>.png")
    common.add_model_flag(values)
    common.add_max_pixels_flag(values)
    remote.add_server_flags(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    if values.server:
        remote.refuse(values, "max_pixels")

    def open_decoder(alone):
        if values.server:
            restore = _open_server(values)
        else:
            restore = _open_codec(values, BAR.tiles if alone else None)

        def decode(source: Path, target: Path) -> file_loop.Result:
            payload = source.read_bytes()
            png, pixels = restore(payload)
            png = metadata.carry(payload, png)
            files.write_atomically(target, png)
            return file_loop.Result(len(payload), len(png), len(payload), pixels, target)

        return decode

    return file_loop.convert(
        *(values, arguments, files.is_payload_name, file_loop.PAYLOADS, _rename, open_decoder),
        jobs=remote.jobs(values),
    )


def _open_codec(values: flags.FlagValues, report: common.Report) -> Restore:
    codec = common.load_codec(values.model, report)
    import tensorflow as tf

    from cnn_compression import images

    def restore(payload):
        # A tensor for a tensor: an array would be copied again for the PNG.
        image = codec.decode(tf.constant(payload), values.max_pixels)
        return images.encode_png(image).numpy(), image.shape[0] * image.shape[1]

    return restore


def _open_server(values: flags.FlagValues) -> Restore:
    client = remote.open_client(values)

    def restore(payload):
        png = client.decode(payload)
        header = layout.read_header(payload)
        return png, header.height * header.width

    return restore


def _rename(source: Path) -> str:
    return files.restored_name(source.name)
