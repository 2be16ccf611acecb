"""The packed file of a JPEG that is no payload: its segments, and its coefficients as coded bits.

Numbers and strips are as in `layout`; it is version 2 of what stands there.

    bytes
        4  "CNNP": magic
        1  2: version of this layout
        4  fingerprint of the predicting networks: `predictors.fingerprint`
        1  flags: 1 the blocks that fill up MCUs are those that libjpeg puts there
           (`coefficients.padded`), and not among the coded ones; 2 the scans' own ways come before
           the segments
        1  quality for which libjpeg has the quantisation tables, 1..100, or 0
        4  CRC-32 of the JPEG, and then of all that stands before the strips but these bytes
      1-5  how many bytes follow deflated
        .  deflated (RFC 1951), with `foreseen.segments` of the quality before them as what came
           already:
             1-5  only with flag 2: a number, of bytes of the scans' ways
               .  only with flag 2: the scans' ways
               .  the segments: the JPEG without the coded data, and RST markers, of its scans
      1-5  for each strip but the last: bytes of its coded bits
           the strips' coded bits; zeros are read beyond a strip's end

Rows of MCUs are those of an interleaved scan, whether the JPEG has one or not; the MCU of a grey
picture is a block.

A scan's ways are for each scan, which has I restart intervals, in their order:

    bytes
        1  flags: 1 padding follows, 2 fill bytes, 4 a tail, 8 the length of runs
        I  only with flag 1: of each interval, what fills its last byte, as its lowest bits; ones
           above them. Without it: ones
   (I-1).. only with flag 2: numbers, of bytes FF before each RST marker beyond its own; at most
           1,048,576 in all
       1.. only with flag 4: a number, of bytes; these: bytes of coded data, with the stuffed ones,
           that follow the last MCU and mean nothing
      1-3  only with flag 8: a number, 1..32767: of how many blocks without further coefficients a
           run is made at most (T.81, G.1.2.2: EOBn); without it 32767
"""

import struct
import zlib
from dataclasses import dataclass

from cnn_compression.jpeg import segments
from cnn_compression.packing import foreseen
from cnn_compression.packing.layout import (
    MAGIC,
    OF_JPEGS,
    PackedError,
    leb128,
    read_leb128,
)

_START = struct.Struct(">4sB4sBB")
_CHECKSUM_SIZE = 4
_SIZE_START = _START.size + _CHECKSUM_SIZE
_PADDED, _WAYS = 1, 2
_MOST_INFLATED = 1 << 26
# T.81, table B.1: all of C0..CF but DHT, JPG and DAC.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class JPEGHeader:
    """What stands before the strips; see the module's table.

    Attributes:
        networks: 8 hexadecimal digits.
        padded: bool: whether the blocks that fill up MCUs are foreseen.
        quality: int, 0..100.
        segments: the JPEG without its scans' coded data.
        ways: of the scans, b"" where all are foreseen.
    """

    networks: str
    padded: bool
    quality: int
    segments: bytes
    ways: bytes = b""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height and width in pixels, and components, as its start of frame says.

        Raises:
            PackedError: it has none.
        """
        for segment in segments.segments(self.segments):
            if segment.marker in _START_OF_FRAME and len(segment.body) >= 6:
                return struct.unpack_from(">xHHB", segment.body)
        raise PackedError("damaged: its segments have no start of frame")


def is_packed(data: bytes) -> bool:
    """Whether bytes start as a JPEG's that is packed, and no payload."""
    return data[: len(MAGIC) + 1] == MAGIC + bytes([OF_JPEGS])


def write(header: JPEGHeader, checksum: int, strips: list[bytes]) -> bytes:
    """A packed file's bytes.

    Args:
        header: what stands before the strips.
        checksum: CRC-32 of the JPEG.
        strips: their coded bits.

    Raises:
        PackedError: the segments take more bytes than `read` takes.
    """
    ways = leb128(len(header.ways)) + header.ways if header.ways else b""
    inside = ways + header.segments
    if len(inside) > _MOST_INFLATED:
        raise PackedError(
            f"{len(inside)} bytes beside the picture: at most {_MOST_INFLATED} are packed"
        )
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=foreseen.segments(header.quality))
    deflated = deflate.compress(inside) + deflate.flush()
    start = _START.pack(
        *(MAGIC, OF_JPEGS, bytes.fromhex(header.networks)),
        *(_PADDED * header.padded | _WAYS * bool(ways), header.quality),
    )
    deflated = leb128(len(deflated)) + deflated
    checksum = zlib.crc32(start + deflated, checksum).to_bytes(_CHECKSUM_SIZE, "big")
    sizes = [leb128(len(strip)) for strip in strips[:-1]]
    return b"".join([start, checksum, deflated, *sizes, *strips])


def is_of(data: bytes, at: int, jpeg: bytes) -> bool:
    """Whether a packed file, whose header ends at a place, has the checksum of a JPEG."""
    checksum = zlib.crc32(data[: _START.size] + data[_SIZE_START:at], zlib.crc32(jpeg))
    return checksum.to_bytes(_CHECKSUM_SIZE, "big") == data[_START.size : _SIZE_START]


def read(data: bytes) -> tuple[JPEGHeader, int]:
    """The header, and where it ends.

    Raises:
        PackedError: where the bytes are not the start of such a packed file.
    """
    if not is_packed(data):
        raise PackedError("not a packed JPEG: expected CNNP and 2")
    if len(data) < _SIZE_START:
        raise PackedError(f"cut short: the header has {_SIZE_START} bytes and more")
    _, _, networks, flags, quality = _START.unpack_from(data)
    if flags > _PADDED + _WAYS or quality > 100:
        raise PackedError("damaged: its header has values that nothing writes")
    size, at = read_leb128(data, _SIZE_START)
    inside = _inflated(data[at : at + size], quality)
    ways = b""
    if flags & _WAYS:
        count, start = read_leb128(inside, 0)
        ways, inside = inside[start : start + count], inside[start + count :]
    header = JPEGHeader(
        networks=networks.hex(),
        padded=bool(flags & _PADDED),
        quality=quality,
        segments=inside,
        ways=ways,
    )
    return header, at + size


def _inflated(deflated, quality):
    inflate = zlib.decompressobj(-15, zdict=foreseen.segments(quality))
    try:
        inside = inflate.decompress(deflated, _MOST_INFLATED)
    except zlib.error:
        inside = b""
    if not inflate.eof or not inside or inflate.unused_data:
        raise PackedError("damaged: its segments cannot be read")
    return inside
