"""`LatentCodec`: one codec for all families of latent models."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import latent_models
import numpy as np
import pytest
import tensorflow as tf
from latent_models import photo
from PIL import Image

import cnn_compression
from cnn_compression.codec import Codec, model_files
from cnn_compression.codec.latent import LatentCodec, fingerprint
from cnn_compression.codec.targets import TargetError
from cnn_compression.models.bottleneck import Bottleneck
from cnn_compression.models.generative import Generative
from cnn_compression.packing import symbols
from cnn_compression.payload import latent_layout
from cnn_compression.payload.layout import OtherModelError, PayloadError

GOLDEN = Path(__file__).parent / "golden" / "latent"


@pytest.fixture(scope="module")
def codec():
    return LatentCodec(latent_models.bottleneck(), "solved")


@pytest.fixture(scope="module")
def progressive():
    return LatentCodec(latent_models.progressive(), "drawn")


def psnr(image, image_hat):
    return -10 * np.log10(np.mean(np.square((image - image_hat.astype(np.float64)) / 255)))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (7, 9), (1, 40), (64, 33), (192, 256)])
def test_images_of_any_size_come_back(codec, size):
    image = photo(*size)
    payload = codec.encode(image, 90)
    assert isinstance(payload, bytes)
    image_hat = codec.decode(payload)
    assert (image_hat.shape, image_hat.dtype) == (image.shape, np.uint8)
    assert psnr(image, image_hat) > 27
    header = latent_layout.read_header(payload)
    assert (header.height, header.width, header.quality, header.passes) == (*size, 90, 1)


def test_what_is_decoded_is_what_the_model_makes_of_its_codes(codec):
    image = photo(64, 80)
    x = image[None].astype(np.float32) / 255.0
    expected = codec.model.synthesise(codec.model.analyse(x, 40), 40)
    expected = np.clip(np.round(255 * np.asarray(expected)[0]), 0, 255)
    assert np.abs(codec.decode(codec.encode(image, 40)) - expected).max() <= 1


def test_bytes_and_psnr_grow_with_quality(codec):
    image = photo()
    payloads = [codec.encode(image, quality) for quality in (1, 30, 60, 100)]
    assert [*map(len, payloads)] == sorted(map(len, payloads))
    found = [psnr(image, codec.decode(payload)) for payload in payloads]
    assert found == sorted(found)


def test_bytes_are_near_what_the_tables_say(codec):
    image = photo()
    codes = codec.analyse(tf.constant(image), 45).numpy().reshape(-1, 48)
    shares = codec.model.frequencies(45) / 2**symbols.BITS
    taken = np.take_along_axis(shares.T, codes - codec.model.alphabet[0], 0)
    size = len(codec.encode(image, 45)) - latent_layout.HEADER_SIZE - 8
    assert size < 1.001 * -np.log2(taken).sum() / 8 + 5


def test_grey_goes_through_a_model_for_colour(codec):
    grey = photo()[..., 1:2]
    image_hat = codec.decode(codec.encode(grey, 90))
    assert image_hat.shape == grey.shape
    as_colour = codec.decode(codec.encode(np.repeat(grey, 3, 2), 90))
    assert np.abs(image_hat - as_colour.astype(int)).max() <= 1
    assert codec.decode(codec.encode(grey[..., 0], 90)).shape == grey.shape


def test_a_model_for_grey():
    codec, image = LatentCodec(latent_models.bottleneck(1)), photo()
    assert psnr(image[..., :1], codec.decode(codec.encode(image[..., :1], 90))) > 27
    with pytest.raises(ValueError, match=r"with C in \(1,\).*Received: uint8 \(192, 256, 3\)"):
        codec.encode(image)


def assert_tiles_change_nothing(codec, tiled, image):
    """But what sums of floats in another order do: a code between two may be the other one."""
    quality = codec.default_quality
    codes, of_tiles = (each.analyse(tf.constant(image), quality).numpy() for each in (codec, tiled))
    assert (codes != of_tiles).mean() < 1e-3
    payload = codec.encode(image)
    difference = tiled.decode(payload) - codec.decode(payload).astype(int)
    assert np.abs(difference).max() <= 1


def test_tiles_change_nothing(codec):
    image = np.tile(photo(), (2, 3, 1))
    assert_tiles_change_nothing(codec, LatentCodec(codec.model, tile=256), image)


@pytest.mark.slow
def test_tiles_overlap_by_what_a_network_sees():
    model = Generative(widths=(4, 4, 4, 4, 4), blocks=1, codes=4)
    codec, tiled = LatentCodec(model), LatentCodec(model, tile=256)
    image = np.tile(photo(), (2, 3, 1))
    assert_tiles_change_nothing(codec, tiled, image)


def test_batches_paths_and_pillow(codec, tmp_path):
    images = np.stack([photo(40, 48), photo(40, 48)[::-1]])
    payloads = codec.encode(images, [20, 80])
    assert payloads == [codec.encode(images[0], 20), codec.encode(images[1], 80)]
    assert codec.encode(images) == [codec.encode(image, 50) for image in images]
    batch = codec.decode(payloads)
    assert batch.shape == images.shape
    np.testing.assert_array_equal(batch[1], codec.decode(tf.constant(payloads[1])))
    for tensors in (tf.constant(payloads), [*map(tf.constant, payloads)]):
        np.testing.assert_array_equal(batch, codec.decode(tensors))
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    (tmp_path / "a.cnnl").write_bytes(payloads[0])
    assert codec.encode(tmp_path / "a.png", 20) == payloads[0]
    assert codec.encode(Image.fromarray(images[0]), 20) == payloads[0]
    np.testing.assert_array_equal(codec.decode(tmp_path / "a.cnnl"), batch[0])
    with pytest.raises(ValueError, match="images of one size"):
        codec.decode([payloads[0], codec.encode(photo(9, 9))])
    with pytest.raises(ValueError, match="at least one payload"):
        codec.decode([])


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"quality": 0}, "quality must be an integer in 1..100. Received: 0"),
        ({"quality": 5.5}, "quality must be an integer in 1..100. Received: 5.5"),
        ({"quality": True}, "quality must be an integer in 1..100. Received: True"),
        ({"quality": [5, 6]}, r"quality must have the shape \(\) or \(\). Received: \(2,\)"),
        ({"effort": 1}, "effort of a latent codec must be 0. Received: 1"),
    ],
)
def test_what_there_is_not(codec, arguments, text):
    with pytest.raises(ValueError, match=text):
        codec.encode(photo(8, 8), **arguments)


def test_a_size_is_met_by_the_highest_quality_that_fits(progressive):
    image = photo(40, 50)
    for quality in (1, 6, 16):
        payload = progressive.encode(image, quality)
        assert progressive.encode_to(image, target_bytes=len(payload)) == payload
    assert progressive.encode_to(image, target_bpp=8 * len(payload) / 2000) == payload
    with pytest.raises(TargetError, match=r"even quality 1 takes \d+ bytes. Target: 40 bytes"):
        progressive.encode_to(image, target_bytes=40)


def test_a_psnr_is_met_by_the_lowest_quality_that_reaches_it(codec):
    image = photo(64, 80)
    payload = codec.encode_to(image, target_psnr=34.0)
    quality = latent_layout.read_header(payload).quality
    assert psnr(image, codec.decode(payload)) >= 34
    assert psnr(image, codec.decode(codec.encode(image, quality - 1))) < 34
    with pytest.raises(TargetError, match=r"even quality 100 reaches \d+.\d+ dB only. Target: 60"):
        codec.encode_to(image, target_psnr=60)


@pytest.mark.parametrize(
    "image, arguments, text",
    [
        (photo(8, 8), {}, "expected one target above 0. Received: none"),
        (photo(8, 8), {"target_bytes": 1, "target_bpp": 1}, "expected one target above 0"),
        (photo(8, 8), {"target_bytes": 100, "effort": 1}, "effort of a latent codec must be 0"),
        (photo(8, 8)[None], {"target_bpp": 8}, r"expected one image .*Received: \(1, 8, 8, 3\)"),
    ],
)
def test_targets_that_make_no_sense(codec, image, arguments, text):
    with pytest.raises(ValueError, match=text):
        codec.encode_to(image, **arguments)


@pytest.mark.parametrize("name, shape", [("encode", (None, None, 3)), ("decode", ())])
def test_graphs_are_told_that_it_is_not_for_them(codec, name, shape):
    spec = tf.TensorSpec(shape, tf.uint8 if shape else tf.string)
    function = tf.function(getattr(codec, name), [spec], autograph=False)
    with pytest.raises(ValueError, match="takes eager tensors, outside of graphs"):
        function.get_concrete_function()


def test_packing_and_other_tiles_are_not_offered(codec):
    with pytest.raises(ValueError, match="cannot be packed"):
        codec.pack(b"")
    with pytest.raises(ValueError, match="tile must be a multiple of 256. Received: 100"):
        LatentCodec(codec.model, tile=100)


def test_a_cut_progressive_payload_gives_the_picture_of_fewer_iterations(progressive):
    image = photo(40, 50)
    payload = progressive.encode(image, 4)
    assert latent_layout.read_header(payload).passes == 4
    np.testing.assert_array_equal(
        progressive.decode(payload, partial=True), progressive.decode(payload)
    )
    whole = {}
    for size in range(len(payload)):
        with pytest.raises(PayloadError):
            progressive.decode(payload[:size])
        try:
            passes = len(latent_layout.read_passes(payload[:size], partial=True))
        except PayloadError:
            continue
        whole[passes] = payload[:size]
    assert [*whole] == [1, 2, 3]
    for quality, cut in whole.items():
        expected = progressive.decode(progressive.encode(image, quality))
        np.testing.assert_array_equal(progressive.decode(cut, partial=True), expected)


def test_a_mask_says_which_cells_are_sent():
    codec = LatentCodec(latent_models.generative())
    image, mask = photo(50, 70), np.zeros((50, 70), bool)
    mask[20, 40] = True
    codes = codec.analyse(image, 1).numpy()
    payload = codec.encode(image, mask=mask)
    seen, _ = codec._read_codes(latent_layout.read_header(payload), payload)
    kept = np.zeros(codes.shape[:2], bool)
    kept[20 // 16, 40 // 16] = True
    assert codes[kept].any() and codes[~kept].any()
    np.testing.assert_array_equal(seen, codes * kept[..., None])
    assert codec.encode(image, mask=np.ones((50, 70), bool)) == codec.encode(image)
    for size in range(len(payload)):
        with pytest.raises(PayloadError):
            codec.decode(payload[:size], partial=True)


def test_what_is_not_sent_takes_next_to_nothing():
    codec, image = LatentCodec(latent_models.generative()), photo(192, 256)
    mask = np.zeros((192, 256), bool)
    overhead = latent_layout.HEADER_SIZE + 2 * 8 + 5
    assert len(codec.encode(image, mask=mask)) <= overhead + 16
    mask[:96] = True
    whole, half = len(codec.encode(image)), len(codec.encode(image, mask=mask))
    assert half < whole / 2 + overhead


@pytest.mark.parametrize("cells", [1, 8, 9, 300])
def test_a_mask_comes_back_and_no_other_is_taken_for_it(cells):
    sent = np.random.default_rng(cells).random(cells) < 0.3
    coded = latent_layout.write_mask(sent)
    np.testing.assert_array_equal(latent_layout.read_mask(coded, cells), sent)
    for bad in (coded[:-1], coded + b"0", b"", latent_layout.write_mask(np.ones(10**6, bool))):
        with pytest.raises(PayloadError, match="damaged"):
            latent_layout.read_mask(bad, cells)


def test_thin_images_are_refused_before_memory_is_taken(codec):
    with pytest.raises(ValueError, match="sides must be at most 65535. Received: .*70000"):
        codec.encode(np.zeros((1, 70000, 3), np.uint8))
    header = latent_layout.read_header(codec.encode(photo(8, 8)))
    thin = latent_layout.write(replace(header, height=250_000_000, width=1), [b"12345"])
    with pytest.raises(PayloadError, match="1 x 250000000 pixels: sides of at most 65535"):
        codec.decode(thin)


@pytest.mark.parametrize("mask", [np.ones((8, 8)), np.ones((8, 9), bool), np.ones(8, bool)])
def test_masks_that_do_not_fit_are_refused(mask):
    with pytest.raises(ValueError, match=r"mask must be bool, of one image's shape \(8, 8\)"):
        LatentCodec(latent_models.generative()).encode(photo(8, 8), mask=mask)


def test_a_model_that_makes_nothing_up_takes_no_mask(codec):
    with pytest.raises(ValueError, match="bottleneck takes no mask"):
        codec.encode(photo(8, 8), mask=np.ones((8, 8), bool))


def test_qualities_are_the_models_own(progressive):
    assert progressive.qualities == range(1, 17)
    default = latent_layout.read_header(progressive.encode(photo(16, 16)))
    assert default.quality == progressive.default_quality == 8
    with pytest.raises(ValueError, match="quality must be an integer in 1..16. Received: 50"):
        progressive.encode(photo(16, 16), 50)


def test_damage_is_refused_in_words(codec):
    payload = codec.encode(photo(24, 24))
    generator = np.random.default_rng(0)
    for place in range(0, len(payload), 3):
        damaged = bytearray(payload)
        damaged[place] ^= generator.integers(1, 256)
        for partial in (False, True):
            with pytest.raises(PayloadError):
                codec.decode(bytes(damaged), partial=partial)


def test_hostile_passes_end_quickly(codec):
    header = latent_layout.read_header(codec.encode(photo(24, 24)))
    for noise in (b"", bytes(40), b"\xff" * 40, np.random.default_rng(0).bytes(400)):
        with pytest.raises(PayloadError, match="damaged"):
            codec.decode(latent_layout.write(header, [noise]))
    huge = latent_layout.Header(*header.__dict__.values())
    for side in ("height", "width"):
        object.__setattr__(huge, side, latent_layout.MAX_SIDE)
    data = latent_layout.write(huge, [bytes(40)])
    with pytest.raises(PayloadError, match="at most 250000000 are taken"):
        codec.decode(data)
    with pytest.raises(PayloadError, match="48 bytes cannot hold|40 bytes cannot hold"):
        codec.decode(data, max_pixels=2**64)


def test_too_many_pixels_are_refused(codec):
    payload = codec.encode(photo(24, 32))
    assert codec.decode(payload, max_pixels=768).shape == (24, 32, 3)
    with pytest.raises(PayloadError, match="32 x 24 pixels: at most 767 are taken"):
        codec.decode(payload, max_pixels=767)


def test_a_payload_says_whose_it_is(codec, progressive):
    payload = codec.encode(photo(16, 16))
    text = f"made by model {codec.fingerprint} of the family bottleneck; this one is .* progressive"
    with pytest.raises(OtherModelError, match=text):
        progressive.decode(payload)
    other = LatentCodec(Bottleneck())
    with pytest.raises(OtherModelError, match=f"this one is {other.fingerprint}"):
        other.decode(payload)
    with pytest.raises(OtherModelError, match="made by model .*, whose payloads are JPEGs"):
        codec.decode(GOLDEN.with_name("colour.cnn.jpg"))
    with pytest.raises(PayloadError, match="not a latent payload: expected b'CNNL'"):
        codec.decode(b"something else")


def test_a_codec_around_jpeg_says_whose_a_latent_payload_is(codec):
    import small_pairs

    with pytest.raises(OtherModelError, match=f"made by model {codec.fingerprint} of the family"):
        Codec(small_pairs.pair(2)).decode(codec.encode(photo(16, 16)))


def test_fingerprints_tell_models_apart(codec):
    again = LatentCodec(codec.model, "other")
    assert again.fingerprint == codec.fingerprint == fingerprint(codec.model)
    finer = Bottleneck(steps=(64.0, 8.0))
    finer.set_weights(codec.model.get_weights())
    assert fingerprint(finer) != codec.fingerprint


def test_fingerprints_are_of_what_makes_pictures(codec, monkeypatch):
    """Not of what else a version of Keras says of a model: its payloads could not be read then."""
    config = codec.model.get_config() | {"news": 1, "name": "other", "dtype": "float32"}
    monkeypatch.setattr(codec.model, "get_config", lambda: config)
    assert fingerprint(codec.model) == codec.fingerprint
    config["steps"] = [64.0, 8.0]
    assert fingerprint(codec.model) != codec.fingerprint


def test_it_is_what_the_wing_offers():
    assert cnn_compression.codec.LatentCodec is LatentCodec


def test_it_can_be_pickled_as_its_weights(codec):
    again = pickle.loads(pickle.dumps(codec))
    assert (again.name, again.fingerprint) == (codec.name, codec.fingerprint)
    image = photo(16, 24)
    assert again.encode(image) == codec.encode(image)


def test_it_is_loaded_and_pickled_by_its_file(codec, tmp_path):
    file = tmp_path / "run" / "model.keras"
    file.parent.mkdir()
    codec.model.save(file)
    assert model_files.latent_family(tmp_path / "run") == "bottleneck"
    loaded = cnn_compression.load(tmp_path / "run")
    assert repr(loaded) == f"<LatentCodec 'run' {codec.fingerprint}, family bottleneck>"
    assert len(pickle.dumps(loaded)) < 1000
    assert pickle.loads(pickle.dumps(loaded)).fingerprint == codec.fingerprint
    assert model_files.latent_family("default") is None


def test_a_damaged_archive_has_no_family(codec, tmp_path):
    file = tmp_path / "model.keras"
    codec.model.save(file)
    data = bytearray(file.read_bytes())
    at = data.find(b"PK\x01\x02")  # of each file, in the central directory
    while at >= 0:
        data[at + 10 : at + 12] = b"\x63\x00"  # a method of compression that there is not
        at = data.find(b"PK\x01\x02", at + 1)
    file.write_bytes(data)
    assert model_files.latent_family(file) is None
    with pytest.raises(ValueError, match="cannot be read as a model"):
        model_files.load_model(file)


def test_reports_tell_of_each_tile(codec):
    told = []
    image = np.tile(photo(), (2, 2, 1))
    reporting = LatentCodec(codec.model, tile=256).reporting(lambda *done: told.append(done))
    reporting.decode(reporting.encode(image))
    assert told == 2 * [(number, 4) for number in range(1, 5)]


def test_golden_payload(codec):
    """`golden/latent/` holds a model, a payload of it, and what that restores to.

    CNN_COMPRESSION_REGENERATE_GOLDEN=1 writes them anew.
    """
    files = [GOLDEN / name for name in ("model.keras", "photo.cnnl", "photo.png")]
    if os.environ.get("CNN_COMPRESSION_REGENERATE_GOLDEN") == "1":
        GOLDEN.mkdir(exist_ok=True)
        model = Bottleneck(hidden=8, steps=(128.0, 32.0))
        model.solve([photo()[None].astype(np.float32) / 255.0])
        model.save(files[0])
        files[1].write_bytes(LatentCodec(model).encode(photo(48, 60), 60))
        Image.fromarray(LatentCodec(model).decode(files[1])).save(files[2])
    golden = cnn_compression.load(files[0])
    image_hat = golden.decode(files[1]).astype(int)
    assert np.abs(image_hat - np.asarray(Image.open(files[2]))).max() <= 1
    assert psnr(photo(48, 60), image_hat) > 22
    assert golden.fingerprint == latent_layout.read_header(files[1].read_bytes()).fingerprint
