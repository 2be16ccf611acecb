"""Training the predicting networks: what a step is given, and a run that was stopped."""

import dataclasses
import functools
import io
import random

import numpy as np
import pytest
from jpeg_files import by_pillow, picture
from PIL import Image

from cnn_compression.jpeg import coefficients
from cnn_compression.packing import jpegs, kernels, payloads, predictors
from cnn_compression.packing import network as network_module
from cnn_compression.packing.network import PredictorNetwork
from cnn_compression.training import camera_jpegs, packing
from cnn_compression.training.config import PackingConfig

SMALL = {"trunk1": 16, "trunk2": 16, "last": 16, "features": 16, "hidden": 16}


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch):
    """Predictions start from few blocks: which ones does not matter here, and many take long."""
    monkeypatch.setattr(packing, "_BLOCKS_FOR_PREDICTIONS", 500)


@pytest.fixture(scope="module")
def made(codec, photos):
    names = ("coffee", "rocket", "camera")
    return [codec.encode(photos[n][:80, :97], q) for n in names for q in (20, 45, 80)]


@pytest.mark.parametrize("kind", ["payload", "4:2:0", "4:2:2", "4:4:4", "4:1:1", "L"])
@pytest.mark.parametrize("chroma", [False, True])
def test_blocks_are_given_what_coding_gives_them(made, photos, chroma, kind, monkeypatch):
    """The bits foreseen of every block, as training draws them, are those that a JPEG takes."""
    if kind == "L" and chroma:
        return
    network = PredictorNetwork(9 if chroma else 6, 5 if chroma else 4, **SMALL)
    random = np.random.default_rng(1)
    for weight in network.weights:
        scale = 0.02 if weight.name in ("around", "itself") else 0.15
        weight.assign(scale * random.standard_normal(weight.shape))
    if kind == "payload":
        jpeg = made[2]  # at full size, of colour
    else:
        settings = {} if kind == "L" else {"subsampling": kind}
        jpeg = by_pillow(picture(photos, mode="L" if kind == "L" else "RGB"), **settings)
    blocks = packing.Blocks([jpeg], chroma, are_payloads=kind == "payload")
    counts = blocks._components.rows * blocks._components.columns

    class EachOnce:
        """In place of a random generator: every block in turn."""

        def integers(self, low, high, count):
            return np.repeat(np.arange(len(counts)), counts)

        def random(self, count):
            return np.concatenate([(np.arange(n) + 0.5) / n for n in counts])

    batch = blocks.draw(EachOnce(), sum(counts))
    assert batch.weight[0] == pytest.approx(counts[0] / len(jpeg))
    bits = network(*batch[:4]).numpy().sum()

    net, taken = network.integers(), []
    other = predictors.find()[0]
    coded = kernels.code_plane
    used = dataclasses.replace(other, **{"chroma" if chroma else "luma": net})

    def counting(one, state, data, *more):
        before = _told(state)
        coded(one, state, data, *more)
        if one is used.arranged[chroma]:
            taken.append(_told(state) - before)

    monkeypatch.setattr(kernels, "code_plane", counting)
    for find in ("find", "find_for_jpegs"):
        monkeypatch.setattr(predictors, find, lambda name=None: (used, "0" * 8))
    (payloads if kind == "payload" else jpegs).pack(jpeg)
    written = len(taken) // 2  # the other half was read, to compare
    assert sum(taken[:written]) == pytest.approx(bits, rel=0.01, abs=16)


def _told(state):
    """Bits that a coder has been told: whole bytes, and how small its interval is."""
    low, high = int(state[kernels.LOW]), int(state[kernels.HIGH])
    return 8 * int(state[kernels.PLACE]) + 32 - np.log2(high - low + 1)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(made, tmp_path):
    config = PackingConfig(batch_size=32)

    def trained(folder, *stops):
        for steps in stops:
            network = PredictorNetwork(**SMALL)
            for weight in network.weights:
                weight.assign(np.full(weight.shape, 0.01))
            blocks = packing.Blocks(made, chroma=False)
            packing.train_network(network, blocks, steps, config, tmp_path / folder)
        return network

    with pytest.MonkeyPatch.context() as patch:
        # The schedule is that of the whole run.
        share = functools.partial(packing._share_of_rate, steps=6)
        patch.setattr(packing, "_share_of_rate", lambda number, steps: share(number))
        whole, stopped = trained("b", 6), trained("c", 3, 6)
    for ours, theirs in zip(whole.weights, stopped.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_network_starts_from_integers_and_gives_them_again():
    for chroma, contexts, predicting in ((False, 6, 4), (True, 9, 5)):
        networks, _ = predictors.find()
        net = networks.chroma if chroma else networks.luma
        network = PredictorNetwork(contexts, predicting)
        network.start_from(net)
        for ours, theirs in zip(network.integers(), net, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="expected a predictor of the network's widths"):
        PredictorNetwork(**SMALL).start_from(networks.luma)


def test_jpegs_to_learn_from_are_of_every_kind(photos):
    image, kinds, own = photos["coffee"][:40, :48], set(), 0
    for number in range(60):
        draw = random.Random(number)
        jpeg = camera_jpegs.code(image, 50 + number % 48, draw)
        assert Image.open(io.BytesIO(jpeg)).size == (48, 40)
        parsed = coefficients.parse(jpeg)
        kinds.add((len(parsed.quantisation), *coefficients.ratio(parsed.frame)))
        standard = coefficients.quantisation_tables(50 + number % 48, 1)[0]
        own += (parsed.quantisation[0] != standard).any()
    assert kinds == {(3, 2, 2), (3, 1, 2), (3, 1, 1), (1, 1, 1)} and 20 < own < 40
    grey = camera_jpegs.code(photos["camera"][:40, :48], 70, random.Random(0))
    assert len(coefficients.parse(grey).quantisation) == 1


@pytest.mark.slow
def test_the_command_trains_networks_that_pack(codec, photos, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("coffee", "chelsea"):
        Image.fromarray(photos[name][:64, :80]).save(f"photos/{name}.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    monkeypatch.setattr(
        packing, "PredictorNetwork", lambda *a: network_module.PredictorNetwork(*a, **SMALL)
    )
    flags = (
        "--output=run",
        "--payloads=2",
        "--luma_steps=3",
        "--chroma_steps=2",
        "--batch_size=16",
    )
    status, out, err = command("train_packing", "photos", *flags)
    assert status == 0 and out.startswith("trained networks ")
    networks = predictors.load(tmp_path / "run" / "packing.npz")
    assert networks.fingerprint in out and networks.model == codec.fingerprint
    monkeypatch.setattr(predictors, "find", lambda name=None: (networks, networks.fingerprint))
    payload = codec.encode(photos["rocket"][:50, :60], 60)
    assert payloads.unpack(payloads.pack(payload)) == payload
    again = command("train_packing", "photos", *flags)
    assert again[0] == 0 and again[1] == out
    assert command("train_packing", "photos")[0] == 2


@pytest.mark.slow
def test_the_command_trains_networks_for_any_jpeg(photos, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photos["coffee"][:64, :80]).save("photo.png")
    networks, _ = predictors.find()
    (tmp_path / "1.npz").write_bytes(predictors.saved(networks))
    flags = ["--of=jpegs", "--payloads=9", "--luma_steps=1", "--chroma_steps=1", "--batch_size=8"]
    flags += ["--learning_rate=0", "--output=run"]
    status, out, _ = command("train_packing", "photo.png", "--init=1.npz", *flags)
    assert status == 0
    made = predictors.load(tmp_path / "run" / "packing.npz")
    assert made.model == "" and made.fingerprint in out
    for ours, theirs in zip(made.luma + made.chroma, networks.luma + networks.chroma, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert command("train_packing", "photo.png", "--model=default", *flags)[0] == 2
