"""The state of a run, and its step: a custom `tf.function` under `tf.distribute`."""

import functools
from dataclasses import fields

import keras
import numpy as np
import tensorflow as tf

from cnn_compression.training.config import TrainConfig
from cnn_compression.training.data import CropSettings, ImageReader, training_batches
from cnn_compression.training.optimizers import ConvMuon
from cnn_compression.training.recipes.bottleneck import BottleneckRecipe
from cnn_compression.training.recipes.com_rec import ComRecRecipe
from cnn_compression.training.recipes.generative import GenerativeRecipe
from cnn_compression.training.recipes.progressive import ProgressiveRecipe
from cnn_compression.training.run_files import FileList

RECIPES = {
    "fast": ComRecRecipe,
    "paper": ComRecRecipe,
    "bottleneck": BottleneckRecipe,
    "progressive": ProgressiveRecipe,
    "toderici": ProgressiveRecipe,
    "generative": GenerativeRecipe,
    "agustsson": GenerativeRecipe,
}
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
        self.recipe = RECIPES[config.preset](config)
        self.reader = ImageReader(files.training, config.max_bad_files, config.colour)
        held_out = ImageReader(files.held_out, config.max_bad_files, config.colour)
        self.evaluation = self.recipe.evaluation(held_out)
        keras.utils.set_random_seed(config.seed)
        with self.strategy.scope():
            self.model = self.recipe.model()
            self.ema = [tf.Variable(v.value, trainable=False) for v in self.model.variables]
            self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
            self.bad_step = tf.Variable(-1, dtype=tf.int64, trainable=False)
            self.objectives = self.recipe.objectives(self.model, self._draws)
            phases = [config.phase(step) for step in range(self.recipe.steps)]
            self.optimizers = {
                name: self._optimizer(name, phases.count(name)) for name in sorted(set(phases))
            }
        self._steps = {name: self._make_step(name) for name in self.optimizers}

    def _draws(self, shape):
        """Uniform numbers that are a function of seed, step and replica, so that runs resume."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        replicas = self.strategy.num_replicas_in_sync
        number = self.step * replicas + tf.cast(replica, tf.int64)
        return tf.random.stateless_uniform(shape, [self.config.seed, number])

    def _optimizer(self, phase, steps):
        peak = self.recipe.peak_rate(phase)
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
        # A companion's steps leave the model, and so its average, as they are.
        trains_model = bool({id(v) for v in variables} & {id(v) for v in self.model.variables})

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
            if trains_model:
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
        """Goes on from the averaged weights."""
        self.model.set_weights([average.numpy() for average in self.ema])

    def averaged_model(self):
        """A float32 model with the averaged weights, and all that belongs to it in use."""
        model = self.recipe.widened(self.model)
        model.set_weights([average.numpy() for average in self.ema])
        self.recipe.complete(model, self._crops)
        return model

    def _crops(self):
        batches = self.batches(0)
        return (self.strategy.experimental_local_results(crops)[0] for crops, _ in batches)

    def checkpoint(self):
        """`tf.train.Checkpoint` of everything that a resumed run needs."""
        return tf.train.Checkpoint(
            model=self.model,
            ema=self.ema,
            step=self.step,
            **self.recipe.companions(),
            **{f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()},
        )
