"""Fake quantization of weights: symmetric, narrow range, always on scales from the weights themselves.

A scale per output channel; or one for the whole kernel, for devices whose kernels know no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from edgeship.core.config import FULL, PAIR_SAFE, PER_CHANNEL, PER_TENSOR
from edgeship.core.layer_names import wrapper_name
from edgeship.quantize.pair_range import has_pairs, largest_pair_sum
from edgeship.quantize.simplifying.rewrites import weights_of
from edgeship.quantize.tfmot import quantize_wrapper, tfmot

# Codes of 8 bits: -127..127. With 7 bits -63..63: two products of a uint8 activation then fit 16 bits
# (2 * 255 * 63 < 2**15), so that CPUs without VNNI do not saturate (vpmaddubsw).
LARGEST_CODE = {8: 127, 7: 63}
# The least |weight| that a channel's scale is made for: a channel of zeros needs a scale too. The TFLite converter
# widens every range to 1e-6 (ExpandVerySmallRange in tensorflow/compiler/mlir/quantization/common/quantization_lib/
# quantization_utils.cc), so a smaller one would be on another grid in the file.
LEAST_WEIGHT = 0.5e-6


@dataclass(frozen=True, kw_only=True)
class WeightForm:
    """How kernels become integers, as the configuration's keys have it."""

    bits: int = 8
    weight_range: str = FULL
    scales: str = PER_CHANNEL


class SymmetricWeights(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds a kernel to `bits`; the scale follows the kernel, so there is nothing to observe or refresh."""

    def __init__(self, layer: Any, *, form: WeightForm) -> None:
        self.form = form
        self._in_pairs = form.weight_range == PAIR_SAFE and has_pairs(layer)
        self.enabled = True  # Python state, read when a graph is traced
        self._axes = weights_of[type(layer)].output_axes
        # The least |weight| that a scale is made for; one for each scale once the biases are known.
        self._least = np.array(LEAST_WEIGHT, np.float32)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    @property
    def has_one_scale(self) -> bool:
        """Whether one scale is for the whole kernel."""
        return self.form.scales == PER_TENSOR

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        if not self.enabled:
            return inputs
        shape = inputs.shape
        # Output channels come last in every kernel; the depthwise kernel has them as (channels, multiplier).
        kernel = tf.reshape(inputs, (*shape[: self._axes[0]], -1))
        limit = tf.stop_gradient(self._largest(kernel)) * (127 / LARGEST_CODE[self.form.bits])
        if training:
            return tf.reshape(_round_straight_through(kernel, limit / 127), shape)
        if self.has_one_scale:
            # As a vector: the TFLite converter loses the fake quantization of a kernel in the shape that the layer has,
            # where two layers have one and the same kernel (the 1/6 of two hard swishes).
            return tf.reshape(tf.quantization.fake_quant_with_min_max_vars(
                tf.reshape(inputs, (-1,)), -limit[0], limit[0], num_bits=8, narrow_range=True
            ), shape)
        fake_quantize = tf.quantization.fake_quant_with_min_max_vars_per_channel
        return tf.reshape(fake_quantize(kernel, -limit, limit, num_bits=8, narrow_range=True), shape)

    def scales(self, kernel: np.ndarray) -> np.ndarray:
        """Return the scale of every output channel, or the one of the kernel; float32, (channels,) or (1,)."""
        largest = self._largest(tf.reshape(kernel, (*kernel.shape[: self._axes[0]], -1))).numpy()
        return np.asarray(largest / np.float32(LARGEST_CODE[self.form.bits]), np.float32)

    def _largest(self, kernel: Any) -> Any:
        axes = list(range(len(kernel.shape) - 1))
        largest = largest_pair_sum(kernel) if self._in_pairs else tf.reduce_max(tf.abs(kernel), axis=axes)
        if self.has_one_scale:
            largest = tf.reduce_max(largest, keepdims=True)
        return tf.maximum(largest, self._least)

    def keep_biases_below(self, code: int, *, biases: np.ndarray, input_scale: float) -> None:
        """Let no weight scale be so small that a bias, in units of input scale x weight scale, passes `code`."""
        least = 127 * np.abs(biases).astype(np.float64) / (code * input_scale)
        least = least.max(keepdims=True) if self.has_one_scale else least
        self._least = np.maximum(least, LEAST_WEIGHT).astype(np.float32)

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.form.bits, "weight_range": self.form.weight_range, "scales": self.form.scales}


@tf.custom_gradient
def _round_straight_through(kernel: Any, scale: Any) -> Any:
    """`round(kernel / scale) * scale`; no value is clipped, so the gradient passes whole (Bengio et al. 2013).

    Three elementwise operations: TensorFlow's per-channel fake quantization goes through the kernel channel by
    channel with strides and takes several times as long.
    """
    return tf.round(kernel / scale) * scale, lambda upstream: (upstream, None)


class WeightsConfig(tfmot.quantization.keras.QuantizeConfig):
    """Tells tfmot's wrapper which weights of a layer are quantized: its kernel, nothing else."""

    def __init__(self, layer: Any, *, form: WeightForm) -> None:
        self.attribute = weights_of[type(layer)].attribute
        self.quantizer = SymmetricWeights(layer, form=form)

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        return [(getattr(layer, self.attribute), self.quantizer)]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        setattr(layer, self.attribute, quantize_weights[0])

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return []

    def get_config(self) -> dict[str, Any]:
        return {}


class _Wrapper(quantize_wrapper.QuantizeWrapperV2):
    """tfmot's wrapper, which by itself would train the kernel of a layer that does not train.

    The weights have one order, before and after the first call: a call takes the kernel from the inner layer.
    """

    @tf.autograph.experimental.do_not_convert  # no condition in it depends on a tensor, and rewriting it takes seconds
    def call(self, inputs: Any, training: Any = None, **kwargs: Any) -> Any:
        """Return what the layer computes with its rounded kernel."""
        return super().call(inputs, training=training, **kwargs)

    @property
    def kernel_values(self) -> np.ndarray:
        """The float kernel."""
        values: np.ndarray = self._kernel.numpy()
        return values

    def assign_kernel(self, values: np.ndarray) -> None:
        """Set the float kernel."""
        self._kernel.assign(values)

    @property
    def _kernel(self) -> Any:
        # A call leaves a tensor of its own in the inner layer's place.
        ((kernel, *_),) = self._weight_vars
        return kernel

    @property
    def has_one_scale(self) -> bool:
        """Whether one scale is for the whole kernel."""
        return bool(self.quantize_config.quantizer.has_one_scale)

    @property
    def kernel_scales(self) -> np.ndarray:
        """The scale of every output channel of the kernel, or the one that all have; the export looks for this."""
        scales: np.ndarray = self.quantize_config.quantizer.scales(self.kernel_values)
        return scales

    @contextlib.contextmanager
    def kernel_in_float(self) -> Iterator[None]:
        """Let the layer compute with its kernel as it is, until the block ends."""
        quantizer = self.quantize_config.quantizer
        enabled, quantizer.enabled = quantizer.enabled, False
        try:
            yield
        finally:
            quantizer.enabled = enabled

    @property
    def trainable_weights(self) -> Any:
        return super().trainable_weights if self.trainable else []

    @property
    def non_trainable_weights(self) -> Any:
        frozen = [] if self.trainable else super().trainable_weights
        return self._dedup_weights(frozen + super().non_trainable_weights)


def with_quantized_weights(layer: Any, *, form: WeightForm) -> Any:
    """The layer, computing with its kernel rounded to integers; its wrapper's name is `wrapper_name` of it."""
    return _Wrapper(layer, WeightsConfig(layer, form=form), name=wrapper_name(layer.name))
