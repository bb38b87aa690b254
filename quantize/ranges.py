"""The integer range of one activation: observed on calibration images, then followed, or frozen.

tfmot's own observers start at +-6 and forget that with a decay of 0.999 per step: a ReLU output needs 6,000 to
8,000 steps before its zero point is -128. Ours start where the calibration images are. A tensor that is never
negative on them starts with a minimum of exactly 0, and the moving average of zeros keeps it there: zero point -128.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import layers

from edgeship.core.errors import ModelError
from edgeship.quantize.calibration import CALIBRATIONS, Seen, min_max
from edgeship.quantize.window import OPEN, Window, reach_of, seen_inside

# What the TFLite converter widens smaller ranges to (ExpandVerySmallRange in tensorflow/compiler/mlir/quantization/
# common/quantization_lib/quantization_utils.cc): on its file's grid such a tensor would be a zero.
LEAST_RANGE = 1e-6
# Of a tensor that is zero on all calibration images. Values of the size that others have: what is multiplied on this
# grid has biases in units of its scale, and training may wake the layer up.
DEAD_RANGE = (0.0, 1.0)


class Mode(enum.Enum):
    """What a range does when a tensor passes; Python state, read when a graph is traced."""

    OFF = "off"  # the tensor passes as it is
    OBSERVE = "observe"  # the same, and its values are recorded (eagerly)
    FOLLOW = "follow"  # rounded to the grid; in training the range follows the tensor by a moving average
    FROZEN = "frozen"  # rounded to the grid; the range stays


class Range(layers.Layer):
    """Rounds a tensor to 8 bits, asymmetric, per tensor: fake quantization (Jacob et al. 2018, section 3).

    Called for every tensor of one grid: the inputs and the output of a concatenation share one Range. Each of its
    members has a moving average of its own, and the range holds them all: one average over all would end between
    them, and clip the largest.

    Args:
        ema_decay: of the moving average, per training step.
        members: how many tensors set the range.
        known: a range that is known beforehand, (low, high): the observed one is widened to it, and both to zero.
        fixed: the known range is the range, whatever is observed.
        cap: no value above this one is representable: what lies above is clipped, as ReLU6 does.
        window: what the readers of the tensor tell apart; what lies outside of it does not count for the range.
    """

    rounds_to_grid = True  # what the export looks for: a tensor that such a layer reads is rounded in integer files

    def __init__(
        self, *, ema_decay: float, members: int = 1, known: tuple[float, float] | None = None, fixed: bool = False,
        cap: float | None = None, window: Window | dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.window = Window(**window) if isinstance(window, dict) else window or OPEN
        self.reach = 0.0  # of logits: how far below the smallest of the largest ones the range goes
        self.unbounded: tuple[float, float] | None = None  # the range that was seen, without the window
        self.ema_decay, self.members, self.fixed, self.cap = ema_decay, members, fixed, cap
        self.known = None if known is None else (min(known[0], 0.0), max(known[1], 0.0))
        self.mode = Mode.FROZEN if fixed else Mode.OBSERVE
        self.seen = Seen()
        self.is_dead = False  # zero on all calibration images
        self.is_tiny = False  # smaller than any grid on all calibration images

    def build(self, input_shape: Any) -> None:
        low, high = self.known or (0.0, 1.0)
        self.classes = input_shape[-1]
        self.minimum, self.maximum = self._variable("minimum", low), self._variable("maximum", high)
        members = range(self.members if self.members > 1 else 0)
        self.minima = [self._variable(f"minimum{member}", low) for member in members]
        self.maxima = [self._variable(f"maximum{member}", high) for member in members]
        super().build(input_shape)

    def _variable(self, name: str, value: float) -> tf.Variable:
        return self.add_weight(
            name, shape=(), initializer=tf.constant_initializer(value), trainable=False,
            # Replicas see different images; each step ends with the mean of what they saw.
            synchronization=tf.VariableSynchronization.ON_READ, aggregation=tf.VariableAggregation.MEAN,
        )

    def call(self, inputs: tf.Tensor, member: int | None = 0, training: Any = None) -> tf.Tensor:
        """Round a tensor; `member` tells which one it is, None one that is within the others' range anyway."""
        if self.mode in (Mode.OFF, Mode.OBSERVE):
            if self.mode is Mode.OBSERVE and member is not None and tf.executing_eagerly():
                # `numpy()` would copy what is hundreds of megabytes for pictures of 224x224.
                values = np.asarray(memoryview(self._clipped(inputs)))
                self.seen.add(values, member=member, logits=self.window.softmax)
            return self._clipped(inputs)
        low, high = self.minimum, self.maximum
        if training and self.mode is Mode.FOLLOW and member is not None:
            low, high = self._follow(inputs, member)
        rounded = tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, num_bits=8)
        if training and self.window.softmax:
            # The right class of an example that is badly wrong may lie below the window, and must rise from there.
            return inputs + tf.stop_gradient(rounded - inputs)
        return rounded

    def observe(self, *, samples: bool = True) -> None:
        """Record what passes from now on, in float, and nothing of before; a fixed range stays as it is.

        Args:
            samples: of the values, beside their extremes.
        """
        if not self.fixed:
            self.mode, self.seen = Mode.OBSERVE, Seen(keeps_samples=samples)

    def seed(self, calibration: str) -> None:
        """Set the range from what was observed, by one of `CALIBRATIONS`, and start following.

        Only zeros were seen (a branch that ends in a batch norm of gamma 0, a pruned block): any grid holds those.
        Almost only zeros (a layer scale that starts at 1e-6): the finest grid that TFLite has.

        Raises:
            ModelError: nothing was seen, or NaN.
        """
        if self.fixed:
            return
        if not self.seen.extremes:
            raise ModelError(f"{self.name}: no calibration example reached this tensor")
        if not self.seen.is_finite:
            raise ModelError(f"{self.name}: NaN or infinite values on the calibration examples")
        low, high = CALIBRATIONS[calibration](self._inside())
        if self.known is not None:
            low, high = min(low, self.known[0]), max(high, self.known[1])
        low, high = min(low, 0.0), max(high, 0.0)
        self.is_dead = low == high
        if self.is_dead:
            low, high = DEAD_RANGE
        self.is_tiny = high - low <= LEAST_RANGE
        if self.is_tiny:
            widened = 2 * LEAST_RANGE / (high - low)
            low, high = low * widened, high * widened
        self.assign(low, high)
        self.mode = Mode.FOLLOW
        self.seen = Seen()  # some megabytes a range, which nobody reads again

    def assign(self, low: float, high: float) -> None:
        """Set the range."""
        for variable in (self.minimum, *self.minima):
            variable.assign(low)
        for variable in (self.maximum, *self.maxima):
            variable.assign(high)

    def freeze(self) -> None:
        """Let the range be what it is from now on."""
        self.mode = Mode.FROZEN

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Let tensors pass as they are, until the block ends."""
        mode, self.mode = self.mode, Mode.OFF
        try:
            yield
        finally:
            self.mode = mode

    @property
    def scale(self) -> float:
        """One LSB, in the tensor's own unit."""
        return float(self.maximum - self.minimum) / 255

    def get_config(self) -> dict[str, Any]:
        own = ("ema_decay", "members", "known", "fixed", "cap")
        window = dataclasses.asdict(self.window)
        return {**super().get_config(), **{key: getattr(self, key) for key in own}, "window": window}

    def _inside(self) -> Seen:
        """What was seen inside of the window, which is found first where it is one of logits."""
        self.unbounded = min_max(self.seen)
        window = self.window
        if window.softmax:
            tops = np.concatenate(self.seen.tops)
            self.reach = reach_of(self.classes, tops)
            window = Window(low=float(tops.min()) - self.reach)
        return seen_inside(self.seen, window) if window.bounds_something else self.seen

    def _clipped(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs if self.cap is None else tf.minimum(inputs, self.cap)

    def _follow(self, inputs: tf.Tensor, member: int) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of a member's moving averages; returns the range."""
        least, most = self.known or (0.0, 0.0)  # TFLite needs 0 inside every range (it is what padding means)
        low = tf.minimum(tf.reduce_min(inputs), least)
        high = tf.maximum(tf.reduce_max(self._clipped(inputs)), most)
        if self.window.softmax:
            low = tf.maximum(low, tf.reduce_min(tf.reduce_max(inputs, axis=-1)) - self.reach)
            low = tf.minimum(low, least)
        elif self.window.bounds_something:
            low = low if self.window.low is None else tf.maximum(low, self.window.low)
            high = high if self.window.high is None else tf.minimum(high, self.window.high)
        if self.members == 1:
            return self._step(self.minimum, low), self._step(self.maximum, high)
        self._step(self.minima[member], low)
        self._step(self.maxima[member], high)
        return self.minimum.assign(tf.reduce_min(self.minima)), self.maximum.assign(tf.reduce_max(self.maxima))

    def _step(self, variable: tf.Variable, value: tf.Tensor) -> tf.Tensor:
        return variable.assign_sub((variable - tf.stop_gradient(value)) * (1.0 - self.ema_decay))
