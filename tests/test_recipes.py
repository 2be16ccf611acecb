"""Training of latent models: each preset's run leaves a model that codes pictures, and resumes."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import cnn_compression
from cnn_compression.codec.latent import LatentCodec
from cnn_compression.codec.model_files import load_model
from cnn_compression.models import generative, progressive
from cnn_compression.training.config import TrainConfig
from cnn_compression.training.data import TooManyBadFilesError
from cnn_compression.training.loop import train
from cnn_compression.training.recipes import generative as generative_recipe
from cnn_compression.training.trainer import Trainer

TINY = {
    "progressive": {"encoder": (4, 8, 8, 8), "decoder": (8, 8, 8, 4)},
    "generative": {"widths": (4, 4, 8, 8, 8), "blocks": 1},
}


@pytest.fixture(scope="module", autouse=True)
def tiny_presets():
    """The presets at sizes that train in milliseconds; fewer codes are counted."""
    small = functools.partial(generative.PatchDiscriminator, widths=(4, 8), scales=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(progressive.PRESETS, "progressive", TINY["progressive"])
        patch.setitem(generative.PRESETS, "generative", TINY["generative"])
        patch.setattr(generative_recipe, "PatchDiscriminator", small)
        patch.setattr("cnn_compression.training.recipes.latent.LatentRecipe.COUNTED", 8)
        patch.setattr("cnn_compression.training.recipes.bottleneck.BottleneckRecipe.SOLVED", 40)
        yield


@pytest.fixture(scope="module")
def pictures(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, photo in photos.items():
        (folder / f"{name}.png").write_bytes(tf.io.encode_png(photo[:64, 80:176]).numpy())
    return folder


@pytest.fixture
def base(pictures, tmp_path):
    return TrainConfig(
        data=(str(pictures),), output=str(tmp_path / "run"), preset="generative", steps=6,
        strategy="one_device", batch_size=4, crop_size=32, held_out=1, warmup_steps=1,
        log_steps=2, checkpoint_steps=3, iterations=2, learning_rate=2e-3,
    )  # fmt: skip


def arrays(variables):
    return [np.asarray(v.value if hasattr(v, "value") else v) for v in variables]


def assert_codes_pictures(folder, photos, quality):
    codec = cnn_compression.load(folder)
    assert isinstance(codec, LatentCodec)
    image = photos["chelsea"][:37, :50]
    image_hat = codec.decode(codec.encode(image, quality))
    assert (image_hat.shape, image_hat.dtype) == (image.shape, np.uint8)
    return codec


@pytest.mark.slow
def test_a_resumed_run_of_turns_is_the_unbroken_one(base, tmp_path, photos):
    """Discriminator, both optimisers and what is drawn go on where they were."""
    whole = train(base)
    broken = replace(base, output=str(tmp_path / "broken"))
    train(broken, stop_at=3)
    resumed = train(broken)
    for a, b in zip(arrays(whole.variables), arrays(resumed.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    codec = assert_codes_pictures(broken.output, photos, 1)
    counted = codec.model.frequencies(1)
    assert len(np.unique(counted)) > 2  # no longer as they were built


@pytest.mark.slow
def test_generator_and_discriminator_train_by_turns(base):
    config = replace(base, held_out=0, made_up=0.5, warmup_steps=0, strategy="mirrored")
    assert [config.phase(step) for step in range(3)] == ["generate", "discriminate", "generate"]
    trainer = Trainer(config)
    networks = trainer.model.trainable_variables, trainer.recipe.discriminator.trainable_variables
    batches, before = trainer.batches(0), [arrays(each) for each in networks]
    for step in (0, 1):
        results = trainer.train_step(step, next(batches))
        after = [arrays(each) for each in networks]
        changed = [
            any((a != b).any() for a, b in zip(*pair, strict=True))
            for pair in zip(before, after, strict=True)
        ]
        assert changed == [step == 0, step == 1]
        assert all(np.isfinite(value) for value in results.values())
        before = after


def test_without_an_adversary_there_is_no_discriminator(base):
    config = replace(base, adversary_weight=0.0, held_out=0)
    assert {config.phase(step) for step in range(4)} == {"reconstruct"}
    assert Trainer(config).recipe.companions() == {}


@pytest.mark.slow
def test_the_progressive_preset_trains_and_starts_from_a_model(base, tmp_path, photos):
    config = replace(base, preset="progressive", steps=2, distortion="absolute")
    model = train(config)
    codec = assert_codes_pictures(config.output, photos, 2)
    assert codec.qualities == range(1, 3)
    further = replace(
        config,
        init=config.output,
        output=str(tmp_path / "b"),
        precision="bfloat16",
        iterations=3,
        iteration_power=1.0,
    )
    trainer = Trainer(further)
    assert trainer.model.qualities == range(1, 4)
    weights = [each.trainable_variables for each in (model, trainer.model)]
    for a, b in zip(*map(arrays, weights), strict=True):
        np.testing.assert_array_equal(a, b)
    assert trainer.model.binariser.compute_dtype == "bfloat16"
    with pytest.raises(ValueError, match="expected a model of .*scaled"):
        Trainer(replace(further, reconstruction="scaled"))


def test_noise_is_a_function_of_seed_and_step(base):
    trainer = Trainer(replace(base, held_out=0))
    draws = [tf.function(lambda: trainer._draws((2, 3)))() for _ in range(2)]
    np.testing.assert_array_equal(*draws)
    trainer.step.assign_add(1)
    assert (trainer._draws((2, 3)) != draws[0]).numpy().all()


@pytest.mark.slow
def test_the_direct_solution_takes_no_steps_and_is_no_worse_than_few(base, tmp_path, photos):
    direct = replace(base, preset="bottleneck", solution="direct", steps=50, held_out=0)
    model = train(direct)
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))
    assert_codes_pictures(direct.output, photos, 50)
    by_steps = replace(direct, solution="gradient", output=str(tmp_path / "b"))
    other = train(by_steps)
    assert load_model(by_steps.output).hidden == model.hidden
    image = photos["coffee"][None, :64, :64].astype(np.float32) / 255.0
    errors = [np.mean((each(image) - image) ** 2) for each in (model, other)]
    assert errors[0] < errors[1] < np.var(image)


@pytest.mark.slow
def test_the_direct_solution_is_tried_on_held_out_images_and_says_what_it_cannot_read(
    base, tmp_path, caplog
):
    direct = replace(base, preset="bottleneck", solution="direct", held_out=1)
    with caplog.at_level("INFO", "cnn_compression"):
        train(direct)
    assert "step 0 held out: psnr/q15" in caplog.text
    broken = tmp_path / "broken"
    broken.mkdir()
    for number in range(40):
        (broken / f"{number}.png").write_bytes(b"no picture")
    config = replace(direct, data=(str(broken),), held_out=0, output=str(tmp_path / "other"))
    with pytest.raises(TooManyBadFilesError, match=str(broken)):
        train(config)


def test_the_average_stands_still_while_the_discriminator_learns(base):
    trainer = Trainer(replace(base, held_out=0))
    batches = trainer.batches(0)
    for step, moves in enumerate((True, False, True)):
        before = [average.numpy() for average in trainer.ema]
        trainer.train_step(step, next(batches))
        same = [np.array_equal(a, b.numpy()) for a, b in zip(before, trainer.ema, strict=True)]
        assert all(same) is not moves
