"""The state of a run, and its step: a custom `tf.function` under `tf.distribute`."""

import functools
from dataclasses import fields

import keras
import numpy as np
import tensorflow as tf

from cnn_compression.codec.model_files import load_model
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.multi_scale import as_multi_scale
from cnn_compression.tensors.colour import luma
from cnn_compression.tensors.levels import to_uint8, to_unit
from cnn_compression.training.config import TrainConfig
from cnn_compression.training.data import CropSettings, ImageReader, training_batches
from cnn_compression.training.evaluation import HeldOutEvaluation
from cnn_compression.training.objectives import JointObjective, ReduceObjective, RestoreObjective
from cnn_compression.training.optimizers import ConvMuon
from cnn_compression.training.run_files import FileList

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


class Trainer:
    """The state of a run and its step functions.

    Args:
        config: `TrainConfig`.
        files: `FileList`; by default of what is in the config's folders now.
        strategy: `tf.distribute.Strategy`; by default what the config names.
    """

    def __init__(self, config: TrainConfig, files: FileList | None = None, strategy=None):
        self.config = config
        files = files or FileList.of_folders(config)
        self.strategy = strategy or make_strategy(config.strategy)
        replicas = self.strategy.num_replicas_in_sync
        if config.batch_size % replicas:
            raise ValueError(
                f"batch_size must divide by the {replicas} replicas. Received: {config.batch_size}"
            )
        self.reader = ImageReader(files.training, config.max_bad_files, config.colour)
        self.evaluation = HeldOutEvaluation(
            ImageReader(files.held_out, config.max_bad_files, config.colour), config.channels
        )
        keras.utils.set_random_seed(config.seed)
        with self.strategy.scope():
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
        goal = {name: getattr(config, name) for name in ("rate_weight", "rate_power", "distortion")}
        precision = "mixed_bfloat16" if config.precision == "bfloat16" else config.precision
        if not config.init:
            return ComRec.from_preset(
                config.preset,
                config.channels,
                config.scale,
                config.rec_arguments(),
                precision,
                chroma=config.chroma,
                **goal,
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
        return pair.in_precision(precision, **goal)

    def _optimizer(self, phase, steps):
        peak = self.config.learning_rate
        if self.config.schedule == "joint" and phase == "restore":
            # The finish only adapts what the joint phase learned.
            peak *= 0.2
        warmup = min(self.config.warmup_steps, steps // 2)
        # Its first number says in which float type it reckons; the host's may be another.
        rate = keras.optimizers.schedules.CosineDecay(
            *(np.float32(0.0), max(steps - warmup, 1), 0.01),
            warmup_target=peak,
            warmup_steps=warmup,
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

    def adopt_average(self):
        """Goes on from the averaged weights: what is kept of ComCNN is what RecCNN then sees."""
        self.model.set_weights([average.numpy() for average in self.ema])

    def averaged_model(self):
        """A float32 `ComRec` with the averaged weights."""
        model = self.model.in_precision("float32")
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
