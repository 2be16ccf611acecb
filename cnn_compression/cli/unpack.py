"""`cnn-compression unpack`: packed payloads -> payloads."""

from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams
from cnn_compression.cli.encode import accept
from cnn_compression.cli.tally import Result
from cnn_compression.packing import layout
from cnn_compression.payload.layout import PAYLOAD_SUFFIX

HELP = f"""
usage: cnn-compression unpack [flags] FILES...

Unpacks what `pack`, or `encode --pack`, wrote: into the payload, byte for byte, a JPEG again.
A folder stands for the *{layout.PACKED_SUFFIX} in it; - is standard input, whose payload goes to
standard output unless -o says otherwise.
"""


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, f"<stem>{PAYLOAD_SUFFIX}")
    common.add_max_pixels_flag(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    conversion = file_loop.Conversion(
        keep=files.is_packed_name,
        kind=f"*{layout.PACKED_SUFFIX} files",
        rename=lambda source: files.payload_name(source.name),
        accept=accept,
        read=_read,
        open_model=lambda alone: _open(values),
    )
    return file_loop.convert(values, arguments, conversion, jobs=1)


def _read(source: Path, output: Path) -> tuple[bytes, int]:
    packed = streams.read(source)
    header, _ = layout.read(packed)
    return packed, header.height * header.width


def _open(values):
    from cnn_compression.packing import payloads  # its compiler takes a second to import

    def unpack(read, output):
        packed, pixels = read
        payload = payloads.unpack(packed, values.max_pixels)
        streams.write(output, payload, values.overwrite)
        return Result(len(packed), len(payload), len(payload), pixels, output)

    return unpack
