"""Exif, XMP and copyright: collected, carried by a payload, and on into the restored file."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import PHOTO, saved
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cnn_compression import images, metadata
from cnn_compression.payload.layout import is_payload

EXIF_DIRECTORY, GPS_DIRECTORY, THUMBNAIL_DIRECTORY = 0x8769, 0x8825, 1
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a tiff:Orientation=\"6\" b='c'/></x:xmpmeta>"
PAYLOAD = (Path(__file__).parent / "golden" / "colour.cnn.jpg").read_bytes()


def exif():
    found = Image.Exif()
    found[0x0112], found[0x010F], found[0x8298] = 6, "Maker", "\u00a9 me".encode()
    found.get_ifd(EXIF_DIRECTORY)[0x9003] = "2020:01:02 03:04:05"
    found.get_ifd(GPS_DIRECTORY).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return found


def exif_of(contents):
    found = Image.Exif()
    found.load(metadata.EXIF + contents)
    return found


def collected(contents):
    return images.read_with_metadata(contents)[2]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_is_collected_without_orientation_and_thumbnail(form):
    kept = exif_of(collected(saved(PHOTO, form, exif=exif())).exif)
    assert 0x0112 not in kept and not kept.get_ifd(THUMBNAIL_DIRECTORY)
    assert (kept[0x010F], kept[0x8298].encode("latin-1").decode()) == ("Maker", "\u00a9 me")
    assert kept.get_ifd(EXIF_DIRECTORY) == {0x9003: "2020:01:02 03:04:05"}
    assert kept.get_ifd(GPS_DIRECTORY) == {1: "N", 2: (1.0, 2.0, 3.0)}


def test_xmp_is_collected_without_orientation():
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    for contents in (saved(PHOTO, "JPEG", xmp=XMP), saved(PHOTO, "PNG", pnginfo=text)):
        kept = collected(contents)
        assert b"Orientation" not in kept.xmp and b"b='c'" in kept.xmp and not kept.exif


def test_a_copyright_that_stands_elsewhere_becomes_that_of_exif():
    text = PngInfo()
    text.add_text("Copyright", "me")
    iptc = b"\x1c\x02\x74\0\2me"
    block = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + b"\0" * (len(iptc) % 2)
    body = b"Photoshop 3.0\0" + block
    jpeg = saved(PHOTO, "JPEG")
    segment = b"\xff\xed" + (2 + len(body)).to_bytes(2, "big") + body
    for contents in (saved(PHOTO, "PNG", pnginfo=text), jpeg[:20] + segment + jpeg[20:]):
        assert exif_of(collected(contents).exif)[0x8298] == "me"


def test_nothing_is_collected_where_nothing_is_and_damage_is_no_error():
    for contents in (saved(PHOTO, "PNG"), saved(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\xff\xff")):
        assert not collected(contents)


def test_what_does_not_fit_a_segment_is_said():
    large = saved(PHOTO, "PNG", pnginfo=None)
    image = Image.open(io.BytesIO(large))
    image.info["xmp"] = b"x" * 70_000
    assert metadata.collect(image) == (metadata.Metadata(), "XMP too large to carry")


def test_a_payload_carries_it_and_stays_a_payload_that_opens():
    kept = collected(saved(PHOTO, "JPEG", exif=exif(), xmp=XMP))
    payload = metadata.into_payload(PAYLOAD, kept)
    assert metadata.of_payload(payload) == kept
    assert len(payload) - len(PAYLOAD) == kept.num_bytes and is_payload(payload)
    shown, plain = (np.asarray(Image.open(io.BytesIO(data))) for data in (payload, PAYLOAD))
    np.testing.assert_array_equal(shown, plain)
    assert metadata.into_payload(PAYLOAD, metadata.Metadata()) == PAYLOAD
    assert not metadata.of_payload(PAYLOAD)
    with pytest.raises(ValueError, match="expected a payload"):
        metadata.into_payload(saved(PHOTO, "JPEG"), kept)


@pytest.mark.parametrize("form, into", [("PNG", metadata.into_png), ("JPEG", metadata.into_jpeg)])
def test_a_restored_file_has_it(form, into):
    kept = collected(saved(PHOTO, "JPEG", exif=exif(), xmp=XMP))
    plain = saved(PHOTO, form)
    file = into(plain, metadata.of_payload(metadata.into_payload(PAYLOAD, kept)))
    opened = Image.open(io.BytesIO(file))
    np.testing.assert_array_equal(opened, Image.open(io.BytesIO(plain)))
    assert opened.getexif()[0x010F] == "Maker" and opened.info["xmp"] == kept.xmp
    assert into(plain, metadata.of_payload(PAYLOAD)) == plain
    assert images.read_contents(file)[1] == []
