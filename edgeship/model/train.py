"""One training loop, used for the float model and for quantization-aware training.

Seeded: the shuffle depends on (seed, epoch) and the augmentation on (seed, step) alone, so a run that was
interrupted continues at the very step where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.artifact import Preprocessing
from edgeship.data import Images, preprocess, preprocessed_batches
from edgeship.errors import ModelError
from edgeship.model.augment import augment
from edgeship.progress import say, track

CHECKPOINT_EVERY_STEPS = 500
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
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    warmup_epochs: int = 0
    augmentation: str = "none"
    seed: int = 0
    phases: Sequence[Phase] = field(default_factory=lambda: (Phase(first_step=0),))

    def steps_per_epoch(self, images: int) -> int:
        """Whole batches only: a last small batch would disturb batch norm statistics."""
        return max(1, images // self.batch_size)


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
) -> None:
    """Train `model` in place on `images` with cross-entropy and AdamW.

    With a `teacher`, the target is `teacher_weight` times its probabilities on the same (augmented) images plus the
    rest of the label (distillation, Hinton et al. 2015, at temperature 1).

    With `checkpoints` a folder, the state is kept there every 500 steps, every epoch and on Ctrl-C, and a call
    with the same folder continues from it.

    Raises:
        ModelError: the loss became NaN or infinite.
    """
    steps_per_epoch = schedule.steps_per_epoch(len(images.labels))
    total = schedule.epochs * steps_per_epoch
    optimizer = _optimizer(schedule, total, schedule.warmup_epochs * steps_per_epoch)
    optimizer.build(model.trainable_variables)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    manager = _restore(checkpoints, model=model, optimizer=optimizer, step=step, label=label)
    losses: list[float] = []

    def batches() -> Iterator[int]:
        train_step = None
        phases = sorted(schedule.phases, key=lambda phase: phase.first_step)
        while int(step) < total:
            now = int(step)
            while phases and phases[0].first_step <= now:
                phase = phases.pop(0)
                phase.begin()
                train_step = _train_step(model, optimizer, phase, teacher, teacher_weight)
            batch, labels = _batch(images, spec, schedule, now)
            assert train_step is not None
            losses.append(float(train_step(batch, labels)))
            if not np.isfinite(losses[-1]):
                raise ModelError(
                    f"{label}: the loss became {losses[-1]} at step {now}; lower the learning rate "
                    f"({schedule.learning_rate}) or look for extreme images"
                )
            step.assign_add(1)
            if manager and (int(step) % CHECKPOINT_EVERY_STEPS == 0 or int(step) % steps_per_epoch == 0):
                manager.save()
            yield now

    try:
        for _ in track(
            batches(), label=label, total=total - int(step),
            describe=lambda: f"loss {np.mean(losses[-LOSS_WINDOW:]):.4f}",
        ):
            pass
    except KeyboardInterrupt:
        if manager:
            manager.save()
        raise


def accuracy(model: tf_keras.Model, images: Images, *, spec: Preprocessing, batch_size: int = 256) -> float:
    """Top-1 share of `images` the model gets right."""
    predict = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
    batches = preprocessed_batches(images, spec, size=batch_size)
    top1 = np.concatenate([predict(batch).numpy().argmax(-1) for batch in batches])
    return float(np.mean(top1 == images.labels))


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


def _train_step(
    model: tf_keras.Model, optimizer: Any, phase: Phase, teacher: tf_keras.Model | None, teacher_weight: float
) -> Callable[[Any, Any], tf.Tensor]:
    variables = [variable for variable in model.trainable_variables if phase.trains(variable)]

    @tf.function(reduce_retracing=True)
    def train_step(batch: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        targets = tf.one_hot(labels, model.output_shape[-1])
        if teacher is not None and teacher_weight:
            targets = (1 - teacher_weight) * targets + teacher_weight * teacher(batch, training=False)
        with tf.GradientTape() as tape:
            probabilities = model(batch, training=True)
            loss = tf.reduce_mean(tf_keras.losses.categorical_crossentropy(targets, probabilities))
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return train_step  # type: ignore[no-any-return]


def _batch(images: Images, spec: Preprocessing, schedule: Schedule, step: int) -> tuple[np.ndarray, np.ndarray]:
    epoch, position = divmod(step, schedule.steps_per_epoch(len(images.labels)))
    order = np.random.default_rng([schedule.seed, epoch]).permutation(len(images.labels))
    chosen = np.sort(order[position * schedule.batch_size : (position + 1) * schedule.batch_size])
    batch = preprocess(images.images[chosen], spec)
    generator = np.random.default_rng([schedule.seed, step, 1])
    return augment(batch, schedule.augmentation, generator), images.labels[chosen]


def _restore(folder: Path | None, *, label: str, step: tf.Variable, **state: Any) -> Any:
    if folder is None:
        return None
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(step=step, **state), directory=str(folder), max_to_keep=1
    )
    if manager.restore_or_initialize():
        say(f"{label}: continuing at step {int(step)}")
    return manager
