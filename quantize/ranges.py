"""The integer ranges: observers that are seeded from calibration images, trained, and frozen.

tfmot's own activation observers start at +-6 and forget that with a decay of 0.999 per step: a ReLU output needs
6,000 to 8,000 steps before its zero point is -128. Ours start where the calibration images are, follow with a
decay that is configured, and stop when told. A tensor that is never negative on the calibration images starts
with a minimum of exactly 0, and the moving average of zeros keeps it there: zero point -128.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layer,
    quantize_wrapper,
    quantizers,
)

from edgeship.errors import ModelError

OBSERVE, FOLLOW, FROZEN = "observe", "follow", "frozen"


class Observer(quantizers.Quantizer):
    """Fake-quantizes one activation tensor to 8 bits, asymmetric, on a range it observes.

    `mode` is Python state, read when a graph is traced: "observe" records (eagerly) and passes through; "follow"
    moves the range by an exponential average in training; "frozen" leaves the range alone.
    """

    def __init__(self, name: str, variables: dict[str, tf.Variable], *, ema_decay: float) -> None:
        self.name = name
        self.minimum, self.maximum = variables["min_var"], variables["max_var"]
        self.ema_decay = ema_decay
        self.mode = OBSERVE
        self.seen: list[tuple[float, float]] = []

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, tf.Variable]:
        """The variables exist already: the observer takes over those of tfmot's quantizer."""
        return {"min_var": self.minimum, "max_var": self.maximum}

    def __call__(self, inputs: tf.Tensor, training: Any, weights: Any, **kwargs: Any) -> tf.Tensor:
        if self.mode == OBSERVE:
            if tf.executing_eagerly():
                self.seen.append((float(tf.reduce_min(inputs)), float(tf.reduce_max(inputs))))
            return inputs
        low, high = self.minimum, self.maximum
        if training and self.mode == FOLLOW:
            # TFLite needs 0 inside every range (it is what padding means).
            low = self._follow(low, tf.minimum(tf.reduce_min(inputs), 0.0))
            high = self._follow(high, tf.maximum(tf.reduce_max(inputs), 0.0))
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, num_bits=8)

    def seed(self) -> None:
        """Start the range at the mean of the batch extremes seen, which is what the moving average tends to."""
        if not self.seen:
            raise ModelError(f"{self.name}: no calibration image reached this tensor")
        low, high = np.mean(self.seen, axis=0)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ModelError(f"{self.name}: NaN or infinite values on the calibration images")
        if min(low, 0.0) == max(high, 0.0):
            raise ModelError(f"{self.name}: only zeros on all calibration images; is the layer dead?")
        self.assign(min(low, 0.0), max(high, 0.0))

    def assign(self, low: float, high: float) -> None:
        """Set the range."""
        self.minimum.assign(low)
        self.maximum.assign(high)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "ema_decay": self.ema_decay}

    def _follow(self, variable: tf.Variable, value: tf.Tensor) -> tf.Tensor:
        return variable.assign_sub((variable - tf.stop_gradient(value)) * (1.0 - self.ema_decay))


def attach_observers(
    model: tf_keras.Model, *, ema_decay: float, input_range: tuple[float, float]
) -> list[Observer]:
    """Replace tfmot's activation quantizers in a `quantize_apply`d model by Observers, in place.

    Returns those that follow the data. The input's range is known from the preprocessing, so its observer is frozen
    on it from the start and not among them.
    """
    observers: list[Observer] = []

    def observe(name: str, variables: dict[str, tf.Variable]) -> Observer:
        observers.append(Observer(name, variables, ema_decay=ema_decay))
        return observers[-1]

    for layer in model.layers:
        if isinstance(layer, quantize_layer.QuantizeLayer):
            layer.quantizer = Observer(layer.name, layer.quantizer_vars, ema_decay=ema_decay)
            layer.quantizer.assign(*input_range)
            layer.quantizer.mode = FROZEN
        elif isinstance(layer, quantize_wrapper.QuantizeWrapper):
            for activation in layer._quantize_activations:
                for variables in _variables_of(activation):
                    activation.quantizer = observe(layer.layer.name, variables)
            if layer._output_quantizers:
                layer._output_quantizers = [observe(layer.layer.name, layer._output_quantizer_vars)]
    return observers


def _variables_of(activation: Any) -> list[dict[str, tf.Variable]]:
    """The ranges of one QuantizeAwareActivation: before or after the function (tfmot has both for gelu only)."""
    found = [getattr(activation, name, None) for name in ("_pre_activation_vars", "_post_activation_vars")]
    present = [variables for variables in found if variables is not None]
    if len(present) > 1:
        raise ModelError(
            f"{activation.quantize_wrapper.layer.name}: an activation quantized before and after "
            "is not supported by the observers"
        )
    return present


def calibrate(model: tf_keras.Model, observers: list[Observer], batches: Iterable[np.ndarray]) -> None:
    """Run preprocessed calibration batches through the model and seed every range; the observers then follow."""
    refresh_weight_ranges(model)
    for batch in batches:
        model(tf.constant(batch), training=False)
    for observer in observers:
        observer.seed()
        observer.mode = FOLLOW


def refresh_weight_ranges(model: tf_keras.Model) -> None:
    """Set every weight's range from the weight itself, symmetric.

    tfmot stores the range of the weights before the last optimizer step, so this also belongs after training.
    """
    for layer in model.layers:
        for weight, quantizer, variables in getattr(layer, "_weight_vars", []):
            axes = tuple(range(len(weight.shape) - 1)) if quantizer.per_axis else None
            largest = np.maximum(np.abs(weight.numpy()).max(axis=axes), np.finfo(np.float32).tiny)
            variables["min_var"].assign(-largest)
            variables["max_var"].assign(largest)
