"""`cnn-compression unpack`: packed files -> the JPEGs that were packed."""

from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams
from cnn_compression.cli.encode import accept
from cnn_compression.cli.tally import Result
from cnn_compression.packing import jpeg_layout, layout
from cnn_compression.payload.layout import PAYLOAD_SUFFIX

HELP = f"""
usage: cnn-compression unpack [flags] FILES...

Unpacks what `pack`, or `encode --pack`, wrote: into the payload or the other JPEG that was packed,
byte for byte. A folder stands for the *{layout.PACKED_SUFFIX} in it; - is standard input, whose
JPEG goes to standard output unless -o says otherwise.
"""


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, f"<stem>{PAYLOAD_SUFFIX}, or <stem>.jpg of no payload")
    common.add_max_pixels_flag(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    conversion = file_loop.Conversion(
        keep=files.is_packed_name,
        kind=f"*{layout.PACKED_SUFFIX} files",
        rename=_rename,
        accept=accept,
        read=_read,
        open_model=lambda alone: _open(values),
    )
    return file_loop.convert(values, arguments, conversion, jobs=1)


def _rename(source: Path) -> str:
    if not streams.is_stream(source):
        with open(source, "rb") as file:
            if jpeg_layout.is_packed(file.read(8)):
                return files.jpeg_name(source.name)
    return files.payload_name(source.name)


def _read(source: Path, output: Path) -> tuple[bytes, int]:
    packed = streams.read(source)
    if jpeg_layout.is_packed(packed):
        height, width, _ = jpeg_layout.read(packed)[0].shape
    else:
        header, _ = layout.read(packed)
        height, width = header.height, header.width
    return packed, height * width


def _open(values):
    from cnn_compression.packing import jpegs  # its compiler takes a second to import

    def unpack(read, output):
        packed, pixels = read
        jpeg = jpegs.unpack(packed, values.max_pixels)
        streams.write(output, jpeg, values.overwrite)
        return Result(len(packed), len(jpeg), len(jpeg), pixels, output)

    return unpack
