"""A run: from its settings, or its last checkpoint, to its model."""

import logging
import time
from pathlib import Path

from cnn_compression.process import check_not_forked, start_tensorflow

start_tensorflow()  # before what follows imports it

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from cnn_compression.files import locked  # noqa: E402
from cnn_compression.training import run_files  # noqa: E402
from cnn_compression.training.config import TrainConfig  # noqa: E402
from cnn_compression.training.evaluation import RunLog  # noqa: E402
from cnn_compression.training.trainer import Trainer  # noqa: E402

_log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"  # in the folder of a run


def train(
    config: TrainConfig,
    strategy: "tf.distribute.Strategy | None" = None,
    stop_at: int | None = None,
) -> keras.Model:
    """Trains, or goes on training where the output folder's last checkpoint stands.

    The folder keeps the run's list of files, so that those added to `data` later change neither
    what it is trained on nor what is held out.

    Args:
        config: `TrainConfig`.
        strategy: `tf.distribute.Strategy`; by default what the config names.
        stop_at: step to stop after, as a run does that is interrupted; by default the end.

    Returns:
        The trained model, averaged weights, also written to `<output>/model.keras`.

    Raises:
        FloatingPointError: where the loss is not finite; names the step. Checkpoints are older.
        TooManyBadFilesError: where more files than allowed cannot be read.
        ValueError: where the output holds a run with other settings, there are too few photographs,
            or too many of the run's are gone.
        BlockingIOError: where another process trains in the output folder.
    """
    check_not_forked()
    output = Path(config.output)
    worker = _worker_beside_the_chief(config, strategy)
    # Every worker must save when the chief does, but only the chief's files are kept in view.
    own = output if worker is None else output / f"worker{worker}"
    with locked(own):
        run_files.check_same_config(config, output)
        files = run_files.files_of_run(config, output)
        trainer = Trainer(config, files, strategy)
        files.write(own)
        run_files.write_config(config, own)
        # Workers that were killed may have saved different steps: all go on from the chief's.
        latest = tf.train.latest_checkpoint(str(output / CHECKPOINTS))
        try:
            model = _run(trainer, _resumed(trainer, own, latest), own, stop_at)
        except tf.errors.OpError:
            trainer.reader.check()
            raise
        run_files.save_model(model, own / run_files.MODEL_FILE)
    return model


def _worker_beside_the_chief(config, strategy):
    """The number of this process among several machines'; None where it keeps what is kept."""
    if strategy is not None:
        resolver = strategy.cluster_resolver
    elif config.strategy == "multi_worker":
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    else:
        return None
    if resolver is None or not resolver.task_type or resolver.task_type == "chief":
        return None
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_id if has_chief or resolver.task_id else None


def _resumed(trainer, folder, latest):
    """The manager of a run's checkpoints, the last of which is restored where there is one."""
    checkpoint = trainer.checkpoint()
    if latest:
        checkpoint.restore(latest)
        _log.info("resumed %s at step %d", latest, int(trainer.step.numpy()))
    else:
        config = trainer.config
        _log.info("started from %s", config.init or f"random weights, seed {config.seed}")
    return tf.train.CheckpointManager(checkpoint, str(folder / CHECKPOINTS), max_to_keep=2)


def _run(trainer, manager, folder, stop_at):
    """Does the steps that are left; gives the averaged model of the last one."""
    log = RunLog(folder / "logs", trainer.config.batch_size)
    config, first = trainer.config, int(trainer.step.numpy())
    last = min(trainer.recipe.steps, stop_at or config.steps)
    batches = trainer.batches(first) if first < last else None
    saved, model = time.monotonic(), None
    for step in range(first, last):
        phase, model = config.phase(step), None
        log.done(phase, trainer.train_step(step, log.next_batch(batches)))
        done = step + 1
        chapter_ends = trainer.recipe.chapter(done) != trainer.recipe.chapter(step)
        if chapter_ends and trainer.recipe.adopts_average:
            trainer.adopt_average()
        if done % config.log_steps == 0 or done == last or chapter_ends:
            trainer.check()
            rates = {name: float(o.learning_rate) for name, o in trainer.optimizers.items()}
            log.write(done, rates)
        with log.paused():
            if done % config.eval_steps == 0 or done == trainer.recipe.steps:
                trainer.check()
                model = trainer.averaged_model()
                log.held_out(done, *trainer.evaluation(model))
            # Workers' clocks differ, and all must save the same steps.
            late = time.monotonic() - saved > 60 * config.checkpoint_minutes
            overdue = late and config.strategy != "multi_worker"
            if done % config.checkpoint_steps == 0 or done == last or overdue:
                trainer.check()
                manager.save(checkpoint_number=done)
                saved = time.monotonic()
    if model is None:
        model = trainer.averaged_model()
        if not trainer.recipe.steps:  # solved at once
            log.held_out(0, *trainer.evaluation(model))
    return model
