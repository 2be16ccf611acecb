"""`cnn-compression pack`: payloads, other JPEGs, any files -> packed files."""

import math
from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams
from cnn_compression.cli.encode import accept_packed
from cnn_compression.cli.progress import BAR
from cnn_compression.cli.tally import Result
from cnn_compression.packing.bytes_layout import METHODS
from cnn_compression.packing.layout import PACKED_SUFFIX, PackedError
from cnn_compression.payload import latent_layout, layout

HELP = f"""
usage: cnn-compression pack [flags] FILES...

Packs files into fewer bytes; `unpack` gives each back, byte for byte, which is tried before one is
written. What comes out is no JPEG; `decode` takes packed payloads, `info` all that is packed.
- Payloads, the files that `encode` wrote: about a third fewer bytes, up to half of small ones and a
  sixth of those of quality 90.
- Other JPEGs, photo.jpg into photo.jpg{PACKED_SUFFIX}: a quarter to a third fewer bytes. They may
  be baseline or progressive, grey, 4:2:0, 4:2:2 or 4:4:4, with whatever metadata; others are
  refused.
- Any other file, notes.txt into notes.txt{PACKED_SUFFIX}, by a network that learns while it
  codes: a matter of minutes for a megabyte, both ways. It is unpacked only on the same machine and
  by the same build of TensorFlow; elsewhere it is refused.
A folder stands for the *{layout.PAYLOAD_SUFFIX} in it, with --method for all its files but packed
ones; - is standard input, and what it packs goes to standard output unless -o says otherwise.
"""


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, f"<stem>{PACKED_SUFFIX} of payloads, <name>{PACKED_SUFFIX}")
    common.add_max_pixels_flag(values)
    flags.DEFINE_enum(
        "method",
        None,
        list(METHODS),
        "how to pack any bytes, JPEGs among them: online learns while it codes; deepzip trains a "
        "network first and stores it. Without, JPEGs are packed as JPEGs and the rest is online",
        flag_values=values,
    )


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    conversion = file_loop.Conversion(
        keep=_is_no_packed_name if values.method else files.is_payload_name,
        kind="files" if values.method else file_loop.PAYLOADS,
        rename=lambda source: _rename(values.method, source.name),
        accept=accept_packed,
        read=lambda source, output: _read(values.method, source),
        open_model=lambda alone: _open(values),
    )
    return file_loop.convert(values, arguments, conversion, jobs=1)


def _is_no_packed_name(path: Path) -> bool:
    return not files.is_packed_name(path)


def _rename(method: str | None, name: str) -> str:
    if files.is_payload_name(name) and not method:
        return files.packed_name(name)
    return files.packed_file_name(name)


def _read(method: str | None, source: Path) -> tuple[bytes, int, str | None]:
    """The file's bytes, the pixels of a JPEG, and the method where it is not packed as one."""
    data = streams.read(source)
    is_jpeg = data.startswith(layout.START_OF_IMAGE)
    if source.name.lower().endswith(files.JPEG_ENDINGS) and not (is_jpeg or method):
        raise PackedError(f"not a JPEG: expected FF D8. Received: {data[:4]!r}")
    if latent_layout.is_latent(data) and not method:
        raise PackedError("a latent codec's payload is range-coded already: it gets no smaller")
    if method or not is_jpeg:
        return data, 0, method or "online"
    if layout.is_payload(data):
        header = layout.read_header(data)
        return data, header.height * header.width, None
    return data, math.prod(layout.preview_size(data)), None


def _open(values):
    # Their compiler takes a second to import.
    from cnn_compression.packing import any_bytes, jpegs

    def pack(read, output):
        data, pixels, method = read
        if method:
            packed = any_bytes.pack(data, method, BAR.bytes)
        else:
            packed = jpegs.pack(data, values.max_pixels)
        streams.write(output, packed, values.overwrite)
        return Result(len(data), len(packed), len(packed), pixels, output)

    return pack
