"""Metadata from a photograph through its payload into what is restored, by the command line."""

import numpy as np
import pytest
from PIL import Image

import cnn_compression
from cnn_compression import cli, metadata


@pytest.fixture
def photograph(tmp_path, monkeypatch, photos, codec):
    """A JPEG that lies on its side, in the current folder; `load` gives the default codec."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cnn_compression, "load", lambda name: codec, raising=False)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = 6, "Maker", "me"
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    Image.fromarray(photos["coffee"]).save("photo.jpg", exif=exif, xmp=xmp, quality=95)
    return tmp_path


def run(*words):
    assert cli.main(list(words)) == 0


def test_kept_metadata_reach_the_restored_file(photograph):
    run("encode", "photo.jpg", "--keep_metadata", "-q", "30")
    payload = (photograph / "photo.cnn.jpg").read_bytes()
    kept = metadata.of_payload(payload)
    run("decode", "photo.cnn.jpg", "-o", "restored.png")
    restored = Image.open("restored.png")
    assert dict(restored.getexif()) == {0x010F: "Maker", 0x8298: "me"}
    assert restored.info["xmp"] == kept.xmp == b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"

    for name in ("restored.jpg", "restored.webp", "restored.tif"):
        run("decode", "photo.cnn.jpg", "-o", name)
        with Image.open(name) as other:
            exif, xmp = other.getexif(), other.info["xmp"]
            assert other.size == (192, 256) and xmp.rstrip(b"\0") == kept.xmp
        assert (exif[0x010F], exif[0x8298]) == ("Maker", "me")

    run("encode", "photo.jpg", "-q", "30", "-o", "plain.cnn.jpg")
    plain = (photograph / "plain.cnn.jpg").read_bytes()
    assert not metadata.of_payload(plain) and len(payload) == len(plain) + kept.num_bytes
    run("decode", "plain.cnn.jpg", "-o", "plain.png")
    np.testing.assert_array_equal(restored, Image.open("plain.png"))
    assert restored.size == (192, 256) and not Image.open("plain.png").getexif()


@pytest.mark.slow
def test_a_target_counts_them(photograph, capsys):
    run("encode", "photo.jpg", "--keep_metadata", "--target_bytes=3000")
    payload = (photograph / "photo.cnn.jpg").read_bytes()
    assert len(payload) <= 3000 and metadata.of_payload(payload)
    words = ["encode", "photo.jpg", "--keep_metadata", "--target_bytes=100", "--overwrite"]
    assert cli.main(words) == 1
    assert "metadata alone take " in capsys.readouterr().err
