"""The layout of latent codecs' payloads: byte by byte, cut, and damaged."""

import dataclasses
import struct
import zlib

import pytest

from cnn_compression.packing.layout import MAGIC as PACKED_MAGIC
from cnn_compression.payload import latent_layout, layout
from cnn_compression.payload.latent_layout import HEADER_SIZE, Header, read_header, read_passes
from cnn_compression.payload.layout import PayloadError

HEADER = Header("progressive", "0123456789abcdef", 300, 70_000, 3, 2, 2)
PASSES = [b"first", b""]
PAYLOAD = latent_layout.write(HEADER, PASSES)


def resealed(data):
    """Bytes whose header's checksum fits whatever they say."""
    return data[:25] + struct.pack(">I", zlib.crc32(data[:25])) + data[29:]


def test_the_bytes_are_those_of_the_table():
    head = b"CNNL" + bytes([1, 2]) + bytes.fromhex("0123456789abcdef")
    head += bytes([0, 0, 1, 44]) + bytes([0, 1, 17, 112]) + bytes([3, 2, 2])
    expected = head + struct.pack(">I", zlib.crc32(head))
    for symbols in PASSES:
        size = struct.pack(">I", len(symbols))
        expected += size + struct.pack(">I", zlib.crc32(size + symbols)) + symbols
    assert PAYLOAD == expected
    assert len(head) + 4 == HEADER_SIZE == 29


def test_what_was_written_is_read():
    assert (read_header(PAYLOAD), read_passes(PAYLOAD)) == (HEADER, PASSES)


def test_no_other_format_begins_as_this_one():
    assert latent_layout.is_latent(PAYLOAD[:4]) and not latent_layout.is_latent(PAYLOAD[:3])
    assert latent_layout.MAGIC not in (layout.MAGIC, PACKED_MAGIC)


def test_whole_passes_of_a_cut_payload_are_read():
    first = HEADER_SIZE + 8 + len(PASSES[0])
    for size in range(len(PAYLOAD)):
        cut = PAYLOAD[:size]
        with pytest.raises(PayloadError, match="cut short|not a latent payload"):
            read_passes(cut)
        if size < first:
            with pytest.raises(PayloadError, match="cut short|not a latent payload"):
                read_passes(cut, partial=True)
        else:
            assert read_passes(cut, partial=True) == PASSES[:1]


def test_every_damaged_byte_is_noticed():
    for place in range(len(PAYLOAD)):
        damaged = bytearray(PAYLOAD)
        damaged[place] ^= 0x10
        with pytest.raises(PayloadError):
            read_passes(bytes(damaged))
    with pytest.raises(PayloadError, match="expected 50 bytes. Received: 51"):
        read_passes(PAYLOAD + b"\0")


@pytest.mark.parametrize(
    "place, value, text",
    [
        (0, 0, r"not a latent payload: expected b'CNNL'. Received: b'\\x00NNL'"),
        (4, 2, "version must be 1. Received: 2"),
        (5, 9, r"family must be one of 1 \(bottleneck\).*Received: 9"),
        (22, 2, "channels=2"),
        (23, 0, "quality=0"),
        (23, 101, "quality=101"),
        (24, 0, "passes=0"),
    ],
)
def test_headers_that_cannot_be_are_refused(place, value, text):
    data = bytearray(PAYLOAD)
    data[place] = value
    with pytest.raises(PayloadError, match=text):
        read_header(resealed(bytes(data)))


@pytest.mark.parametrize("side", ["height", "width"])
def test_an_image_without_pixels_is_refused(side):
    empty = dataclasses.replace(HEADER, **{side: 0})
    with pytest.raises(PayloadError, match=f"{side}=0"):
        read_header(latent_layout.write(empty, PASSES))


def test_too_large_an_image_is_refused():
    header = dataclasses.replace(HEADER, width=65535)
    latent_layout.check_pixels(header, 300 * 65535)
    with pytest.raises(PayloadError, match="65535 x 300 pixels: at most 19660499 are taken"):
        latent_layout.check_pixels(header, 300 * 65535 - 1)
    with pytest.raises(PayloadError, match="65536 x 300 pixels: sides of at most 65535 are taken"):
        latent_layout.check_pixels(dataclasses.replace(HEADER, width=65536))
