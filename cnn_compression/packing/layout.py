"""The packed payload: what rebuilds it, but for its coefficients, and these as coded bits.

Integers are big-endian; sizes are LEB128 numbers of at most 5 bytes: 7 bits a byte, lowest first,
the upper bit set in all but the last.

    bytes
        4  "CNNP": magic
        1  1: version of this layout; or 0: CRC-32 and payload follow as they are, since packing
           would not make it smaller. 2 is another JPEG (`jpeg_layout`), 3 any file (`bytes_layout`)
        4  fingerprint of the predicting networks: `predictors.fingerprint`
        1  flags: 1 colour, 2 chroma at full size (4:4:4), 4 progressive, 8 and 16 the scale as a
           power of two, 32 version 1 of the payload's layout, 64 the payload's model follows
           (without it, it is the one that the networks were trained on), 128 other segments follow
        1  quality of the JPEG, 1..100
        1  quality that was asked of the model, 1..100 or 0; see `payload.layout`
      1-5  height of the image, pixels
      1-5  width of the image, pixels
        8  only with flag 64: fingerprint of the payload's decoder
        4  CRC-32 of the payload
     2-..  only with flag 128: a number, of bytes before the payload's own segment; a number, of
           bytes that follow; these, deflated (RFC 1950): the segments between APP0 and the picture
           but the payload's own
      1-5  for each strip but the last: bytes of its coded bits
           the strips' coded bits; zeros are read beyond a strip's end

Strips are rows of MCUs: with B blocks of luma, those that fill up MCUs too, there are
n = max(1, (B + 2048) // 4096) strips, and of R rows number k starts with row k R // n. In a strip
come all of luma's blocks, then Cb's, then Cr's, coded as `predictor` says.
"""

import struct
import zlib
from dataclasses import dataclass

from cnn_compression.payload import layout as payload_layout
from cnn_compression.payload.layout import PayloadError

PACKED_SUFFIX = ".cnnp"
MAGIC = b"CNNP"
STORED, VERSION = 0, 1
OF_JPEGS, ANY_BYTES = 2, 3  # versions of layouts of their own: `jpeg_layout` and `bytes_layout`
_OTHERS_LAYOUTS = {bytes([OF_JPEGS]): "a packed JPEG", bytes([ANY_BYTES]): "a packed file"}
_STORED_START = 9  # of the payload
# A block takes seven decisions and more, each of 0.0028 bits and more; see `exact`.
_BLOCKS_A_BYTE = 406
_OPEN_BYTES = 4  # that a strip leaves out at its end, at most
_COLOUR, _FULL_CHROMA, _PROGRESSIVE, _SCALE = 1, 2, 4, 8
_FIRST_LAYOUT, _MODEL, _OTHERS = 32, 64, 128
_START = struct.Struct(">4sB4sBBB")
_LARGEST_SIDE = 65535  # of a JPEG
_MOST_OTHERS = 1 << 26  # bytes: of as many segments as a payload may have


class PackedError(PayloadError):
    """Bytes that are no packed payload, a damaged one, or one that networks are missing for; or a
    payload that cannot be packed."""


@dataclass(frozen=True)
class Header:
    """What stands before the coded bits; see the module's table.

    Attributes:
        networks: 8 hexadecimal digits; "" where the payload is there as it is.
        height, width, channels, scale, quality, asked: as of `payload.layout.Header`.
        full_chroma, progressive: bools, of the JPEG.
        payload_version: 1 or 2.
        model: 16 hexadecimal digits, or "" for the one that the networks were trained on.
        checksum: CRC-32 of the payload.
        others: other segments than the payload's own: those before it, and those after it.
    """

    networks: str
    height: int
    width: int
    channels: int
    scale: int
    quality: int
    asked: int
    full_chroma: bool
    progressive: bool
    payload_version: int
    model: str
    checksum: int
    others: tuple[bytes, bytes] = (b"", b"")

    @property
    def compact_size(self) -> tuple[int, int]:
        """Height and width of the JPEG."""
        return -(-self.height // self.scale), -(-self.width // self.scale)


def is_packed(data: bytes) -> bool:
    """Whether bytes start as a packed payload's."""
    return data[: len(MAGIC)] == MAGIC


def store(payload: bytes) -> bytes:
    """A packed file that has the payload as it is."""
    return MAGIC + bytes([STORED]) + zlib.crc32(payload).to_bytes(4, "big") + payload


def stored(data: bytes) -> bytes | None:
    """The payload that a packed file has as it is; None where it has none.

    Raises:
        PackedError: it is damaged.
    """
    if data[: len(MAGIC) + 1] != MAGIC + bytes([STORED]):
        return None
    payload = data[_STORED_START:]
    if zlib.crc32(payload).to_bytes(4, "big") != data[_STORED_START - 4 : _STORED_START]:
        raise PackedError("damaged: the checksum does not match")
    return payload


def write(header: Header, strips: list[bytes]) -> bytes:
    """A packed file's bytes."""
    flags = (
        _COLOUR * (header.channels == 3)
        | _FULL_CHROMA * header.full_chroma
        | _PROGRESSIVE * header.progressive
        | _SCALE * (header.scale.bit_length() - 1)
        | _FIRST_LAYOUT * (header.payload_version == 1)
        | _MODEL * bool(header.model)
        | _OTHERS * any(header.others)
    )
    networks = bytes.fromhex(header.networks)
    start = _START.pack(MAGIC, VERSION, networks, flags, header.quality, header.asked)
    parts = [leb128(header.height), leb128(header.width), bytes.fromhex(header.model)]
    parts.append(header.checksum.to_bytes(4, "big"))
    if any(header.others):
        deflated = zlib.compress(b"".join(header.others), 9)
        parts += [leb128(len(header.others[0])), leb128(len(deflated)), deflated]
    sizes = [leb128(len(strip)) for strip in strips[:-1]]
    return b"".join([start, *parts, *sizes, *strips])


def read(data: bytes) -> tuple[Header, int]:
    """The header, and where it ends.

    Raises:
        PackedError: where the bytes are not the start of a packed file of a known version.
    """
    if not is_packed(data):
        raise PackedError(f"not a packed payload: expected CNNP. Received: {bytes(data[:4])!r}")
    payload = stored(data)
    if payload is not None:
        return _of_stored(payload), _STORED_START
    if (other := _OTHERS_LAYOUTS.get(data[len(MAGIC) : len(MAGIC) + 1])) is not None:
        raise PackedError(f"{other}, and no packed payload: `unpack` gives it back")
    if len(data) < _START.size:
        raise PackedError(f"cut short: the header has {_START.size} bytes and more")
    _, version, networks, flags, quality, asked = _START.unpack_from(data)
    if version != VERSION:
        raise PackedError(f"version must be 0 to {ANY_BYTES}. Received: {version}")
    height, at = read_leb128(data, _START.size)
    width, at = read_leb128(data, at)
    model_size = 8 if flags & _MODEL else 0
    model, checksum = data[at : at + model_size], data[at + model_size : at + model_size + 4]
    if len(checksum) < 4:
        raise PackedError("cut short within its header")
    at += model_size + 4
    others = (b"", b"")
    if flags & _OTHERS:
        others, at = _read_others(data, at)
    scale = 1 << flags // _SCALE % 4
    header = Header(
        networks=networks.hex(),
        height=height,
        width=width,
        channels=3 if flags & _COLOUR else 1,
        scale=scale,
        quality=quality,
        asked=asked,
        full_chroma=bool(flags & _FULL_CHROMA),
        progressive=bool(flags & _PROGRESSIVE),
        payload_version=1 if flags & _FIRST_LAYOUT else 2,
        model=model.hex(),
        checksum=int.from_bytes(checksum, "big"),
        others=others,
    )
    return checked(header), at


def checked(header: Header) -> Header:
    """The header, if it has only what `write` can write and a payload can have.

    Raises:
        PackedError: it has something else.
    """
    colour, sides = header.channels == 3, (header.height, header.width)
    known = header.channels in (1, 3) and header.scale in (1, 2, 4)
    known = known and 1 <= header.quality <= 100 and 0 <= header.asked <= 100
    if not known or header.full_chroma > colour or (header.payload_version == 1 and header.asked):
        raise PackedError("damaged: its header has values that nothing writes")
    if min(sides) < 1 or -(-max(sides) // header.scale) > _LARGEST_SIDE:
        raise PackedError(f"damaged: its header says {header.width} x {header.height} pixels")
    return header


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuses a picture of more pixels than a limit, with a `PackedError`."""
    if height * width > max_pixels:
        raise PackedError(f"{width} x {height} pixels: at most {max_pixels} are taken")


def _of_stored(payload):
    try:
        header = payload_layout.read_header(payload)
    except PayloadError as error:
        raise PackedError(str(error)) from None
    return Header(
        networks="",
        height=header.height,
        width=header.width,
        channels=header.channels,
        scale=header.scale,
        quality=header.quality,
        asked=header.asked,
        full_chroma=False,
        progressive=False,
        payload_version=header.version,
        model=header.fingerprint,
        checksum=zlib.crc32(payload),
    )


def split(data: bytes, at: int, count: int, blocks: int) -> list[bytes]:
    """The coded bits of strips.

    Args:
        data: the file's bytes; `at`: where its header ends.
        count: how many strips there are.
        blocks: how many blocks are in them.

    Raises:
        PackedError: where there are fewer bytes than the strips take, whatever is in them.
    """
    if blocks > _BLOCKS_A_BYTE * (len(data) - at + _OPEN_BYTES * count):
        raise PackedError(f"damaged: {len(data)} bytes cannot hold {blocks} blocks")
    sizes = []
    for _ in range(count - 1):
        size, at = read_leb128(data, at)
        sizes.append(size)
    strips = []
    for size in sizes:
        strips.append(data[at : at + size])
        at += size
    if at > len(data):
        raise PackedError("cut short: its strips are longer than the file")
    return [*strips, data[at:]]


def _read_others(data: bytes, at: int) -> tuple[tuple[bytes, bytes], int]:
    """What stands before and after the payload's own segment, and where that ends."""
    before, at = read_leb128(data, at)
    size, at = read_leb128(data, at)
    inflate = zlib.decompressobj()
    try:
        whole = inflate.decompress(data[at : at + size], _MOST_OTHERS)
    except zlib.error:
        whole = b""
    if not inflate.eof or not 0 < len(whole) >= before or inflate.unused_data:
        raise PackedError("damaged: its segments cannot be read")
    return (whole[:before], whole[before:]), at + size


def leb128(number: int) -> bytes:
    """A number as the module says it."""
    parts = [number & 127]
    while number := number >> 7:
        parts[-1] |= 128
        parts.append(number & 127)
    return bytes(parts)


def read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at a place, and where it ends; raises PackedError."""
    number = 0
    for place in range(5):
        if at + place >= len(data):
            raise PackedError("cut short within its header")
        number |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128 and (data[at + place] or not place):
            return number, at + place + 1
    raise PackedError("damaged: a number in its header is none that is written")
