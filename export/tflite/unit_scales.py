"""Dense layers with one scale per unit: their integers and scales from Keras, written into the converted file.

The TFLite converter (TensorFlow 2.21) keeps a Dense kernel as (inputs, units) under its fake quantization and
transposes it behind; with one scale per unit it stops there ("'tfl.transpose' op has mismatched quantized axes"). So it
is given the kernels in float, which it quantizes per unit itself, on scales of its own; here they get the scales that
the network was trained or calibrated on, and the biases get theirs. LiteRT's kernels (XNNPACK's qs8-qc8w, the reference
ones from version 12 of FULLY_CONNECTED) and ONNX Runtime's QGemm multiply per unit as they do per tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras
from ai_edge_litert import schema_py_generated as schema

from edgeship.core.errors import ExportError
from edgeship.core.layer_names import layer_name
from edgeship.export.tflite.edit import drop_unused
from edgeship.export.tflite.names import layer_of, pack

Builtin, Type = schema.BuiltinOperator, schema.TensorType
KERNEL, BIAS = 1, 2  # among the inputs of a FULLY_CONNECTED
LARGEST_BIAS = 2**31 - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Units:
    """A Dense layer's float numbers, and the scale of every unit's weights."""

    kernel: np.ndarray  # (inputs, units)
    bias: np.ndarray | None
    scales: np.ndarray


def dense_units(model: tf_keras.Model) -> dict[str, Units]:
    """Return the quantized Dense layers of a fake-quantized model, by their names in a file."""
    return {
        layer_name(layer.name): Units(
            kernel=layer.kernel_values, bias=layer.layer.bias.numpy() if layer.layer.use_bias else None,
            scales=layer.kernel_scales,
        )
        for layer in _quantized_dense(model)
    }


@contextlib.contextmanager
def kernels_in_float(model: tf_keras.Model) -> Iterator[None]:
    """Let the quantized Dense layers compute with their float kernels, until the block ends."""
    with contextlib.ExitStack() as stack:
        for layer in _quantized_dense(model):
            stack.enter_context(layer.kernel_in_float())
        yield


def _quantized_dense(model: tf_keras.Model) -> list[Any]:
    """Wrapped layers (`quantize/weights.py`), known by what they say of themselves.

    One scale for all units is what the converter makes of their fake quantization.
    """
    return [
        layer for layer in model.layers
        if hasattr(layer, "kernel_scales") and isinstance(layer.layer, tf_keras.layers.Dense)
        and not layer.has_one_scale
    ]


def with_unit_scales(content: bytes, units: Mapping[str, Units], *, layers: Collection[str]) -> bytes:
    """Return the file with the kernels and biases of its Dense layers on the given scales, one per unit.

    Args:
        content: a converted TFLite file with stable names.
        units: by layer name.
        layers: the names of the model's layers, after which the file's tensors are named.

    Raises:
        ExportError: a layer whose product is not there as a FULLY_CONNECTED, or a bias that does not fit int32.
    """
    if not units:
        return content
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, found = file.subgraphs[0], set()
    kernels: dict[int, int] = {}  # the converter's tensor -> ours
    made: dict[int, str] = {}  # our tensors -> the names they want
    for operation in graph.operators:
        if file.operatorCodes[operation.opcodeIndex].builtinCode != Builtin.FULLY_CONNECTED:
            continue
        inputs = [int(tensor) for tensor in operation.inputs]
        layer = layer_of(graph.tensors[inputs[KERNEL]].name.decode(), layers)
        if layer is None or layer not in units:
            continue
        found.add(layer)
        own, old = units[layer], inputs[KERNEL]
        if old not in kernels:
            kernels[old] = _add(file, _kernel_codes(own), own.scales)
            made[kernels[old]] = f"{layer}/kernel"
        inputs[KERNEL] = kernels[old]
        if len(inputs) > BIAS and inputs[BIAS] >= 0:
            # The input's scale is another one in every call of the layer.
            scales = float(graph.tensors[inputs[0]].quantization.scale[0]) * own.scales.astype(np.float64)
            inputs[BIAS] = _add(file, _bias_codes(own, scales, layer), scales)
            made[inputs[BIAS]] = f"{layer}/bias"
        operation.inputs = inputs
    if missing := [name for name in units if name not in found]:
        raise ExportError(f"{', '.join(missing)}: expected a FULLY_CONNECTED of the layer in the file, found none")
    _name(graph, made)
    drop_unused(file)
    return pack(file)


def _kernel_codes(units: Units) -> np.ndarray:
    """As (units, inputs), int8; the kernel is rounded as TensorFlow's fake quantization rounds it, but for ties."""
    return np.asarray(np.rint(units.kernel.T / units.scales[:, None]), np.int8)


def _bias_codes(units: Units, scales: np.ndarray, layer: str) -> np.ndarray:
    assert units.bias is not None
    codes = np.rint(units.bias.astype(np.float64) / scales)
    if np.abs(codes).max() > LARGEST_BIAS:
        raise ExportError(f"{layer}: a bias does not fit int32 in units of input scale x weight scale; is a unit dead?")
    return np.asarray(codes, np.int32)


def _add(file: Any, codes: np.ndarray, scales: np.ndarray) -> int:
    """Add a constant with one scale per unit; returns its index."""
    graph, buffer, tensor = file.subgraphs[0], schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(codes.tobytes(), np.uint8)
    tensor.buffer, tensor.shape, tensor.hasRank = len(file.buffers), np.array(codes.shape, np.int32), True
    tensor.type = Type.INT8 if codes.dtype == np.int8 else Type.INT32
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.quantizedDimension = scales.astype(np.float32), 0
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    file.buffers.append(buffer)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _name(graph: Any, made: Mapping[int, str]) -> None:
    """Name the new tensors; a name that is still another's, or another call's, gets "/again" behind it."""
    read = {int(tensor) for operation in graph.operators for tensor in operation.inputs} - set(made)
    taken = {graph.tensors[index].name for index in read if index >= 0}
    for index, wanted in made.items():
        name = wanted.encode()
        while name in taken:
            name += b"/again"
        taken.add(name)
        graph.tensors[index].name = name
