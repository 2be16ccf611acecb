"""Every codec there and back; files are what their names say; libraries are those at work."""

import functools
import importlib
import re
import sys

import numpy as np
import pytest

from cnn_compression.benchmark import codecs, registry
from cnn_compression.tensors import metrics

MAGIC = {
    "jpeg": rb"\xff\xd8\xff",
    "webp": rb"RIFF....WEBP",
    "jp2": rb"\x00\x00\x00\x0cjP  ",
    "avif": rb"....ftypavif",
    "jxl": rb"\xff\x0a|\x00\x00\x00\x0cJXL ",
    "heic": rb"....ftyphei",
    "bicubic": rb"\xff\xd8\xff",
}
MODULES = {"jxl": "pillow_jxl", "heic": "pillow_heif"}
each_codec = pytest.mark.parametrize("name", registry.CODECS)


@functools.cache  # graphs of each are traced once
def make(name):
    try:
        return registry.CODECS[name]()
    except codecs.MissingLibraryError as error:  # the extra `dev` has them all
        pytest.skip(str(error))


def test_each_codec_has_its_file():
    assert MAGIC.keys() == registry.CODECS.keys()


@each_codec
@pytest.mark.parametrize("photo", ["coffee", "camera"])
def test_there_and_back(photos, name, photo):
    codec, image = make(name), photos[photo]
    payload = codec.encode(image, codec.qualities[len(codec.qualities) * 2 // 3])
    assert re.match(MAGIC[name], payload, re.DOTALL)
    image_hat = codec.decode(payload)
    assert image_hat.dtype == np.uint8 and image_hat.shape[:2] == image.shape[:2]
    assert image_hat.shape[2] in (image.shape[2], 3)
    if image.shape[2] == 1:  # what has no grey gives it as RGB
        assert np.ptp(image_hat, axis=2).max() <= 1
        image_hat = image_hat[..., :1]
    assert metrics.psnr(image, image_hat) > 24


@each_codec
def test_the_ladder_goes_up(photos, name):
    codec, image = make(name), photos["chelsea"]
    assert list(codec.qualities) == sorted(set(codec.qualities))
    assert 10 <= len(codec.qualities) <= 15
    payloads = [codec.encode(image, quality) for quality in codec.qualities[::3]]
    sizes = [len(payload) for payload in payloads]
    assert sizes == sorted(set(sizes))
    psnrs = [float(metrics.psnr(image, codec.decode(payload))) for payload in payloads]
    assert psnrs == sorted(psnrs) and psnrs[-1] > psnrs[0] + 4


@each_codec
@pytest.mark.parametrize("shape", [(37, 51, 3), (51, 37, 1), (9, 300, 3)])
def test_any_size(name, shape):
    codec = make(name)
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1]))[..., None] % 200
    image = np.broadcast_to(ramp, shape).astype(np.uint8)
    assert codec.decode(codec.encode(image, codec.qualities[5])).shape[:2] == shape[:2]


@each_codec
def test_the_same_image_gives_the_same_file(photos, name):
    codec = make(name)
    first, second = (codec.encode(photos["rocket"], codec.qualities[4]) for _ in range(2))
    assert first == second


def test_libraries_are_those_at_work():
    import pillow_heif
    import tensorflow as tf
    from PIL import __version__ as pillow
    from PIL import features

    libraries = {name: make(name).library for name in registry.CODECS}
    assert tf.__version__ in libraries["jpeg"]
    for name, feature in {"webp": "webp", "jp2": "jpg_2000", "avif": "avif"}.items():
        assert f" {features.version(feature)}, Pillow {pillow}" in libraries[name]
    assert pillow_heif.libheif_info()["libheif"] in libraries["heic"]
    assert re.fullmatch(r"pillow-jxl-plugin \d[\d.]*, Pillow \d[\d.]*", libraries["jxl"])


def test_jpeg_2000_takes_a_share_of_what_jpeg_takes(photos):
    codec, image = make("jp2"), photos["coffee"]
    for quality in (30, 75, 96):
        share = len(codec.encode(image, quality)) / len(codecs.Jpeg().encode(image, quality))
        assert share == pytest.approx(codec.SHARE, rel=0.03)


@pytest.mark.parametrize("name", MODULES)
def test_says_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    with pytest.raises(codecs.MissingLibraryError, match=r"needs .*'cnn-compression\[bench\]'"):
        registry.CODECS[name]()


@pytest.mark.parametrize("name", ["webp", "jp2", "avif"])
def test_a_pillow_without_the_format_is_as_good_as_none(monkeypatch, name):
    features = importlib.import_module("PIL.features")
    monkeypatch.setattr(features, "check", lambda feature: False)
    with pytest.raises(codecs.MissingLibraryError, match=registry.CODECS[name].feature):
        registry.CODECS[name]()


def test_what_is_missing_matters_only_if_it_was_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    opened, notes = registry.open_codecs(None, [], [50])
    assert "HEIC" not in [codec.name for codec in opened] and "JPEG" == opened[0].name
    assert len(notes) == 1 and "HEIC needs pillow-heif" in notes[0]
    with pytest.raises(codecs.MissingLibraryError, match="HEIC"):
        registry.open_codecs(["jpeg", "heic"], [], [50])


@pytest.mark.parametrize(
    "names, reason",
    [
        (["jpeg", "gif"], "expected codecs of jpeg, .*Received: 'gif'"),
        (["rec"], "expected --models"),
        ([], "at least one codec or model"),
    ],
)
def test_refuses_what_it_cannot_open(names, reason):
    with pytest.raises(ValueError, match=reason):
        registry.open_codecs(names, [], [50])


def test_finds_a_codec_by_its_name_on_the_command_line():
    opened = [codecs.Jpeg()]
    assert registry.find("jpeg", opened) == registry.find("JPEG", opened) == "JPEG"
    with pytest.raises(ValueError, match="that are measured, JPEG. Received: 'webp'"):
        registry.find("webp", opened)
