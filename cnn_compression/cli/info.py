"""`cnn-compression info`: what payloads say of themselves."""

import sys
from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, streams, words
from cnn_compression.cli.tally import Result, Tally
from cnn_compression.packing import bytes_layout, formats, jpeg_layout
from cnn_compression.packing import layout as packed_layout
from cnn_compression.payload import latent_layout, layout

HELP = f"""
usage: cnn-compression info FILES...

Says what is in payloads, packed or not, one line each: size of the original (width x height) and
its channels, the quality that was asked and the JPEG's own, bits per pixel of the original, bytes,
the model that restores it, size of the preview, which is a quarter of the original's, half or all
of it. Of other packed JPEGs it says what of this there is, of other packed files their bytes and
how they were packed, of a latent codec's payloads the family and, if there are several, how many
of their passes are whole. A folder stands for the *{layout.PAYLOAD_SUFFIX},
*{latent_layout.LATENT_SUFFIX} and *{packed_layout.PACKED_SUFFIX} in it, - for standard input.
Only the headers are read: it is `decode` that finds damage.
"""


def add_flags(values: flags.FlagValues) -> None:
    """None: all is in the payload."""


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    tally = Tally()
    arguments = words.inputs(arguments)
    sources = file_loop.gather(arguments, files.is_restorable_name, file_loop.RESTORABLES, tally)
    file_loop.each(sources, _describe, tally)
    if len(tally.results) + tally.failed > 1:
        # On stderr: stdout has the payloads' lines only, for programs to read.
        print(tally.summary, file=sys.stderr)
    return tally.status


def _describe(source: Path) -> Result:
    data = streams.read(source)
    if latent_layout.is_latent(data):
        return _of_latent(source, data)
    kind = formats.kind(data)
    if kind == formats.JPEG:
        return _of_jpeg(source, data)
    if kind == formats.BYTES:
        return _of_bytes(source, data)
    size, packed = len(data), packed_layout.is_packed(data)
    stored = packed_layout.stored(data)
    if packed and stored is None:
        header, _ = packed_layout.read(data)
        (preview_height, preview_width), made_by = header.compact_size, _model_of(header)
    else:
        payload = data if stored is None else stored
        header = layout.read_header(payload)
        (preview_height, preview_width), made_by = layout.preview_size(payload), header.fingerprint
    pixels = header.height * header.width
    if not pixels:
        raise layout.PayloadError(f"damaged: {header.width}x{header.height} pixels")
    line = (
        f"{common.shown(source)}: {header.width}x{header.height}, "
        f"{'grey' if header.channels == 1 else 'colour'}, "
        f"{f'quality {header.asked}, ' if header.asked else ''}JPEG quality {header.quality}, "
        f"{8 * size / pixels:.3f} bpp, {size} bytes, model {made_by}, "
        f"preview {preview_width}x{preview_height}{', packed' if packed else ''}"
    )
    return Result(size, 0, size, pixels, line=line)


def _of_jpeg(source, data):
    """Of a packed JPEG that is no payload."""
    header, _ = jpeg_layout.read(data)
    height, width, components = header.shape
    pixels = height * width
    if not pixels:
        raise packed_layout.PackedError(f"damaged: {width}x{height} pixels")
    line = (
        f"{common.shown(source)}: {width}x{height}, {'grey' if components == 1 else 'colour'}, "
        f"{f'JPEG quality {header.quality}, ' if header.quality else ''}"
        f"{8 * len(data) / pixels:.3f} bpp, {len(data)} bytes, no payload, packed"
    )
    return Result(len(data), 0, len(data), pixels, line=line)


def _of_latent(source: Path, data: bytes) -> Result:
    """Of a latent codec's payload."""
    header = latent_layout.read_header(data)
    pixels, passes = header.height * header.width, ""
    if header.passes > 1:
        passes = f", {_whole_passes(data)} of {header.passes} passes"
    line = (
        f"{common.shown(source)}: {header.width}x{header.height}, "
        f"{'grey' if header.channels == 1 else 'colour'}, quality {header.quality}, "
        f"{8 * len(data) / pixels:.3f} bpp, {len(data)} bytes, model {header.fingerprint}, "
        f"family {header.family}{passes}"
    )
    return Result(len(data), 0, len(data), pixels, line=line)


def _whole_passes(data: bytes) -> int:
    try:
        return len(latent_layout.read_passes(data, partial=True))
    except latent_layout.PayloadError:
        return 0


def _of_bytes(source: Path, packed: bytes) -> Result:
    """Of any other file."""
    header, _ = bytes_layout.read(packed)
    line = (
        f"{common.shown(source)}: {header.size} bytes of any kind, {len(packed)} bytes, "
        f"{header.name}, packed"
    )
    return Result(len(packed), line=line)


def _model_of(header: packed_layout.Header) -> str:
    if header.model:
        return header.model
    from cnn_compression.packing import predictors  # its compiler takes a second to import

    try:
        return predictors.find(header.networks)[0].model
    except ValueError:  # they are not installed
        return f"that networks {header.networks} are for"
