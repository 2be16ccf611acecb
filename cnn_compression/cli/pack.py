"""`cnn-compression pack`: payloads, or any files -> packed files."""

from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams
from cnn_compression.cli.encode import accept_packed
from cnn_compression.cli.progress import BAR
from cnn_compression.cli.tally import Result
from cnn_compression.packing.bytes_layout import METHODS
from cnn_compression.packing.layout import PACKED_SUFFIX
from cnn_compression.payload import layout

HELP = f"""
usage: cnn-compression pack [flags] FILES...

Packs payloads, the files that `encode` wrote: about a third fewer bytes, up to half of small ones
and a sixth of those of quality 90. What comes out is no JPEG; `unpack` gives the payload back, byte
for byte, which was tried before a file is written. `decode` and `info` take packed files too.
Any other file, notes.txt into notes.txt{PACKED_SUFFIX}, is packed by a network that learns while it
codes: a matter of minutes for a megabyte, both ways. What comes out is unpacked only on the same
machine and by the same build of TensorFlow; elsewhere it is refused.
A folder stands for the *{layout.PAYLOAD_SUFFIX} in it, with --method for all its files but packed
ones; - is standard input, and what it packs goes to standard output unless -o says otherwise.
"""


def add_flags(values: flags.FlagValues) -> None:
    common.add_output_flags(values, f"<stem>{PACKED_SUFFIX}")
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
        rename=lambda source: _rename(values.method, source),
        accept=accept_packed,
        read=lambda source, output: _read(values.method, source),
        open_model=lambda alone: _open(values),
    )
    return file_loop.convert(values, arguments, conversion, jobs=1)


def _is_no_packed_name(path: Path) -> bool:
    return not files.is_packed_name(path)


def _is_jpeg(source: Path, start: bytes) -> bool:
    """Whether a file is packed as a JPEG; what is only named like a payload is refused as one."""
    return files.is_payload_name(source) or start.startswith(layout.START_OF_IMAGE)


def _rename(method: str | None, source: Path) -> str:
    if not method and not streams.is_stream(source):
        with open(source, "rb") as file:
            if _is_jpeg(source, file.read(2)):
                return files.packed_name(source.name)
    return files.packed_bytes_name(source.name)


def _read(method: str | None, source: Path) -> tuple[bytes, int, str | None]:
    """The file's bytes, the pixels of a JPEG, and the method where it is not packed as one."""
    data = streams.read(source)
    if method or not _is_jpeg(source, data):
        return data, 0, method or "online"
    header = layout.read_header(data)
    return data, header.height * header.width, None


def _open(values):
    # Their compiler takes a second to import.
    from cnn_compression.packing import any_bytes, payloads

    def pack(read, output):
        data, pixels, method = read
        if method:
            packed = any_bytes.pack(data, method, BAR.bytes)
        else:
            packed = payloads.pack(data, values.max_pixels)
        streams.write(output, packed, values.overwrite)
        return Result(len(data), len(packed), len(packed), pixels, output)

    return pack
