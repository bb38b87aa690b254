"""One training loop, used for the float model and for quantization-aware training, on one device or several.

Seeded: the shuffle depends on (seed, epoch) and the augmentation on (seed, step) alone, so a run that was
interrupted continues at the very step where it stopped.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.artifact import Preprocessing
from edgeship.core.errors import DataError, ModelError, StorageError, in_one_line, is_full_disk
from edgeship.core.progress import fact, say, track
from edgeship.data import Images
from edgeship.model.batches import TrainingBatches
from edgeship.model.best_epoch import BestEpoch, EpochScore
from edgeship.model.distribute import per_replica, share_of, synchronize
from edgeship.model.score import accuracy, score, scoring_step

__all__ = ["Phase", "Schedule", "TrainingRecord", "accuracy", "everything", "fit"]

CHECKPOINT_EVERY_STEPS = 500
# What TensorFlow raises where a file cannot be written; a lost worker is another kind of error.
STORAGE_ERRORS = (
    tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError,
    tf.errors.UnknownError, tf.errors.NotFoundError, tf.errors.DataLossError,
)
# tfmot's wrapper of a layer that is being pruned: without a callback of tfmot's its training stops with an assertion.
PRUNING_WRAPPER = "PruneLowMagnitude"
LOSS_WINDOW = 50  # steps whose losses are averaged for display


def everything(variable: tf.Variable) -> bool:
    """The `trains` of a phase in which nothing is frozen."""
    return True


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training in which the same variables train and the layers behave the same way."""

    first_step: int
    begin: Callable[[], None] = lambda: None
    trains: Callable[[tf.Variable], bool] = everything


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast: linear warm-up, then cosine to zero (Loshchilov and Hutter 2017)."""

    epochs: int
    batch_size: int  # of all replicas together
    learning_rate: float
    weight_decay: float = 0.0
    warmup_epochs: int = 0
    augmentation: str = "none"
    seed: int = 0
    phases: Sequence[Phase] = field(default_factory=lambda: (Phase(first_step=0),))

    def steps_per_epoch(self, images: int) -> int:
        """Whole batches only: a last small batch would disturb batch norm statistics."""
        return max(1, images // self.batch_size)


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a training did."""

    steps: int  # those of the calls before an interruption included
    best_epoch: int | None  # from 1; None: no validation images, the last epoch was kept
    scores: tuple[EpochScore, ...]  # on the validation images, after each epoch
    images_per_second: float | None  # of this call's steps without those that trace a graph; None: there were no others


def fit(
    model: tf_keras.Model,
    images: Images,
    *,
    spec: Preprocessing,
    schedule: Schedule,
    label: str,
    teacher: tf_keras.Model | None = None,
    teacher_weight: float = 0.0,
    checkpoints: Path | None = None,
    validation: Images | None = None,
) -> TrainingRecord:
    """Train `model` in place on `images` with cross-entropy and AdamW.

    With a `teacher`, the target is `teacher_weight` times its probabilities on the same (augmented) images plus the
    rest of the label (distillation, Hinton et al. 2015, at temperature 1).

    With `validation`, the model is scored on these images after every epoch, and ends with the weights of the epoch
    of the highest accuracy; of equal ones that of the lower loss, then the later one.

    With `checkpoints` a folder, the state is kept there every 500 steps, every epoch and on Ctrl-C, and a call
    with the same folder continues from it.

    Under a `tf.distribute` strategy (in its scope, which the models were made in) a batch is shared by all replicas
    and the loss is the mean over the whole batch. Every worker calls this; the first one writes the checkpoints.

    Raises:
        ModelError: the loss became NaN or infinite.
        DataError: no training images.
        ConfigError: the replicas do not divide the batch.
    """
    training = _Training(
        model, images, spec=spec, schedule=schedule, label=label, teacher=teacher, teacher_weight=teacher_weight,
        checkpoints=checkpoints, validation=validation,
    )
    try:
        for _ in track(
            training.steps(), label=label, total=training.total - training.done,
            describe=lambda: f"loss {np.mean(training.losses[-LOSS_WINDOW:]):.4f}",
        ):
            pass
    except KeyboardInterrupt:
        training.save_if_alone()
        raise
    return training.finish()


class _Training:
    """The state of one call of `fit`."""

    def __init__(
        self, model: tf_keras.Model, images: Images, *, spec: Preprocessing, schedule: Schedule, label: str,
        teacher: tf_keras.Model | None, teacher_weight: float, checkpoints: Path | None, validation: Images | None,
    ) -> None:
        if not len(images):
            raise DataError(f"{label}: expected training images, found none; the other splits took them all")
        _check_no_pruning(model, label)
        self.model, self.schedule, self.label, self.spec = model, schedule, label, spec
        self.teacher, self.teacher_weight, self.validation = teacher, teacher_weight, validation
        self.batches = TrainingBatches(
            images=images, spec=spec, batch_size=schedule.batch_size, augmentation=schedule.augmentation,
            seed=schedule.seed,
        )
        self.strategy = tf.distribute.get_strategy()
        self.share = share_of(self.strategy)
        self.share.check_divides(self.batches.size, f"{label}: batch size")
        per_epoch = self.batches.steps_per_epoch
        self.total = schedule.epochs * per_epoch
        self.optimizer = _optimizer(schedule, self.total, schedule.warmup_epochs * per_epoch)
        self.optimizer.build(model.trainable_variables)
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.manager = self._restored(checkpoints)
        # A list of its own, since the order of `model.weights` changes when layers freeze.
        writes = self.share.first == 0
        self.best = None if validation is None else BestEpoch(model.weights, checkpoints, writes=writes)
        self.phases = sorted(schedule.phases, key=lambda phase: phase.first_step)
        self.train_step: Any = None
        self.score_step: Any = None
        self.losses: list[float] = []
        self.seconds: list[float] = []  # of each step that traced no graph

    @property
    def done(self) -> int:
        """How many steps have been taken."""
        return int(self.step.numpy())

    def steps(self) -> Iterator[int]:
        """Train step by step."""
        batches = self.batches.from_step(self.done, self.total, share=self.share)
        for now in range(self.done, self.total):
            self._score_finished_epoch(now)
            traces = self._begin_phases(now)
            start = time.monotonic()
            loss = float(self.train_step(per_replica(self.strategy, next(batches))))
            if not traces:
                self.seconds.append(time.monotonic() - start)
            if not np.isfinite(loss):
                raise ModelError(
                    f"{self.label}: the loss became {loss} at step {now}; lower the learning rate "
                    f"({self.schedule.learning_rate}) or look for extreme images"
                )
            self.losses.append(loss)
            self.step.assign_add(1)
            if (now + 1) % CHECKPOINT_EVERY_STEPS == 0 or (now + 1) % self.batches.steps_per_epoch == 0:
                self._save()
            yield now
        self._score_finished_epoch(self.total)

    def finish(self) -> TrainingRecord:
        """Leave the model with the weights that were asked for."""
        synchronize(self.model)
        per_second = self.batches.size / float(np.mean(self.seconds)) if self.seconds else None
        if per_second is not None:
            fact(f"{self.label}: {per_second:,.0f} images/s")
        best_epoch = None
        if self.best is not None and self.best.scores:
            best_epoch = self.best.epoch
            self.best.restore()
            fact(
                f"{self.label}: kept epoch {best_epoch} of {self.schedule.epochs}, "
                f"top-1 {self.best.scores[best_epoch].accuracy:.2%} on {len(self.validation or ()):,} validation images"
            )
        return TrainingRecord(
            steps=self.done, best_epoch=best_epoch,
            scores=self.best.epoch_scores if self.best is not None else (),
            images_per_second=per_second,
        )

    def save_if_alone(self) -> None:
        """Save, unless other workers would have to take part: they go on, and find this one gone."""
        if self.share.local == self.share.replicas:
            self._save()

    def _begin_phases(self, now: int) -> bool:
        """Begin the phases that are due; did any begin?"""
        begun = False
        while self.phases and self.phases[0].first_step <= now:
            phase = self.phases.pop(0)
            phase.begin()
            self.train_step, self.score_step, begun = self._compiled(phase), None, True
        return begun

    def _score_finished_epoch(self, now: int) -> None:
        epoch, rest = divmod(now, self.batches.steps_per_epoch)
        if self.best is None or self.validation is None or rest or not epoch or epoch in self.best.scores:
            return
        self.score_step = self.score_step or scoring_step(self.model)
        self.best.add(epoch, score(self.score_step, self.model, self.validation, spec=self.spec))

    def _compiled(self, phase: Phase) -> Callable[[Any], tf.Tensor]:
        """One step of all replicas: their (images, labels) -> the loss of the whole batch."""
        variables = [variable for variable in self.model.trainable_variables if phase.trains(variable)]
        model, optimizer, strategy, size = self.model, self.optimizer, self.strategy, self.batches.size
        teacher, teacher_weight = self.teacher, self.teacher_weight

        def replica_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            targets = tf.one_hot(labels, model.output_shape[-1])
            if teacher is not None and teacher_weight:
                targets = (1 - teacher_weight) * targets + teacher_weight * teacher(images, training=False)
            with tf.GradientTape() as tape:
                probabilities = model(images, training=True)
                losses = tf_keras.losses.categorical_crossentropy(targets, probabilities)
                loss = tf.reduce_sum(losses) / size  # this replica's part of the mean over the whole batch
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))  # sums them over the replicas first
            return loss

        @tf.function(reduce_retracing=True)
        def train_step(batch: Any) -> tf.Tensor:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica_step, args=batch), axis=None)

        return train_step  # type: ignore[no-any-return]

    def _save(self) -> None:
        """Keep the state. Where that fails, what was kept before is still there, and nothing half written is."""
        if self.manager is None:
            return
        folder = Path(self.manager.directory)
        before = set(folder.iterdir()) if folder.is_dir() else set()
        try:
            self.manager.save()
        # TensorFlow tells a full disk and a missing permission by errors of its own.
        except (OSError, *STORAGE_ERRORS) as error:
            for path in set(folder.iterdir()) - before if folder.is_dir() else ():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            reason = "no space left" if is_full_disk(error) else in_one_line(error)
            raise StorageError(
                f"{folder}: the state of the training could not be written ({reason}); free some space, and the same "
                "command continues from the state before"
            ) from error

    def _restored(self, folder: Path | None) -> Any:
        """The manager of the checkpoints, and the state of the last one."""
        if folder is None:
            return None
        checkpoint = tf.train.Checkpoint(step=self.step, model=self.model, optimizer=self.optimizer)
        if latest := tf.train.latest_checkpoint(str(folder)):
            try:
                checkpoint.restore(latest)
            except (ValueError, tf.errors.OpError) as error:
                raise ModelError(
                    f"{folder}: expected the state of an interrupted training, found one that cannot be used "
                    f"({in_one_line(error)}); remove the folder to train from the start"
                ) from error
            say(f"{self.label}: continuing at step {self.done}")
        # Every worker takes part in saving, since what replicas keep for themselves is read from all; one keeps it.
        if self.share.first:
            self._thrown_away = tempfile.TemporaryDirectory(prefix="edgeship-worker-")
            folder = Path(self._thrown_away.name)
        return tf.train.CheckpointManager(checkpoint, directory=str(folder), max_to_keep=1)


def _check_no_pruning(model: tf_keras.Model, label: str) -> None:
    wrapped = [layer.name for layer in model.submodules if type(layer).__name__ == PRUNING_WRAPPER]
    if wrapped:
        raise ModelError(
            f"{label}: {wrapped[0]} and {len(wrapped) - 1} more layers are wrapped for pruning, which only tfmot's own "
            "callback can train; end the pruning in the factory: tfmot.sparsity.keras.strip_pruning(model)"
        )


def _optimizer(schedule: Schedule, total: int, warmup: int) -> Any:
    rate = tf_keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=schedule.learning_rate / max(1, warmup) if warmup else schedule.learning_rate,
        decay_steps=max(1, total - warmup),
        warmup_target=schedule.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = tf_keras.optimizers.AdamW(learning_rate=rate, weight_decay=schedule.weight_decay)
    # Decay is for kernels; pulling batch norm scales and biases to zero only costs accuracy.
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
