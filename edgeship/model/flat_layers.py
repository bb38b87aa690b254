"""Layers of a lowered model for which Keras has none: what tensor operators inside a composite come to.

Each is one operator with its constants in its configuration and, where the operator worked on a variable, that
variable as a weight of its own: it trains, is saved and is accounted for. Outputs equal the operator's bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

# Part of every saved .keras file: a layer is found again as "edgeship>StridedSlice".
PACKAGE = "edgeship"


def saved(layer: type) -> Any:
    return tf_keras.utils.register_keras_serializable(package=PACKAGE)(layer)


class _WithValues(layers.Layer):
    """One array, a weight or a constant, that broadcasts against `(batch, ...)` from the right.

    Args:
        shape: the array's shape where it is a weight.
        values: the array (nested lists) where it is a constant.
        broadcast: the shape the array is used in, where that differs from its own: `(c,)` as `(1, 1, c)`.
    """

    initial = "zeros"
    weight_name = "values"

    def __init__(
        self, shape: Any = None, values: Any = None, broadcast: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if (shape is None) == (values is None):
            raise ValueError(f"{self.name}: expected either the shape of a weight or constant values")
        self.shape, self.broadcast = (None if item is None else tuple(item) for item in (shape, broadcast))
        self.values = None if values is None else np.asarray(values, np.float32)

    def build(self, input_shape: Any) -> None:
        if self.values is None:
            self.weight = self.add_weight(self.weight_name, shape=self.shape, initializer=self.initial)
        super().build(input_shape)

    def array(self) -> Any:
        """The array as it is used: a tensor."""
        array = tf.constant(self.values) if self.values is not None else tf.convert_to_tensor(self.weight)
        return array if self.broadcast is None else tf.reshape(array, self.broadcast)

    def compute_output_shape(self, input_shape: Any) -> Any:
        own = self.broadcast or self.shape or (() if self.values is None else self.values.shape)
        return tf.broadcast_static_shape(tf.TensorShape(input_shape), tf.TensorShape(own))

    def get_config(self) -> dict[str, Any]:
        values = None if self.values is None else self.values.tolist()
        return {**super().get_config(), "shape": self.shape, "values": values, "broadcast": self.broadcast}


@saved
class ArrayScale(_WithValues):
    """`x * array`, for an array of any shape that broadcasts."""

    initial, weight_name = "ones", "scale"

    def call(self, inputs: Any) -> Any:
        return inputs * self.array()


@saved
class ArrayShift(_WithValues):
    """`x + array` (or `x - array` where `negative`), for an array of any shape that broadcasts."""

    weight_name = "shift"

    def __init__(self, negative: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative = negative

    def call(self, inputs: Any) -> Any:
        return inputs - self.array() if self.negative else inputs + self.array()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative": self.negative}


@saved
class ChannelScale(ArrayScale):
    """`x * scale`, one factor per channel (the last axis): layer scale, a gain."""

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """(scale, offset), float32, each of shape (channels,) or (): `y = scale * x + offset`."""
        scale = np.asarray(self.array()).reshape(-1)
        return scale, np.zeros_like(scale)


@saved
class ChannelShift(ArrayShift):
    """`x + shift`, one number per channel (the last axis): a bias."""

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """(scale, offset), float32, each of shape (channels,) or (): `y = scale * x + offset`."""
        shift = np.asarray(self.array()).reshape(-1)
        return np.ones_like(shift), -shift if self.negative else shift


@saved
class DivideBy(layers.Layer):
    """`x / divisor`, one number for all or one per channel. `x * (1 / divisor)` would round differently."""

    def __init__(self, divisor: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.divisor = np.asarray(divisor, np.float32)

    def call(self, inputs: Any) -> Any:
        return inputs / tf.constant(self.divisor)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """(scale, offset), each of shape (channels,) or (): `y = scale * x + offset`."""
        scale = 1.0 / self.divisor.astype(np.float64).reshape(-1)
        return scale, np.zeros_like(scale)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "divisor": self.divisor.tolist()}


@saved
class Clip(layers.Layer):
    """`min(max(x, low), high)`; an end that is None is open."""

    def __init__(self, low: float | None = None, high: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, inputs: Any) -> Any:
        outputs = inputs if self.high is None else tf.minimum(inputs, self.high)
        return outputs if self.low is None else tf.maximum(outputs, self.low)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low, "high": self.high}


@saved
class ErfGelu(layers.Layer):
    """`0.5 x (1 + erf(x / sqrt(2)))`, a GELU as people write it; TensorFlow's own, with erfc, rounds otherwise.

    Args:
        divisor, factor: one of them, sqrt(2) or its reciprocal as the model has it.
    """

    def __init__(self, divisor: float | None = None, factor: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.divisor, self.factor = divisor, factor

    def call(self, inputs: Any) -> Any:
        scaled = inputs * self.factor if self.divisor is None else inputs / self.divisor
        return 0.5 * inputs * (1.0 + tf.math.erf(scaled))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "divisor": self.divisor, "factor": self.factor}


@saved
class Reduce(layers.Layer):
    """The mean, maximum, minimum or sum over axes other than a whole image's.

    Args:
        kind: "mean", "max", "min" or "sum".
        axes: the axes, batch counted as 0 and never among them.
    """

    KINDS = ("mean", "max", "min", "sum")

    def __init__(self, kind: str, axes: Any, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in self.KINDS:
            raise ValueError(f"{self.name}: expected one of {', '.join(self.KINDS)}, found {kind!r}")
        self.kind, self.axes, self.keepdims = kind, tuple(axes), keepdims

    def call(self, inputs: Any) -> Any:
        return getattr(tf, f"reduce_{self.kind}")(inputs, list(self.axes), keepdims=self.keepdims)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind, "axes": self.axes, "keepdims": self.keepdims}


@saved
class StridedSlice(layers.Layer):
    """`x[:, a:b:c, ...]`: part of a tensor along its axes, the batch axis whole.

    Args:
        slices: one entry per axis after the batch: `(start, stop, step)` with None for an open end, or an integer
            that picks one position and drops the axis. Axes left out are taken whole.
    """

    def __init__(self, slices: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slices = tuple(item if isinstance(item, int) else tuple(item) for item in slices)

    def call(self, inputs: Any) -> Any:
        return inputs[(slice(None), *(item if isinstance(item, int) else slice(*item) for item in self.slices))]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slices": self.slices}


@saved
class Take(layers.Layer):
    """`tf.gather(x, positions, axis=axis)`: positions of an axis in another order, several times, or not at all."""

    def __init__(self, positions: Any, axis: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.positions, self.axis = [int(place) for place in positions], axis

    def call(self, inputs: Any) -> Any:
        return tf.gather(inputs, self.positions, axis=self.axis)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "positions": self.positions, "axis": self.axis}


@saved
class Pad(layers.Layer):
    """Padding that `layers.ZeroPadding2D` is not: other axes, another value, reflection.

    Args:
        paddings: (before, after) for every axis, the batch axis (0, 0).
        mode: "CONSTANT", "REFLECT" or "SYMMETRIC".
    """

    def __init__(self, paddings: Any, mode: str = "CONSTANT", value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.paddings, self.mode, self.value = tuple(tuple(pair) for pair in paddings), mode, value

    def call(self, inputs: Any) -> Any:
        return tf.pad(inputs, self.paddings, mode=self.mode, constant_values=self.value)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "paddings": self.paddings, "mode": self.mode, "value": self.value}


@saved
class DepthToSpace(layers.Layer):
    """`(b, h, w, c)` -> `(b, h * block, w * block, c / block**2)`, or the other way round where `inverse`."""

    def __init__(self, block: int, inverse: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block, self.inverse = block, inverse

    def call(self, inputs: Any) -> Any:
        move = tf.nn.space_to_depth if self.inverse else tf.nn.depth_to_space
        return move(inputs, self.block)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "block": self.block, "inverse": self.inverse}


@saved
class Resize(layers.Layer):
    """An image in another size, by `tf.compat.v1.image.resize_bilinear` or `resize_nearest_neighbor`.

    Args:
        size: rows and columns of the result.
        interpolation: "bilinear" or "nearest".
        align_corners: whether the outermost pixels' centers lie on one another.
        half_pixel_centers: whether the images' borders do; where neither, the first pixels' upper left corners.
    """

    def __init__(
        self, size: Any, interpolation: str, align_corners: bool = False, half_pixel_centers: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.interpolation = tuple(size), interpolation
        self.align_corners, self.half_pixel_centers = align_corners, half_pixel_centers

    def call(self, inputs: Any) -> Any:
        image = tf.compat.v1.image
        resize = image.resize_bilinear if self.interpolation == "bilinear" else image.resize_nearest_neighbor
        return resize(inputs, self.size, self.align_corners, half_pixel_centers=self.half_pixel_centers)

    def get_config(self) -> dict[str, Any]:
        options = {key: getattr(self, key) for key in ("size", "interpolation", "align_corners", "half_pixel_centers")}
        return {**super().get_config(), **options}


@saved
class Einsum(layers.Layer):
    """`tf.einsum(equation, ...)` of tensors and constants. (Keras cannot load the operator itself again.)

    Args:
        constants: one entry per operand of the equation: an array (nested lists), or None for a tensor of the input.
    """

    def __init__(self, equation: str, constants: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.equation = equation
        self.constants = [None if item is None else np.asarray(item, np.float32) for item in constants]

    def call(self, inputs: Any) -> Any:
        tensors = iter(inputs if isinstance(inputs, list | tuple) else [inputs])
        operands = [next(tensors) if item is None else tf.constant(item) for item in self.constants]
        return tf.einsum(self.equation, *operands)

    def get_config(self) -> dict[str, Any]:
        constants = [None if item is None else item.tolist() for item in self.constants]
        return {**super().get_config(), "equation": self.equation, "constants": constants}


@saved
class MatMul(layers.Layer):
    """`tf.matmul(a, b)`: the products of the matrices in two tensors, each in its last two axes, transposed or not."""

    def __init__(self, transpose_a: bool = False, transpose_b: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transpose_a, self.transpose_b = transpose_a, transpose_b

    def call(self, inputs: Any) -> Any:
        first, second = inputs
        return tf.matmul(first, second, transpose_a=self.transpose_a, transpose_b=self.transpose_b)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "transpose_a": self.transpose_a, "transpose_b": self.transpose_b}


@saved
class Constant(_WithValues):
    """The same array, constant or a weight, for every example, whatever the input is: `(batch, *shape)`, float32.

    Args:
        span: the range (low, high) of its integers; None: from its values.
    """

    def __init__(self, values: Any = None, span: Any = None, **kwargs: Any) -> None:
        super().__init__(values=values, **kwargs)
        self.span: tuple[float, float] | None = None if span is None else (span[0], span[1])

    def call(self, inputs: Any) -> Any:
        array = self.array()
        return tf.tile(array[None], [tf.shape(inputs)[0], *[1] * array.shape.rank])

    def compute_output_shape(self, input_shape: Any) -> Any:
        own = (self.shape or ()) if self.values is None else self.values.shape
        return tf.TensorShape([tf.TensorShape(input_shape)[0], *own])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "span": self.span}
