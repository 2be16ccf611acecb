"""`cnn-compression unpack`: packed files -> payloads, or whatever they were."""

from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams
from cnn_compression.cli.encode import accept
from cnn_compression.cli.progress import BAR
from cnn_compression.cli.tally import Result
from cnn_compression.packing import bytes_layout, formats, layout
from cnn_compression.payload.layout import PAYLOAD_SUFFIX

HELP = f"""
usage: cnn-compression unpack [flags] FILES...

Unpacks what `pack`, or `encode --pack`, wrote: into the payload, byte for byte, a JPEG again.
Any other file, notes.txt from notes.txt{layout.PACKED_SUFFIX}, comes back on the machine and
with the build of TensorFlow that packed it, and is refused elsewhere.
A folder stands for the *{layout.PACKED_SUFFIX} in it; - is standard input, whose payload goes to
standard output unless -o says otherwise.
"""


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, f"<stem>{PAYLOAD_SUFFIX}, or the name before")
    common.add_max_pixels_flag(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    conversion = file_loop.Conversion(
        keep=files.is_packed_name,
        kind=f"*{layout.PACKED_SUFFIX} files",
        rename=_rename,
        accept=lambda output: None,
        read=_read,
        open_model=lambda alone: _open(values),
    )
    return file_loop.convert(values, arguments, conversion, jobs=1)


def _rename(source: Path) -> str:
    if not streams.is_stream(source):
        with open(source, "rb") as file:
            if formats.kind(file.read(8)) == formats.BYTES:
                return files.unpacked_bytes_name(source.name)
    return files.payload_name(source.name)


def _read(source: Path, output: Path) -> tuple[bytes, int]:
    packed = streams.read(source)
    if formats.kind(packed) == formats.BYTES:
        bytes_layout.read(packed)
        return packed, 0
    accept(output)
    header, _ = layout.read(packed)
    return packed, header.height * header.width


def _open(values):
    # Their compiler takes a second to import.
    from cnn_compression.packing import any_bytes, payloads

    def unpack(read, output):
        packed, pixels = read
        if formats.kind(packed) == formats.BYTES:
            data = any_bytes.unpack(packed, BAR.bytes)
        else:
            data = payloads.unpack(packed, values.max_pixels)
        streams.write(output, data, values.overwrite)
        return Result(len(packed), len(data), len(data), pixels, output)

    return unpack
