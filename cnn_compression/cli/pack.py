"""`cnn-compression pack`: payloads -> packed payloads."""

from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams
from cnn_compression.cli.encode import accept_packed
from cnn_compression.cli.tally import Result
from cnn_compression.packing.layout import PACKED_SUFFIX
from cnn_compression.payload import layout

HELP = f"""
usage: cnn-compression pack [flags] FILES...

Packs payloads, the files that `encode` wrote: about a third fewer bytes, up to half of small ones
and a sixth of those of quality 90. What comes out is no JPEG; `unpack` gives the payload back, byte
for byte, which was tried before a file is written. `decode` and `info` take packed files too.
A folder stands for the *{layout.PAYLOAD_SUFFIX} in it; - is standard input, and what it packs
goes to standard output unless -o says otherwise.
"""


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, f"<stem>{PACKED_SUFFIX}")
    common.add_max_pixels_flag(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    conversion = file_loop.Conversion(
        keep=files.is_payload_name,
        kind=file_loop.PAYLOADS,
        rename=lambda source: files.packed_name(source.name),
        accept=accept_packed,
        read=_read,
        open_model=lambda alone: _open(values),
    )
    return file_loop.convert(values, arguments, conversion, jobs=1)


def _read(source: Path, output: Path) -> tuple[bytes, int]:
    payload = streams.read(source)
    header = layout.read_header(payload)
    return payload, header.height * header.width


def _open(values):
    from cnn_compression.packing import payloads  # its compiler takes a second to import

    def pack(read, output):
        payload, pixels = read
        packed = payloads.pack(payload, values.max_pixels)
        streams.write(output, packed, values.overwrite)
        return Result(len(payload), len(packed), len(packed), pixels, output)

    return pack
