"""`cnn-compression pack`: JPEGs, payloads or not -> packed files."""

import math
from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams
from cnn_compression.cli.encode import accept_packed
from cnn_compression.cli.tally import Result
from cnn_compression.packing.layout import PACKED_SUFFIX, PackedError
from cnn_compression.payload import layout

HELP = f"""
usage: cnn-compression pack [flags] FILES...

Packs payloads, the files that `encode` wrote: about a third fewer bytes, up to half of small ones
and a sixth of those of quality 90. Packs other JPEGs too, into a quarter to a third fewer bytes:
baseline or progressive, grey, 4:2:0, 4:2:2 or 4:4:4, with whatever metadata; others are refused.
What comes out is no JPEG; `unpack` gives the file back, byte for byte, which was tried before one
is written. `decode` takes packed payloads too, `info` all that is packed.
A folder stands for the *{layout.PAYLOAD_SUFFIX} in it: other JPEGs must be named. - is standard
input, and what it packs goes to standard output unless -o says otherwise.
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
    jpeg = streams.read(source)
    if not jpeg.startswith(layout.START_OF_IMAGE):
        raise PackedError(f"not a JPEG: expected FF D8. Received: {jpeg[:4]!r}")
    if layout.is_payload(jpeg):
        header = layout.read_header(jpeg)
        return jpeg, header.height * header.width
    return jpeg, math.prod(layout.preview_size(jpeg))


def _open(values):
    from cnn_compression.packing import jpegs  # its compiler takes a second to import

    def pack(read, output):
        jpeg, pixels = read
        packed = jpegs.pack(jpeg, values.max_pixels)
        streams.write(output, packed, values.overwrite)
        return Result(len(jpeg), len(packed), len(packed), pixels, output)

    return pack
