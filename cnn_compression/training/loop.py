"""Training: a custom `tf.function` step under `tf.distribute`, checkpoints that resume exactly."""

import contextlib
import functools
import json
import logging
import time
from dataclasses import asdict, fields
from pathlib import Path

import keras
import tensorflow as tf

from cnn_compression.codec.model_files import load_model
from cnn_compression.files import write_atomically
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.multi_scale import as_multi_scale
from cnn_compression.tensors.colour import luma
from cnn_compression.tensors.levels import to_uint8, to_unit
from cnn_compression.training.config import TrainConfig
from cnn_compression.training.data import (
    CropSettings,
    ImageReader,
    list_images,
    split_held_out,
    training_batches,
)
from cnn_compression.training.evaluation import HeldOutEvaluation, RunLog
from cnn_compression.training.objectives import JointObjective, ReduceObjective, RestoreObjective
from cnn_compression.training.optimizers import ConvMuon

_log = logging.getLogger(__name__)


CHECKPOINTS = "checkpoints"  # in the folder of a run
OPTIMIZERS = {"adam": keras.optimizers.Adam, "muon": ConvMuon}


@functools.cache
def make_strategy(name):
    """A `tf.distribute` strategy: mirrored (all visible devices), one_device or multi_worker.

    A process gets one of each: the collectives of two would take each other's keys.
    """
    if name == "multi_worker":
        # It must come before anything that starts TensorFlow's devices.
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy(gpus[0].name if gpus else "/cpu:0")
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def real_codec(compact, quality, grey, chroma="4:2:0"):
    """The bytes codec as `RestoreObjective` wants it: float `[N, h, w, C]` in and out."""
    levels = to_uint8(compact)
    if compact.shape[-1] == 1:
        return to_unit(coding.round_trip(levels, quality))
    colour = coding.round_trip(levels, quality, chroma)
    grey_levels = coding.round_trip(to_uint8(luma(compact)), quality)
    return to_unit(tf.where(grey[:, None, None, None], grey_levels, colour))


@contextlib.contextmanager
def _precision(name):
    """Keras' global policy for the layers made inside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if name == "bfloat16" else name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Trainer:
    """The state of a run and its step functions.

    Args:
        config: `TrainConfig`.
        strategy: `tf.distribute.Strategy`; by default what the config names.
    """

    def __init__(self, config, strategy=None):
        self.config = config
        self.strategy = strategy or make_strategy(config.strategy)
        replicas = self.strategy.num_replicas_in_sync
        if config.batch_size % replicas:
            raise ValueError(
                f"batch_size must divide by the {replicas} replicas. Received: {config.batch_size}"
            )
        files, held_out = split_held_out(list_images(config.data), config.held_out)
        self.reader = ImageReader(files, config.max_bad_files, config.colour)
        self.evaluation = HeldOutEvaluation(
            ImageReader(held_out, config.max_bad_files, config.colour), config.channels
        )
        keras.utils.set_random_seed(config.seed)
        with self.strategy.scope(), _precision(config.precision):
            self.model = self._initial_model()
            self.ema = [tf.Variable(v.value, trainable=False) for v in self.model.variables]
            self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
            self.bad_step = tf.Variable(-1, dtype=tf.int64, trainable=False)
            self.objectives = {
                "joint": JointObjective(config.preview_psnr, config.loss_power),
                "restore": RestoreObjective(
                    functools.partial(real_codec, chroma=self.model.chroma)
                ),
                "reduce": ReduceObjective(),
            }
            phases = [config.phase(step) for step in range(config.steps)]
            self.optimizers = {
                name: self._optimizer(name, phases.count(name)) for name in sorted(set(phases))
            }
        self._steps = {name: self._make_step(name) for name in self.optimizers}

    def _initial_model(self):
        config = self.config
        rate = {"rate_weight": config.rate_weight, "rate_power": config.rate_power}
        if not config.init:
            return ComRec.from_preset(
                config.preset,
                config.channels,
                config.scale,
                config.rec_arguments(),
                chroma=config.chroma,
                **rate,
            )
        pairs = as_multi_scale(load_model(config.init)).pairs
        wanted = (config.channels, config.scale, config.chroma)
        known = {(pair.channels, pair.scale, pair.chroma): pair for pair in pairs}
        if wanted not in known:
            raise ValueError(
                f"channels, scale and chroma must be {' or '.join(map(str, known))}, as "
                f"{config.init} has them. Received: {wanted}"
            )
        pair = known[wanted]
        has = pair.rec.get_config()
        if any(has.get(name) != value for name, value in config.rec_arguments().items()):
            raise ValueError(f"{config.init} has a RecCNN of {has}. Received: rec {config.rec}")
        model = ComRec.from_config(pair.get_config() | rate)
        model.set_weights(pair.get_weights())
        return model

    def _optimizer(self, phase, steps):
        peak = self.config.learning_rate
        if self.config.schedule == "joint" and phase == "restore":
            # The finish only adapts what the joint phase learned.
            peak *= 0.2
        warmup = min(self.config.warmup_steps, steps // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(steps - warmup, 1), alpha=0.01, warmup_target=peak, warmup_steps=warmup
        )
        optimizer = OPTIMIZERS[self.config.optimizer](rate)
        optimizer.build(self.objectives[phase].variables(self.model))
        return optimizer

    def _make_step(self, phase):
        """The `tf.function` that does one step of a phase on every replica."""
        config, strategy = self.config, self.strategy
        objective, optimizer = self.objectives[phase], self.optimizers[phase]
        variables = objective.variables(self.model)
        replicas = strategy.num_replicas_in_sync

        def replica_step(image, quality):
            with tf.GradientTape() as tape:
                losses = objective(self.model, image, quality)
                means = {
                    name: tf.nn.compute_average_loss(loss, global_batch_size=config.batch_size)
                    for name, loss in losses.items()
                }
            gradients = tape.gradient(means["loss"], [v.value for v in variables])
            gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
            gradients, norm = tf.clip_by_global_norm(gradients, config.clip_norm)
            # Keras optimizers sum over replicas what is already the sum here.
            optimizer.apply_gradients(
                [(g / replicas, v) for g, v in zip(gradients, variables, strict=True)]
            )
            return means | {"gradient_norm": norm / replicas}

        @tf.function
        def step(image, quality):
            results = strategy.run(replica_step, (image, quality))
            results = {name: strategy.reduce("sum", v, axis=None) for name, v in results.items()}
            finite = tf.math.is_finite(results["loss"] + results["gradient_norm"])
            first = tf.logical_and(tf.logical_not(finite), self.bad_step < 0)
            self.bad_step.assign(tf.where(first, self.step, self.bad_step))
            self._update_ema()
            self.step.assign_add(1)
            return results

        return step

    def _update_ema(self):
        """The average of the first steps is short, so that the initial weights fade out."""
        done = tf.cast(self.step, tf.float32)
        decay = tf.minimum(self.config.ema_decay, (1.0 + done) / (10.0 + done))
        for average, variable in zip(self.ema, self.model.variables, strict=True):
            average.assign(decay * average + (1.0 - decay) * tf.cast(variable.value, tf.float32))

    def batches(self, first_step):
        """Iterator of distributed batches from a step on."""
        config = self.config

        def worker_batches(context):
            replicas = context.num_replicas_in_sync // context.num_input_pipelines
            batches = training_batches(
                self.reader,
                CropSettings(**{f.name: getattr(config, f.name) for f in fields(CropSettings)}),
                config.batch_size,
                config.seed,
                first_step,
                context.input_pipeline_id,
                context.num_input_pipelines,
            )
            if replicas > 1:
                batches = batches.unbatch().batch(
                    config.batch_size // context.num_replicas_in_sync, drop_remainder=True
                )
            return batches

        return iter(self.strategy.distribute_datasets_from_function(worker_batches))

    def train_step(self, step, batch):
        """Step number `step` on a distributed batch: dict of scalar tensors, not waited for."""
        return self._steps[self.config.phase(step)](*batch)

    def check(self):
        """Raises `FloatingPointError` that names the first step whose loss was not finite."""
        if self.bad_step >= 0:
            step = int(self.bad_step.numpy())
            raise FloatingPointError(f"loss or gradient not finite at step {step}")

    @property
    def is_chief(self):
        """Whether this process writes what is kept: the only one, or worker 0 of several."""
        resolver = self.strategy.cluster_resolver
        return resolver is None or not resolver.task_type or resolver.task_id == 0

    def adopt_average(self):
        """Goes on from the averaged weights: what is kept of ComCNN is what RecCNN then sees."""
        self.model.set_weights([average.numpy() for average in self.ema])

    def averaged_model(self):
        """A float32 `ComRec` with the averaged weights."""
        with _precision("float32"):
            model = ComRec.from_config(self.model.get_config())
        model.set_weights([average.numpy() for average in self.ema])
        return model

    def checkpoint(self):
        """`tf.train.Checkpoint` of everything that a resumed run needs."""
        return tf.train.Checkpoint(
            model=self.model,
            ema=self.ema,
            step=self.step,
            **{f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()},
        )


def _check_same_config(config, path):
    """Raises ValueError where a run is to be resumed with settings that would change it."""
    if not path.is_file():
        return
    # By way of JSON, in which tuples are lists.
    before, now = json.loads(path.read_text()), json.loads(json.dumps(asdict(config)))
    free = {f.name for f in fields(config) if f.metadata.get("free")} | {"output"}
    changed = {
        name: (before.get(name), value)
        for name, value in now.items()
        if name not in free and before.get(name) != value
    }
    if changed:
        raise ValueError(
            f"{path.parent} holds a run with other settings (before, now): {changed}; "
            "give the same ones to resume it, or another output"
        )


def save_model(model, path):
    """Writes a `ComRec` as a `.keras` file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def train(config: TrainConfig, strategy=None, stop_at=None):
    """Trains, or goes on training where the output folder's last checkpoint stands.

    Args:
        config: `TrainConfig`.
        strategy: `tf.distribute.Strategy`; by default what the config names.
        stop_at: step to stop after, as a run does that is interrupted; by default the end.

    Returns:
        The trained `ComRec`, averaged weights, also written to `<output>/model.keras`.

    Raises:
        FloatingPointError: where the loss is not finite; names the step. Checkpoints are older.
        TooManyBadFilesError: where more files than allowed cannot be read.
        ValueError: where the output holds a run with other settings.
    """
    output = Path(config.output)
    _check_same_config(config, output / "config.json")
    trainer = Trainer(config, strategy)
    # Workers that were killed may have saved different steps: all go on from the chief's.
    latest = tf.train.latest_checkpoint(str(output / CHECKPOINTS))
    if not trainer.is_chief:
        # Every worker must save when the chief does, but only the chief's files are kept in view.
        output /= f"worker{trainer.strategy.cluster_resolver.task_id}"
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "config.json", json.dumps(asdict(config), indent=2).encode())
    checkpoint = trainer.checkpoint()
    manager = tf.train.CheckpointManager(checkpoint, str(output / CHECKPOINTS), max_to_keep=2)
    if latest:
        checkpoint.restore(latest)
        _log.info("resumed %s at step %d", latest, int(trainer.step.numpy()))
    else:
        _log.info("started from %s", config.init or f"random weights, seed {config.seed}")
    try:
        _run(trainer, manager, RunLog(output / "logs", config.batch_size), stop_at)
    except tf.errors.OpError:
        trainer.reader.check()
        raise
    model = trainer.averaged_model()
    save_model(model, output / "model.keras")
    return model


def _run(trainer, manager, log, stop_at):
    config, first = trainer.config, int(trainer.step.numpy())
    last = min(config.steps, stop_at or config.steps)
    batches = trainer.batches(first) if first < last else None
    saved = time.monotonic()
    for step in range(first, last):
        log.pending.append(trainer.train_step(step, log.next_batch(batches)))
        done, phase = step + 1, config.phase(step)
        phase_ends = config.phase(done) != phase
        if phase_ends and config.schedule == "joint":
            trainer.adopt_average()
        if done % config.log_steps == 0 or done == last or phase_ends:
            trainer.check()
            log.write(done, phase, float(trainer.optimizers[phase].learning_rate))
        with log.paused():
            if done % config.eval_steps == 0 or done == config.steps:
                trainer.check()
                log.held_out(done, *trainer.evaluation(trainer.averaged_model()))
            # Workers' clocks differ, and all must save the same steps.
            late = time.monotonic() - saved > 60 * config.checkpoint_minutes
            overdue = late and config.strategy != "multi_worker"
            if done % config.checkpoint_steps == 0 or done == last or overdue:
                trainer.check()
                manager.save(checkpoint_number=done)
                saved = time.monotonic()
