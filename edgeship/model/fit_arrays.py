"""Float training on arrays: a Keras loss, Adam with decoupled weight decay, a cosine schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras

from edgeship.core.config import TrainConfig
from edgeship.core.errors import ConfigError, DataError, ModelError, in_one_line
from edgeship.core.progress import fact
from edgeship.data.examples import Examples
from edgeship.model.keras2 import maker_of

# The usual loss of each metric; of the classifiers whether the outputs are logits follows from the last layer.
LOSSES = {
    "top1": "sparse_categorical_crossentropy", "top5": "sparse_categorical_crossentropy",
    **dict.fromkeys(("mean_iou", "mean_iou_of_logits"), "sparse_categorical_crossentropy"),
    **dict.fromkeys(("binary_accuracy", "binary_accuracy_of_logits"), "binary_crossentropy"),
    "auc": "binary_crossentropy", "mean_absolute_error": "mean_absolute_error",
    "mean_squared_error": "mean_squared_error", "reconstruction_auc": "mean_squared_error",
}
PROBABILITIES = {"sparse_categorical_crossentropy": "softmax", "binary_crossentropy": "sigmoid"}
TO_THE_INPUT = ("reconstruction_auc",)  # the target of the training is what the model was given


def fit_arrays(model: tf_keras.Model, examples: Examples, *, config: TrainConfig, metric: str | None) -> None:
    """Train in place.

    Raises:
        ConfigError: no loss can be told from the metric, or Keras knows no such loss.
        DataError: there are no targets, or they do not fit the outputs.
        ModelError: the loss became NaN or infinite.
    """
    inputs = examples.read(np.arange(len(examples)))
    targets = inputs[0] if metric in TO_THE_INPUT else examples.targets
    if targets is None:
        raise DataError("train.epochs: expected targets to train on, found none; bring them, or set train.epochs = 0")
    name = config.loss or _loss_of(metric, model)
    if name is None:
        raise ConfigError(
            f"train.loss: expected the name of a Keras loss, since {_told_by(metric)}; set it, or a validate.metric "
            f"that tells one ({', '.join(LOSSES)}), or train.epochs = 0 for a model that is trained"
        )
    steps = -(-len(examples) // config.batch_size) * config.epochs
    rate = tf_keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    tf_keras.utils.set_random_seed(config.seed)
    try:
        model.compile(optimizer, _loss(name, model))
        history = model.fit(
            inputs[0] if len(inputs) == 1 else list(inputs), targets, batch_size=config.batch_size,
            epochs=config.epochs, verbose=0,
        )
    except (ValueError, TypeError) as error:
        raise DataError(
            f"train.loss: {name} cannot be computed of the model's outputs {model.output_shape} and targets of shape "
            f"{targets.shape} ({in_one_line(error)}); name another loss, or bring other targets"
        ) from error
    last = float(history.history["loss"][-1])
    if not np.isfinite(last):
        raise ModelError(f"{model.name}: the loss became {last}; lower train.learning_rate")
    fact(f"{name} {history.history['loss'][0]:.4g} in the first epoch, {last:.4g} in the last")


def _told_by(metric: str | None) -> str:
    return f"validate.metric = {metric!r} tells none" if metric else "there is no validate.metric to tell it"


def _loss_of(metric: str | None, model: tf_keras.Model) -> str | None:
    """The usual loss of a metric; where classes are counted and the output is one number, that of yes or no."""
    name = LOSSES.get(metric or "")
    is_one_number = name == "sparse_categorical_crossentropy" and model.outputs[0].shape[-1] == 1
    return "binary_crossentropy" if is_one_number else name


def _loss(name: str, model: tf_keras.Model) -> Any:
    """The loss of a name; a cross entropy takes the outputs as the last layer makes them: probabilities, or logits."""
    kind = PROBABILITIES.get(name)
    if kind is None:
        try:
            return tf_keras.losses.get(name)
        except ValueError as error:
            raise ConfigError(f"train.loss: Keras knows no loss called {name!r}; name another") from error
    last = maker_of(model.outputs[0])
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    is_logits = kind not in (activation, type(last).__name__.lower())
    makers = {
        "softmax": tf_keras.losses.SparseCategoricalCrossentropy, "sigmoid": tf_keras.losses.BinaryCrossentropy
    }
    return makers[kind](from_logits=is_logits)
