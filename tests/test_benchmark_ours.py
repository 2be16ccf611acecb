"""Models beside what is left of them when a network is taken away."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.benchmark import Model, ours, registry
from cnn_compression.benchmark.codecs import MissingLibraryError
from cnn_compression.codec import Codec
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.payload import layout
from cnn_compression.tensors import metrics
from cnn_compression.tensors.levels import to_uint8


def mean_of_squares(image, side=2):
    """The plain mean of squares of pixels, the last ones repeated where some lack, by NumPy."""
    height, width, channels = image.shape
    lacking = (0, -height % side), (0, -width % side), (0, 0)
    image = np.pad(image, lacking, "edge").astype(float)
    return image.reshape(image.shape[0] // side, side, -1, side, channels).mean((1, 3))


def test_a_model_is_its_codec(codec, photos):
    model, image = Model(codec, [20, 40, 40]), photos["coffee"]
    assert (model.name, model.qualities) == (codec.name, (20, 40))
    assert codec.fingerprint in model.settings
    payload = model.encode(image, 40)
    assert payload == codec.encode(image, 40)
    np.testing.assert_array_equal(model.decode(payload), codec.decode(payload))


def test_settings_tell_models_apart_that_share_a_decoder():
    model = ComRec.from_preset("fast")
    before = Model(Codec(model))
    kernel = model.com.trainable_variables[0]
    kernel.assign(kernel + 1)
    after = Model(Codec(model))
    assert before.codec.fingerprint == after.codec.fingerprint
    assert before.settings != after.settings


@pytest.mark.slow
def test_each_effort_is_a_codec_of_its_own(codec, photos):
    plain, tuned = registry.open_codecs([], [codec], [60], efforts=[0, 1])[0]
    assert (plain.name, tuned.name) == (codec.name, f"{codec.name}, effort 1")
    assert tuned.settings == f"{plain.settings}, effort 1"
    image = photos["coffee"][:128, :192]
    assert tuned.encode(image, 60) == codec.encode(image, 60, 1) != plain.encode(image, 60)


@pytest.fixture(scope="module")
def alone(codec):
    return ours.RecAlone(codec)


@pytest.mark.parametrize("crop", [(slice(None), slice(None)), (slice(101), slice(77))])
@pytest.mark.parametrize("photo", ["chelsea", "camera"])
@pytest.mark.parametrize("quality", [5, 40, 80])
def test_rec_alone_takes_the_plain_mean_and_the_models_decoder(
    codec, alone, photos, crop, photo, quality
):
    image = photos[photo][crop]
    payload = alone.encode(image, quality)
    header = layout.read_header(payload)
    theirs = layout.read_header(codec.encode(image, quality))
    assert vars(header) | {"checksum": b""} == vars(theirs) | {"checksum": b""}
    pair = codec.model.pairs[codec.model.scales.index(header.scale)]
    plain = np.float32(mean_of_squares(image, pair.scale) / 255)
    colour = plain[None].repeat(3 // image.shape[-1], axis=-1)
    compact = to_uint8(pair.rec.emphasise(colour, np.array([header.quality])))[0]
    kept = compact[..., :1] if photo == "camera" else compact
    expected = coding.decode(coding.encode(kept, header.quality)).numpy().astype(float)
    # Means and gains lie on rounding edges here and there.
    assert np.abs(coding.decode(payload).numpy() - expected).mean() < 0.5
    np.testing.assert_array_equal(alone.decode(payload), codec.decode(payload))
    assert payload != codec.encode(image, quality)


@pytest.fixture(scope="module")
def bicubic():
    return ours.HalfBicubic()


@pytest.mark.parametrize("crop", [(slice(None), slice(None)), (slice(101), slice(77))])
@pytest.mark.parametrize("photo", ["chelsea", "camera"])
def test_bicubic_uses_no_network(bicubic, photos, crop, photo):
    image = photos[photo][crop] // 4 * 4  # whose means are whole: nothing hangs on rounding
    payload = bicubic.encode(image, 80)
    plain = coding.encode(mean_of_squares(image).astype(np.uint8), 80).numpy()
    small = coding.decode(plain)
    np.testing.assert_array_equal(coding.decode(payload), small)
    size = [2 * side for side in small.shape[:2]]
    large = tf.saturate_cast(tf.round(tf.image.resize(small, size, "bicubic")), tf.uint8)
    image_hat = bicubic.decode(payload)
    assert image_hat.shape == image.shape
    # TensorFlow renormalises the kernel at the edges; inside, rounding is all that differs.
    error = image_hat.astype(int) - large.numpy().astype(int)[: image.shape[0], : image.shape[1]]
    assert np.abs(error[4:-4, 4:-4]).max() <= 1
    assert metrics.psnr(image, image_hat) > 24


def test_packed_payloads_restore_to_the_same_from_fewer_bytes(codec, photos):
    (plain, packed), _ = registry.open_codecs(["packed"], [codec], [40])
    assert packed.name == "default, packed" and "networks" in packed.settings
    image = photos["coffee"]
    payload, fewer = plain.encode(image, 40), packed.encode(image, 40)
    assert len(fewer) < 0.9 * len(payload)
    np.testing.assert_array_equal(packed.decode(fewer), plain.decode(payload))


@pytest.mark.parametrize("name, called", [("lepton", "Lepton"), ("jxl_jpeg", "JPEG XL")])
def test_anchors_restore_to_the_same_from_fewer_bytes(codec, photos, name, called):
    try:
        (plain, anchor), _ = registry.open_codecs([name], [codec], [90])
    except MissingLibraryError as error:  # the extra `dev` has them
        pytest.skip(str(error))
    assert anchor.name == f"default, {called}" and anchor.library.startswith(plain.library + ", ")
    image = photos["coffee"]
    payload, fewer = plain.encode(image, 90), anchor.encode(image, 90)
    assert len(fewer) < len(payload)
    np.testing.assert_array_equal(anchor.decode(fewer), plain.decode(payload))


class Halved(ours._Recoded):
    """Leaves out every other byte, of payloads that it takes, and makes small ones longer."""

    program, package, module = "halves", "numpy", "numpy"

    def shrunk(self, payload):
        if len(payload) > 500:
            raise RuntimeError("too large")
        return payload[::2] if len(payload) > 350 else payload + b"0"

    def grown(self, file):
        return file[:-1]


def test_what_an_anchor_refuses_or_makes_larger_counts_as_it_is_and_what_it_loses_stops(
    codec, photos, caplog
):
    anchor, image = Halved(codec), photos["coffee"]
    assert anchor.encode(image, 80) == codec.encode(image, 80)
    assert caplog.messages == ["default, halves: a payload is left as it is: too large"]
    small = image[:64, :64]
    assert anchor.encode(small, 10) == codec.encode(small, 10)
    with pytest.raises(ValueError, match="default, halves: a payload did not come back"):
        anchor.encode(small, 60)


def test_an_anchor_that_is_not_installed_is_left_out_or_named(codec, monkeypatch):
    monkeypatch.setattr(ours.Lepton, "module", "not_there")
    with pytest.raises(
        MissingLibraryError, match="default, Lepton needs lepton-jpeg-python: pip install"
    ):
        registry.open_codecs(["lepton"], [codec], [40])
    _, notes = registry.open_codecs(None, [codec], [40])
    assert [note for note in notes if "Lepton needs" in note]


def test_a_name_stands_for_one_codec(codec):
    with pytest.raises(ValueError, match=f"different names. Received twice: .*{codec.name}"):
        registry.open_codecs(["jpeg"], [codec, codec], [50])


def test_each_model_has_its_ablation(codec):
    opened, _ = registry.open_codecs(["rec", "jpeg"], [codec], [30])
    assert [c.name for c in opened] == [codec.name, f"RecCNN alone ({codec.name})", "JPEG"]
    assert opened[0].qualities == opened[1].qualities == (30,)
