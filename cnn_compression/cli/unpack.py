"""`cnn-compression unpack`: packed files -> payloads, other JPEGs, or whatever they were."""

from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams
from cnn_compression.cli.encode import accept
from cnn_compression.cli.progress import BAR
from cnn_compression.cli.tally import Result
from cnn_compression.packing import bytes_layout, formats, jpeg_layout, layout
from cnn_compression.payload.layout import PAYLOAD_SUFFIX

HELP = f"""
usage: cnn-compression unpack [flags] FILES...

Unpacks what `pack`, or `encode --pack`, wrote: into the payload, the other JPEG or the file that
was packed, byte for byte. A file that is no JPEG comes back on the machine and with the build of
TensorFlow that packed it, and is refused elsewhere.
A folder stands for the *{layout.PACKED_SUFFIX} in it; - is standard input, whose contents go to
standard output unless -o says otherwise.
"""


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, f"<stem>{PAYLOAD_SUFFIX} of payloads, or the name before")
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
    suffix = PAYLOAD_SUFFIX
    if not streams.is_stream(source):
        with open(source, "rb") as file:
            suffix = _SUFFIXES[formats.kind(file.read(8))]
    return files.unpacked_name(source.name, suffix)


_SUFFIXES = {formats.PAYLOAD: PAYLOAD_SUFFIX, formats.JPEG: ".jpg", formats.BYTES: ""}


def _read(source: Path, output: Path) -> tuple[bytes, int]:
    packed = streams.read(source)
    kind = formats.kind(packed)
    if kind == formats.BYTES:
        bytes_layout.read(packed)
        return packed, 0
    accept(output)
    if kind == formats.JPEG:
        height, width, _ = jpeg_layout.read(packed)[0].shape
        return packed, height * width
    header, _ = layout.read(packed)
    return packed, header.height * header.width


def _open(values):
    # Their compiler takes a second to import.
    from cnn_compression.packing import any_bytes, jpegs

    def unpack(read, output):
        packed, pixels = read
        if formats.kind(packed) == formats.BYTES:
            data = any_bytes.unpack(packed, BAR.bytes)
        else:
            data = jpegs.unpack(packed, values.max_pixels)
        streams.write(output, data, values.overwrite)
        return Result(len(packed), len(data), len(data), pixels, output)

    return unpack
