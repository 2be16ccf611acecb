"""Training: runs that resume exactly, replicas that agree, and what a run leaves behind.

The networks are tiny and the crops small: nearly all the time goes into tracing step functions, so
tests share runs where they can.
"""

import functools
import json
import os
import shutil
import types
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_compression.codec import Codec
from cnn_compression.codec.model_files import load_model, write_exported
from cnn_compression.files import locked
from cnn_compression.models import com_rec
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.fast import FastComCNN, FastRecCNN
from cnn_compression.models.multi_scale import MultiScale
from cnn_compression.training import loop
from cnn_compression.training.config import TrainConfig
from cnn_compression.training.data import TooManyBadFilesError, list_images, split_held_out
from cnn_compression.training.loop import train
from cnn_compression.training.objectives import JointObjective
from cnn_compression.training.run_files import (
    FileList,
    check_same_config,
    files_of_run,
    save_model,
    write_config,
)
from cnn_compression.training.trainer import Trainer, make_strategy


@pytest.fixture(scope="module", autouse=True)
def tiny_preset():
    """`fast` at a size that trains in milliseconds."""
    tiny = (
        functools.partial(FastComCNN, filters=8, blocks=1),
        functools.partial(FastRecCNN, filters=8, blocks=1, inner_blocks=1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(com_rec.PRESETS, "fast", tiny)
        yield


@pytest.fixture(scope="module")
def pictures(photos, tmp_path_factory):
    """A folder of ten pieces of photographs."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, photo in photos.items():
        for part in (0, 1):
            piece = photo[96 * part : 96 * part + 64, 80:176]
            (folder / f"{name}{part}.png").write_bytes(tf.io.encode_png(piece).numpy())
    return folder


@pytest.fixture(scope="module")
def base(pictures):
    """What the tests' configurations have in common."""
    return TrainConfig(
        data=(str(pictures),),
        output="nowhere",
        strategy="one_device",
        steps=8,
        finish_steps=3,
        alternate_steps=2,
        batch_size=4,
        crop_size=32,
        crops_per_image=3,
        held_out=2,
        warmup_steps=2,
        learning_rate=2e-3,
        log_steps=2,
        checkpoint_steps=5,
    )


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """The configuration of a finished run of the joint schedule, and the model it gave."""
    config = replace(base, output=str(tmp_path_factory.mktemp("finished")))
    return config, train(config)


def weights(network):
    return [np.asarray(v.value) for v in network.variables]


def same(a, b):
    return [np.array_equal(x, y) for x, y in zip(a, b, strict=True)]


def checkpoint_values(config, step=None):
    """Everything in a run's checkpoint: name -> array."""
    folder = Path(config.output, "checkpoints")
    path = str(folder / f"ckpt-{step}") if step else tf.train.latest_checkpoint(str(folder))
    reader = tf.train.load_checkpoint(path)
    names = set(reader.get_variable_to_shape_map())
    # The graph of Python objects and the number of saves are about the files, not the run.
    names -= {"_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE"}
    return {name: reader.get_tensor(name) for name in names}


def assert_same_values(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not np.array_equal(a[name], b[name])] == []


# Configuration.


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"schedule": "both"}, r"schedule must be one of .*joint.* Received: 'both'"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"strategy": "tpu"}, "strategy must be one of"),
        ({"optimizer": "sgd"}, "optimizer must be one of"),
        ({"scale": 3}, r"scale must be one of \(1, 2, 4\). Received: 3"),
        ({"chroma": "4:1:1"}, "chroma must be one of"),
        ({"rec": "filters"}, "rec must be ARGUMENT=INTEGER,... Received: 'filters'"),
        ({"rec": "filters=8,"}, "rec must be ARGUMENT=INTEGER"),
        ({"channels": 2}, r"channels must be one of \(1, 3\). Received: 2"),
        ({"steps": 0}, "steps must be at least 1. Received: 0"),
        ({"log_steps": 0}, "log_steps must be at least 1"),
        ({"held_out": -1}, "held_out must be at least 0. Received: -1"),
        ({"ema_decay": 1.5}, "ema_decay must be from 0 to 1. Received: 1.5"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0"),
        ({"crop_size": 40}, "multiple of 16. Received: 40"),
        ({"min_quality": 60, "max_quality": 50}, "Received: 60, 50"),
        ({"max_quality": 101}, "Received: 5, 101"),
        (
            {"preset": "bottleneck", "precision": "bfloat16"},
            "precision of the preset bottleneck must be float32. Received: 'bfloat16'",
        ),
        (
            {"preset": "progressive", "reconstruction": "scaled", "iterations": 1},
            "expected iterations from 2",
        ),
        ({"data": ()}, "data and output must be given"),
        ({"output": ""}, "data and output must be given"),
    ],
)
def test_a_wrong_setting_is_refused(base, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(base, **changes)


def test_phases_of_the_joint_schedule(base):
    assert [base.phase(step) for step in range(8)] == ["joint"] * 5 + ["restore"] * 3


def test_phases_of_the_alternate_schedule(base):
    phases = [replace(base, schedule="alternate").phase(step) for step in range(5)]
    assert phases == ["restore", "restore", "reduce", "reduce", "restore"]


def test_a_batch_that_replicas_cannot_share_is_refused(base):
    config = replace(base, strategy="mirrored", batch_size=3)
    with pytest.raises(ValueError, match="batch_size must divide by the 2 replicas. Received: 3"):
        Trainer(config)


# What a finished run leaves.


def test_the_trained_model_is_written_and_loads(finished, photos):
    config, model = finished
    loaded = load_model(config.output)
    assert same(weights(loaded), weights(model))
    assert {path.name for path in Path(config.output).iterdir()} == {
        "checkpoints",
        "config.json",
        "files.json",
        "logs",
        "model.keras",
    }
    payload = Codec(loaded).encode(photos["coffee"])
    assert payload == Codec(model).encode(photos["coffee"])
    assert Codec(loaded).decode(payload).shape == photos["coffee"].shape


def test_the_trained_model_has_the_averaged_weights(finished):
    config, model = finished
    saved = checkpoint_values(config)
    averages = [v for name, v in saved.items() if name.startswith("ema/")]
    for value in weights(model):
        assert any(np.array_equal(value, average) for average in averages)


def test_the_configuration_is_saved(finished):
    config, _ = finished
    saved = json.loads(Path(config.output, "config.json").read_text())
    assert TrainConfig(**saved | {"data": tuple(saved["data"])}) == config


@pytest.fixture(scope="module")
def events(finished):
    """TensorBoard's own reading of a run's logs."""
    accumulator = EventAccumulator(str(Path(finished[0].output, "logs")))
    return accumulator.Reload()


def scalars(events, name):
    return {
        event.step: tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors(name)
    }


def test_tensorboard_has_the_losses_of_each_phase(events):
    # Every second step, and where a phase ends.
    for name in ("loss", "mse", "psnr", "gradient_norm", "learning_rate", "images_per_second"):
        for phase, steps in {"joint": [2, 4, 5], "restore": [6, 8]}.items():
            values = scalars(events, f"{phase}/{name}")
            assert list(values) == steps
            assert all(np.isfinite(value) and value > 0 for value in values.values())
    assert scalars(events, "joint/bpp").keys() == {2, 4, 5}
    mse, psnr = (scalars(events, f"joint/{name}")[4] for name in ("mse", "psnr"))
    assert psnr == pytest.approx(10 * np.log10(255**2 / mse), rel=1e-5)


def test_tensorboard_has_the_share_of_time_spent_on_waiting(events):
    for phase in ("joint", "restore"):
        assert all(0 < share < 1 for share in scalars(events, f"{phase}/input_wait").values())


def test_tensorboard_has_psnr_and_bpp_of_held_out_images_at_three_qualities(events):
    psnr, bpp = (
        [scalars(events, f"held_out/{name}/q{quality}")[8] for quality in (15, 40, 75)]
        for name in ("psnr", "bpp")
    )
    assert psnr == sorted(psnr) and bpp == sorted(bpp)
    assert 15 < psnr[0] and psnr[2] < 50


def test_tensorboard_has_a_strip_for_each_held_out_image(events, finished):
    _, held_out = split_held_out(list_images(finished[0].data), 2)
    (event,) = events.Tensors("original, preview, restored")
    width, height, *strips = tf.make_ndarray(event.tensor_proto)
    assert (event.step, int(width), int(height), len(strips)) == (8, 768, 256, 2)
    for strip, file in zip(strips, held_out, strict=True):
        strip = tf.io.decode_png(strip).numpy()
        original, preview, restored = np.split(strip[:64].astype(float), 3, axis=1)
        expected = tf.io.decode_png(file.read_bytes(), channels=3).numpy()
        np.testing.assert_array_equal(original[:, :96], expected)
        for picture in (preview, restored):
            assert 0 < np.abs(picture - original).mean() < 15
        assert not strip[64:].any()


# Resuming.


@pytest.mark.slow
def test_a_killed_run_resumes_exactly(finished, tmp_path, monkeypatch):
    config = replace(finished[0], output=str(tmp_path), checkpoint_steps=4)
    train_step = Trainer.train_step

    def killed(self, step, batch):
        if step == 5:
            raise KeyboardInterrupt
        return train_step(self, step, batch)

    monkeypatch.setattr(Trainer, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    # One step is lost, and step 4 is neither at the start of an image's crops nor of a phase.
    assert Path(tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))).name == "ckpt-4"
    assert not (tmp_path / "model.keras").exists()
    model = train(config)
    assert_same_values(checkpoint_values(config), checkpoint_values(finished[0]))
    assert all(same(weights(model), weights(finished[1])))


def test_a_finished_run_gives_its_model_again(finished):
    config, model = finished
    before = checkpoint_values(config)
    assert all(same(weights(train(config)), weights(model)))
    assert_same_values(checkpoint_values(config), before)


def test_a_checkpoint_holds_all_that_a_run_depends_on(finished):
    trainer = Trainer(finished[0])
    path = tf.train.latest_checkpoint(str(Path(finished[0].output, "checkpoints")))
    trainer.checkpoint().restore(path).assert_existing_objects_matched()
    assert int(trainer.step.numpy()) == 8
    iterations = {name: int(o.iterations.numpy()) for name, o in trainer.optimizers.items()}
    assert iterations == {"joint": 5, "restore": 3}


def test_resuming_with_other_settings_is_refused_and_names_them(finished):
    config, model = finished
    before = Path(config.output, "config.json").read_text()
    changed = replace(config, rate_weight=9.5, seed=4, log_steps=7)
    with pytest.raises(ValueError) as caught:
        train(changed)
    message = str(caught.value)
    assert "'rate_weight': (8.0, 9.5)" in message and "'seed': (1, 4)" in message
    assert "log_steps" not in message and "\n" not in message
    assert Path(config.output, "config.json").read_text() == before


def test_settings_of_the_logs_can_change(finished):
    config, _ = finished
    train(replace(config, log_steps=7))
    assert json.loads(Path(config.output, "config.json").read_text())["log_steps"] == 7


def test_training_past_the_end_is_refused_and_says_what_does_it(finished):
    config, _ = finished
    with pytest.raises(ValueError, match=r"'steps': \(8, 12\).*--init=.* another output"):
        train(replace(config, steps=12))


def test_a_second_run_in_the_folder_is_refused(finished):
    config, _ = finished
    with locked(config.output), pytest.raises(BlockingIOError, match="Received: one where process"):
        train(config)
    assert not Path(config.output, ".lock").exists()


# Files of a run.


@pytest.fixture
def begun(base, pictures, tmp_path):
    """A folder of eight pictures, and a run on it that has begun: settings and list of files."""
    data, output = tmp_path / "data", tmp_path / "run"
    shutil.copytree(pictures, data)
    output.mkdir()
    config = replace(base, data=(str(data),), output=str(output))
    files = files_of_run(config, output)
    files.write(output)
    write_config(config, output)
    return config, files


def test_photographs_that_come_later_are_left_out(begun, caplog, monkeypatch):
    config, files = begun
    assert len(files.training) == 8 and len(files.held_out) == 2
    data = Path(config.data[0])
    for name in ("a.png", "b.png", "c.png"):
        shutil.copy(data / "camera0.png", data / name)
    assert files_of_run(config, Path(config.output)) == files
    assert "3 files were added since the run began" in caplog.text
    changed = FileList.of_folders(config)
    assert set(changed.training) & set(files.held_out)  # which is what the list is for

    class Stop(Exception):
        pass

    def trainer(config, given, strategy):
        assert given == files
        raise Stop

    monkeypatch.setattr(loop, "Trainer", trainer)
    with pytest.raises(Stop):
        train(config)


def test_the_spelling_of_the_folder_does_not_matter(begun, tmp_path, monkeypatch):
    config, files = begun
    output = Path(config.output)
    (tmp_path / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for data in ("data", "./data/", "data/../data", "link", f"{tmp_path}//data/"):
        spelt = replace(config, data=(data,))
        check_same_config(spelt, output)
        assert files_of_run(spelt, output) == files == FileList.of_folders(spelt)
    (tmp_path / "more").mkdir()
    for data in (("more",), ("data", "more")):
        with pytest.raises(ValueError, match="other settings .*'data'"):
            check_same_config(replace(config, data=data), output)


def test_each_file_is_listed_once(begun, tmp_path):
    config, files = begun
    data = Path(config.data[0])
    (data / "again.png").symlink_to(data / "camera0.png")
    several = (str(data), f"{data}/", str(data / "rocket1.png"))
    listed = FileList.of_folders(replace(config, data=several))
    assert len(listed.training) + len(listed.held_out) == 10
    assert not set(listed.training) & set(listed.held_out)


def test_files_that_are_gone_are_said_and_too_many_refused(begun, caplog):
    config, files = begun
    output = Path(config.output)
    os.remove(files.training[3])
    assert files_of_run(config, output) == files
    assert f"1 files of the run are gone, {files.training[3]} first" in caplog.text
    os.remove(files.held_out[0])
    with pytest.raises(ValueError, match="max_bad_files=1. Received: 2 are gone, "):
        files_of_run(replace(config, max_bad_files=1), output)


def test_a_run_of_an_earlier_version_goes_on_with_a_remark(begun, caplog):
    config, files = begun
    output = Path(config.output)
    os.remove(output / "files.json")
    settings = json.loads((output / "config.json").read_text())
    del settings["colour"]
    (output / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="'colour': .'as_is', 'srgb'."):
        check_same_config(config, output)
    config = replace(config, colour="as_is")
    check_same_config(config, output)
    assert files_of_run(config, Path(config.output)) == files
    assert "has no list of its files" in caplog.text


def test_a_damaged_list_is_named(begun):
    config, _ = begun
    Path(config.output, "files.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a run's list of files. Received: .*files.json"):
        files_of_run(config, Path(config.output))


def test_too_few_photographs_say_how_many_it_takes(base, pictures, tmp_path):
    for path in sorted(pictures.iterdir())[:6]:
        shutil.copy(path, tmp_path)
    config = replace(base, data=(str(tmp_path),), held_out=16, output=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="17 or more, or --held_out .* Received: 6"):
        train(config)
    assert not (tmp_path / "run").exists()


WORKERS = {"worker": ["a:1", "b:1"]}
WITH_CHIEF = {"chief": ["c:1"], "worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    "cluster, task, expected",
    [
        (None, None, None),
        (WORKERS, {"type": "worker", "index": 0}, None),
        (WORKERS, {"type": "worker", "index": 1}, 1),
        (WITH_CHIEF, {"type": "chief", "index": 0}, None),
        (WITH_CHIEF, {"type": "worker", "index": 0}, 0),
        (WITH_CHIEF, {"type": "worker", "index": 1}, 1),
    ],
)
def test_one_process_of_several_keeps_the_run(base, monkeypatch, cluster, task, expected):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if cluster:
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    config = replace(base, strategy="multi_worker")
    assert loop._worker_beside_the_chief(config, None) == expected
    assert loop._worker_beside_the_chief(base, None) is None
    assert loop._worker_beside_the_chief(config, make_strategy("one_device")) is None


# Steps.


def run_steps(trainer, first, last):
    """Does steps and yields, after each, what it returned."""
    batches = trainer.batches(first)
    for step in range(first, last):
        results = trainer.train_step(step, next(batches))
        yield {name: float(value) for name, value in results.items()}


def snapshot(trainer, results):
    """Copies of all that a step changes."""
    return types.SimpleNamespace(
        results=results,
        weights=weights(trainer.model),
        optimizer=[np.asarray(v.value) for v in trainer.optimizers["joint"].variables],
        ema=[average.numpy() for average in trainer.ema],
    )


@pytest.fixture(scope="module")
def joint_config(base):
    settings = {"ema_decay": 0.3, "clip_norm": 0.7, "rate_weight": 0.1, "learning_rate": 5e-3}
    return replace(base, steps=60, finish_steps=0, held_out=0, **settings)


@pytest.fixture(scope="module")
def joint(joint_config):
    """A trainer that did 60 steps: at its start, after each of the first 4, and all results."""
    trainer = Trainer(joint_config)
    start = snapshot(trainer, None)
    steps = run_steps(trainer, 0, 60)
    snapshots = [snapshot(trainer, next(steps)) for _ in range(4)]
    results = [taken.results for taken in snapshots] + list(steps)
    return types.SimpleNamespace(trainer=trainer, start=start, snapshots=snapshots, results=results)


def test_loss_and_gradient_are_means_over_the_global_batch(joint, joint_config):
    """The first step, recomputed without `tf.distribute`, clipping and Keras' optimizer."""
    trainer = Trainer(joint_config)
    variables = trainer.model.trainable_variables
    with tf.GradientTape() as tape:
        losses = JointObjective(25.0)(trainer.model, *next(trainer.batches(0)))
        loss = tf.reduce_mean(losses["loss"])
    gradients = [g.numpy() for g in tape.gradient(loss, [v.value for v in variables])]
    norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in gradients))
    first = joint.snapshots[0]
    assert first.results["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert first.results["mse"] == pytest.approx(np.mean(losses["mse"]), rel=1e-5)
    assert first.results["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    # Adam's first moment is a tenth of what reached the optimizer: the clipped gradient.
    assert norm > joint_config.clip_norm
    optimizer = trainer.optimizers["joint"]
    names = [v.path for v in optimizer.variables]
    moments = [
        value
        for name, value in zip(names, first.optimizer, strict=True)
        if name.endswith("_momentum")
    ]
    for moment, gradient in zip(moments, gradients, strict=True):
        expected = 0.1 * gradient * joint_config.clip_norm / norm
        np.testing.assert_allclose(moment, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_two_replicas_give_the_weights_of_one(joint, joint_config):
    trainer = Trainer(replace(joint_config, strategy="mirrored"))
    assert trainer.strategy.num_replicas_in_sync == 2
    steps = run_steps(trainer, 0, 4)
    for expected, results in zip(joint.snapshots, steps, strict=True):
        assert results == pytest.approx(expected.results, rel=1e-3)
        # Sums are taken in another order, which Adam's division by small moments makes larger.
        for value, reference in zip(weights(trainer.model), expected.weights, strict=True):
            np.testing.assert_allclose(value, reference, atol=1e-5)
        for variable, reference in zip(trainer.ema, expected.ema, strict=True):
            np.testing.assert_allclose(variable.numpy(), reference, atol=1e-5)
        # Unlike the weights, the moments follow the scale of the gradient.
        moments = weights(trainer.optimizers["joint"])
        for value, reference in zip(moments, expected.optimizer, strict=True):
            np.testing.assert_allclose(value, reference, atol=1e-3 * np.abs(reference).max())
    # All replicas hold the same.
    for variable in trainer.model.variables:
        copies = trainer.strategy.experimental_local_results(variable.value)
        assert np.array_equal(*[copy.numpy() for copy in copies])


def test_averaged_weights_are_the_formula(joint, joint_config):
    averages = joint.start.weights
    for step, taken in enumerate(joint.snapshots):
        decay = min(joint_config.ema_decay, (1 + step) / (10 + step))
        averages = [
            decay * average + (1 - decay) * weight
            for average, weight in zip(averages, taken.weights, strict=True)
        ]
        for average, expected in zip(taken.ema, averages, strict=True):
            np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-7)
    # Both branches of the minimum were taken.
    assert 1 / 10 < joint_config.ema_decay < 4 / 13
    for value, average in zip(
        weights(joint.trainer.averaged_model()), joint.trainer.ema, strict=True
    ):
        np.testing.assert_array_equal(value, average.numpy())


def test_the_loss_falls(joint, joint_config):
    """On the same samples, before and after."""
    new = Trainer(joint_config)
    batches = new.batches(0)
    objective = JointObjective(25.0)
    losses = [
        [tf.reduce_mean(objective(t.model, *batch)["loss"]) for t in (new, joint.trainer)]
        for batch in (next(batches) for _ in range(10))
    ]
    before, after = np.mean(losses, axis=0)
    assert after < 0.97 * before


def test_the_learning_rate_rises_and_falls(joint_config):
    trainer = Trainer(replace(joint_config, steps=40, finish_steps=10, warmup_steps=8))

    def rate(phase, step):
        optimizer = trainer.optimizers[phase]
        optimizer.iterations.assign(step)
        return float(optimizer.learning_rate)

    peak = joint_config.learning_rate
    rates = [rate("joint", step) for step in (0, 4, 8, 19, 30)]
    np.testing.assert_allclose(rates, [0, peak / 2, peak, 0.505 * peak, 0.01 * peak], rtol=1e-5)
    assert rate("restore", 5) == pytest.approx(0.2 * peak)
    assert rate("restore", 10) == pytest.approx(0.002 * peak)


def test_the_last_phase_of_joint_trains_rec_alone(finished):
    trainer = Trainer(finished[0])
    networks = trainer.model.com, trainer.model.rec
    seen = [[weights(network) for network in networks]]
    for step in (5, 8):
        path = Path(finished[0].output, "checkpoints", f"ckpt-{step}")
        trainer.checkpoint().restore(str(path))
        seen.append([weights(network) for network in networks])
    (com, rec), (joint_com, joint_rec), (last_com, last_rec) = seen
    assert not all(same(com, joint_com)) and not all(same(rec, joint_rec))
    assert all(same(joint_com, last_com)) and not all(same(joint_rec, last_rec))


def test_the_last_phase_of_joint_starts_from_the_averages(finished):
    trainer = Trainer(finished[0])
    trainer.checkpoint().restore(str(Path(finished[0].output, "checkpoints", "ckpt-5")))
    averages = [average.numpy() for average in trainer.ema]
    assert all(same(weights(trainer.model), averages))


def test_checkpoints_by_time(base, tmp_path):
    """With no minutes between them, one is written after each step; the last two are kept."""
    config = replace(base, output=str(tmp_path / "run"), checkpoint_minutes=0.0, eval_steps=100)
    train(config, stop_at=3)
    checkpoints = sorted(path.stem for path in (tmp_path / "run" / "checkpoints").glob("*.index"))
    assert checkpoints == ["ckpt-2", "ckpt-3"]


def test_a_run_that_cannot_start_leaves_nothing(base, tmp_path):
    with pytest.raises(FileNotFoundError):
        train(replace(base, data=(str(tmp_path / "nowhere"),), output=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_muon_at_full_size_resumes_exactly(base, tmp_path):
    settings = {"optimizer": "muon", "scale": 1, "rate_power": 2.0, "output": str(tmp_path)}
    config = replace(base, steps=6, finish_steps=0, held_out=0, **settings)
    whole = Trainer(config)
    for step, _ in enumerate(run_steps(whole, 0, 4)):
        if step == 1:
            path = whole.checkpoint().save(str(tmp_path / "ckpt"))
    resumed = Trainer(config)
    resumed.checkpoint().restore(path).assert_existing_objects_matched()
    list(run_steps(resumed, 2, 4))
    assert all(same(weights(resumed.model), weights(whole.model)))
    assert not any(same(weights(whole.model.rec), weights(Trainer(config).model.rec))[:2])


@pytest.mark.slow
def test_alternate_trains_one_network_at_a_time_and_resumes(base, tmp_path):
    config = replace(base, schedule="alternate", steps=6, warmup_steps=0)
    trainer = Trainer(config)
    path, changed = None, []
    before = weights(trainer.model.com), weights(trainer.model.rec)
    for step, _ in enumerate(run_steps(trainer, 0, 5)):
        after = weights(trainer.model.com), weights(trainer.model.rec)
        changed.append(tuple(not all(same(a, b)) for a, b in zip(before, after, strict=True)))
        before = after
        if step == 2:
            path = trainer.checkpoint().save(str(tmp_path / "ckpt"))
    rec, com = (False, True), (True, False)
    assert changed == [rec, rec, com, com, rec]

    resumed = Trainer(config)
    resumed.checkpoint().restore(path).assert_existing_objects_matched()
    list(run_steps(resumed, 3, 5))
    assert all(same(weights(resumed.model), weights(trainer.model)))
    assert all(same([v.numpy() for v in resumed.ema], [v.numpy() for v in trainer.ema]))
    for name, optimizer in trainer.optimizers.items():
        assert all(same(weights(resumed.optimizers[name]), weights(optimizer)))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(base, tmp_path, monkeypatch):
    settings = {"schedule": "alternate", "alternate_steps": 9, "log_steps": 9, "eval_steps": 9}
    config = replace(base, output=str(tmp_path), steps=9, checkpoint_steps=2, **settings)
    train_step = Trainer.train_step

    def poisoned(self, step, batch):
        if step == 2:
            bias = self.model.rec.tail.bias
            bias.assign(bias * np.nan)
        return train_step(self, step, batch)

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    with pytest.raises(FloatingPointError, match="at step 2$"):
        train(config)
    # Step 3 was done before anybody looked; what it spoiled was not saved.
    names = {path.name.partition(".")[0] for path in (tmp_path / "checkpoints").glob("ckpt-*")}
    assert names == {"ckpt-2"}
    values = checkpoint_values(config).values()
    assert all(np.isfinite(v).all() for v in values if v.dtype.kind == "f")
    assert not (tmp_path / "model.keras").exists()


@pytest.mark.slow
def test_bfloat16_trains_float32_weights_and_saves_a_float32_model(base, tmp_path):
    config = replace(base, output=str(tmp_path), precision="bfloat16")
    trainer = Trainer(config)
    assert trainer.model.com.head.compute_dtype == "bfloat16"
    assert trainer.model.com.head.variable_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    train(config, stop_at=2)
    model = load_model(tmp_path)
    assert model.com.head.compute_dtype == model.rec.head.compute_dtype == "float32"
    assert {v.dtype for v in model.variables} == {"float32"}
    assert not all(same(weights(model), weights(trainer.model)))
    assert all(np.isfinite(v).all() for v in weights(model))


@pytest.mark.slow
def test_the_paper_preset_trains(base):
    config = replace(base, preset="paper", channels=1, schedule="alternate", held_out=0)
    (results,) = run_steps(Trainer(config), 0, 1)
    assert np.isfinite(results["loss"]) and results["gradient_norm"] > 0


# Where a run starts.


def test_init_starts_from_the_weights_of_a_model(finished, base, tmp_path):
    write_exported(finished[1], tmp_path / "given" / "3")
    trainer = Trainer(replace(base, init=str(tmp_path / "given"), seed=5))
    assert all(same(weights(trainer.model), weights(finished[1])))
    assert all(same([v.numpy() for v in trainer.ema], weights(finished[1])))
    assert int(trainer.step.numpy()) == 0
    known = r"must be \(3, 2, '4:2:0'\), as .*given has them. Received: \(1, 2, '4:2:0'\)"
    with pytest.raises(ValueError, match=f"channels, scale and chroma {known}"):
        Trainer(replace(base, init=str(tmp_path / "given"), channels=1))


def test_init_takes_the_pair_of_the_scale(base, tmp_path):
    rec = {"filters": 8, "inner_filters": 8, "inner_blocks": 1}
    pairs = [ComRec.from_preset("fast", 3, scale, rec) for scale in (2, 1)]
    MultiScale(pairs, [[1, 50, 5, 90], [51, 100, 30, 95]]).save(tmp_path / "model.keras")
    for pair in pairs:
        config = replace(base, init=str(tmp_path), scale=pair.scale, rate_weight=3.5)
        trainer = Trainer(config)
        assert all(same(weights(trainer.model), weights(pair)))
        assert (trainer.model.scale, trainer.model.rate_weight) == (pair.scale, 3.5)
    Trainer(replace(config, rec="inner_blocks=1,filters=8"))
    for rec in ("inner_blocks=2", "width=8"):
        with pytest.raises(ValueError, match=f"has a RecCNN of .*'inner_blocks': 1.*: rec {rec}"):
            Trainer(replace(config, rec=rec))


def test_what_the_settings_say_of_the_networks(base):
    settings = {"scale": 1, "chroma": "4:4:4", "rec": "filters=16,inner_blocks=2"}
    model = Trainer(replace(base, rate_weight=2.0, rate_power=2.0, **settings)).model
    assert (model.scale, model.chroma, model.rec.filters, model.rec.inner_blocks) == (
        1, "4:4:4", 16, 2
    )  # fmt: skip
    assert (model.rate_weight, model.rate_power) == (2.0, 2.0)


def test_init_from_nothing_is_refused_before_anything_is_written(base, tmp_path):
    config = replace(base, init=str(tmp_path / "missing"), output=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="missing"):
        train(config)
    assert not (tmp_path / "out").exists()


def test_the_seed_decides_the_weights(base, joint_config, joint):
    assert all(same(weights(Trainer(joint_config).model), joint.start.weights))
    other = Trainer(replace(joint_config, seed=2))
    assert not all(same(weights(other.model), joint.start.weights))


# Bad files.


def test_too_many_bad_files_stop_the_run_with_one_line(base, tmp_path, caplog):
    for i in range(3):
        (tmp_path / f"{i}.png").write_text("not a picture")
    settings = {"output": str(tmp_path / "out"), "held_out": 0}
    config = replace(base, data=(*base.data, str(tmp_path)), max_bad_files=1, **settings)
    with pytest.raises(TooManyBadFilesError, match="more than max_bad_files=1") as caught:
        train(config)
    assert f"the last: {tmp_path}" in str(caught.value) and "\n" not in str(caught.value)
    config = replace(config, data=(str(tmp_path),), max_bad_files=9, output=str(tmp_path / "out2"))
    with pytest.raises(TooManyBadFilesError, match="none of the 3 files can be read") as caught:
        train(config)
    assert "\n" not in str(caught.value)


def test_a_bad_held_out_image_is_reported_and_left_out(base, tmp_path, caplog):
    data = [tmp_path / f"{i}.png" for i in range(3)]
    for path in data:
        path.write_bytes(Path(base.data[0], "camera0.png").read_bytes())
    data[1].write_text("not a picture")
    trainer = Trainer(replace(base, data=tuple(map(str, data)), held_out=2))
    assert len(trainer.evaluation.images) == 1
    (message,) = [message for message in caplog.messages if "skipped" in message]
    assert str(data[1]) in message


# Files and strategies.


def test_a_model_is_saved_whole_or_not_at_all(finished, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_text("before")

    def full(model, file):
        Path(file).write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(type(finished[1]), "save", full)
    with pytest.raises(OSError, match="no space left"):
        save_model(finished[1], path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_strategies_are_made_once():
    assert make_strategy("mirrored") is make_strategy("mirrored")
    assert make_strategy("one_device").num_replicas_in_sync == 1
