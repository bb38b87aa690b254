"""Is every stored weight the nearest one on its grid to the number that it stands for?

A weight that is rounded the wrong way is off by up to a step, one that is rounded to the nearest code by half a step at
most, which no answer of a network shows as clearly as the weight itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from edgeship.core.errors import ExportError
from edgeship.core.layer_names import wrapper_name
from edgeship.core.text import some
from edgeship.export.tflite.names import layer_of
from edgeship.graph import Tensor, read_tflite

# Half a step, and float32's rounding on the way to the code: TensorFlow's fake quantization subtracts the lower end and
# multiplies by the reciprocal of a scale, which were rounded themselves, so that up to 254 steps are rounded 8 times.
HALF_A_STEP = 0.5 + 254 * 8 * 2.0**-24
FLOAT16_ROUNDING = 2.0**-11
LEAST_FLOAT16_STEP = 2.0**-25  # half the distance of float16's subnormal numbers
FLOAT32_ROUNDING = 2.0**-23
NAMED = 5  # of layers, in a message


def check_against_keras(content: bytes, model: tf_keras.Model, *, name: str, layers: Collection[str]) -> None:
    """Hold the int8 kernels and int32 biases of a TFLite file against the fake-quantized model's float ones.

    Values of a channel are compared in sorted order, which no layout changes and in which numbers that differ by half a
    step at most still do.

    Raises:
        ExportError: naming the file and the layers.
    """
    wrong = []
    for item in read_tflite(content, where=Path(name)).weighted_operations():
        layer = layer_of(item.weights.name, layers)
        for role, tensor in (("kernel", item.weights), ("bias", item.bias)):
            number = None if layer is None else _variable(model, layer, role)
            if tensor is None or number is None or tensor.data is None or tensor.scales is None:
                continue
            stored, scales = _by_channel(tensor)
            expected = number.reshape(-1, len(stored)).T if number.size == stored.size else None
            if expected is not None and not _is_nearest(np.sort(stored), np.sort(expected), scales):
                wrong.append(f"{layer}/{role}")
    _raise_if_any(name, wrong)


def check_against_floats(content: bytes, floats: bytes, *, name: str) -> None:
    """Hold the int8 or float16 kernels of a TFLite file against those of the float32 file it was made from.

    Raises:
        ExportError: naming the file and the operations; also where it has other operations.
    """
    pairs = zip(
        read_tflite(content, where=Path(name)).weighted_operations(),
        read_tflite(floats, where=Path("float32.tflite")).weighted_operations(), strict=True,
    )
    _raise_if_any(name, [
        item.weights.name for item, other in pairs
        if item.weights.data is not None and other.weights.data is not None
        and not _stands_for(item.weights, other.weights.data)
    ])


def _stands_for(stored: Tensor, number: np.ndarray) -> bool:
    assert stored.data is not None
    if stored.dtype == "float32":
        return np.array_equal(stored.data, number)
    if stored.dtype == "float16":
        error = np.abs(stored.data.astype(np.float64) - number)
        return bool(np.all(error <= np.maximum(FLOAT16_ROUNDING * np.abs(number), LEAST_FLOAT16_STEP)))
    values, scales = _by_channel(stored)
    axis = 0 if stored.axis is None else stored.axis
    expected = np.moveaxis(number, axis, 0).reshape(len(values), -1)
    return _is_nearest(values, expected, scales)


def _is_nearest(stored: np.ndarray, number: np.ndarray, scales: np.ndarray) -> bool:
    allowed = HALF_A_STEP * scales[:, None] + FLOAT32_ROUNDING * np.abs(number)
    return bool(np.all(np.abs(stored - number) <= allowed))


def _by_channel(tensor: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(real values as (channels, values of one), scales); one channel where the tensor has one scale."""
    assert tensor.data is not None and tensor.scales is not None
    scales = tensor.scales.astype(np.float64)
    codes = tensor.data if tensor.axis is None else np.moveaxis(tensor.data, tensor.axis, 0)
    return codes.reshape(len(scales), -1).astype(np.float64) * scales[:, None], scales


def _variable(model: tf_keras.Model, layer: str, role: str) -> np.ndarray | None:
    """The kernel or bias of a layer, as float64; None where it has none, or more than one."""
    found = [weight for owner in _layers(model, layer) for weight in owner.weights if _is_role(weight, role)]
    return np.asarray(found[0], np.float64) if len(found) == 1 else None


def _is_role(weight: Any, role: str) -> bool:
    return bool(weight.name.rsplit("/", 1)[-1].removesuffix(":0").endswith(role))


def _layers(model: tf_keras.Model, name: str) -> Iterator[tf_keras.layers.Layer]:
    yield from (layer for layer in model.layers if layer.name in (name, wrapper_name(name)))


def _raise_if_any(name: str, wrong: list[str]) -> None:
    if wrong:
        raise ExportError(
            f"{name}: expected every weight within half a step of the float one, found others in "
            f"{some(wrong, shown=NAMED)}"
        )
