"""Quantization-aware training without labels: the quantized model learns to answer as the float model does.

Any model can be trained so: no loss, no metric and no target is needed (Hinton, Vinyals and Dean, 2015; as the only
signal of quantization-aware training in Bhardwaj et al., 2022).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.errors import ModelError
from edgeship.core.progress import track
from edgeship.data.examples import Batch, Examples
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.prepare import finish, freeze_ranges


def distill(
    quantized: QuantizedModel, examples: Examples, *, epochs: int, batch_size: int, learning_rate: float,
    freeze_ranges_at: float, seed: int,
) -> None:
    """Train a seeded model in place towards the float model it was made from, then freeze its ranges.

    The loss is the squared distance of the outputs in units of the float outputs' own spread, summed over the outputs,
    so that outputs of any unit count alike.

    Args:
        examples: inputs; targets are not looked at.
        freeze_ranges_at: share of the steps after which ranges stay as they are.

    Raises:
        ModelError: the loss became NaN or infinite.
    """
    model, teacher = quantized.model, quantized.flat
    spreads = _spreads(teacher, examples, batch_size)
    # A cosine to zero, as in the training of images (edgeship/model/train.py).
    steps_per_epoch = examples.number_of_batches(batch_size)
    total = epochs * steps_per_epoch
    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(learning_rate, total))
    generator = np.random.default_rng(seed)
    step = _step(model, teacher, optimizer, spreads)
    losses = [float("nan")]
    for done, batch in enumerate(track(
        _shuffled(examples, batch_size, epochs, generator), label="quantization-aware training", total=total,
        describe=lambda: f"loss {losses[-1]:.4g}",
    )):
        if done == int(freeze_ranges_at * total):
            freeze_ranges(quantized)
            step = _step(model, teacher, optimizer, spreads)  # what a range does was read when the step was compiled
        losses.append(float(step(batch)))
        if not np.isfinite(losses[-1]):
            raise ModelError(
                f"{model.name}: the loss became {losses[-1]} in step {done + 1} of the quantization-aware training; "
                "lower quantize.learning_rate"
            )
    finish(quantized)


def _step(model: tf_keras.Model, teacher: tf_keras.Model, optimizer: Any, spreads: list[float]) -> Any:
    @tf.function(reduce_retracing=True)
    def step(batch: Any) -> Any:
        wanted = tf.nest.flatten(teacher(batch, training=False))
        with tf.GradientTape() as tape:
            answers = tf.nest.flatten(model(batch, training=True))
            loss = tf.add_n([
                tf.reduce_mean(tf.square((one - other) / spread))
                for one, other, spread in zip(answers, wanted, spreads, strict=True)
            ])
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(
            (gradient, variable) for gradient, variable in zip(gradients, model.trainable_variables, strict=True)
            if gradient is not None
        )
        return loss

    return step


def _spreads(teacher: tf_keras.Model, examples: Examples, batch_size: int) -> list[float]:
    """The standard deviation of each output of the float model on the first batch; 1 where it does not vary."""
    outputs = tf.nest.flatten(teacher(_given(next(examples.batches(batch_size))), training=False))
    return [float(np.std(output)) or 1.0 for output in outputs]


def _shuffled(examples: Examples, size: int, epochs: int, generator: np.random.Generator) -> Any:
    for _ in range(epochs):
        order = generator.permutation(len(examples))
        for start in range(0, len(order), size):
            yield _given(examples.read(order[start : start + size]))


def _given(batch: Batch) -> Any:
    tensors = [tf.constant(array) for array in batch]
    return tensors[0] if len(tensors) == 1 else tensors
