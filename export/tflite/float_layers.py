"""Layers kept in float in an integer TFLite file.

The converter (TensorFlow 2.21) gives an int8 kernel of its own to every convolution between two tensors of known
ranges, whether or not its weights were fake-quantized (measured), so a layer cannot be kept in float by leaving its
fake quantization out. Here its operations are turned back: DEQUANTIZE in front, float32 constants, QUANTIZE behind,
onto the grid that its readers have. Nothing is rounded inside such a layer, though the converter spreads the rounding
of its input over operations that keep a grid (TRANSPOSE, MEAN), nor between two such layers, unless the Keras model
rounds there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgeship.core.errors import ExportError
from edgeship.export.tflite.early_rounding import round_before_moves
from edgeship.export.tflite.edit import (
    CONVERSIONS,
    INT8_VERSIONS,
    conversion,
    drop_unread_conversions,
    drop_unused,
    float_twin,
)
from edgeship.export.tflite.names import DEQUANTIZED, layer_of, pack

Builtin, Type = schema.BuiltinOperator, schema.TensorType
REAL = "/float"  # after a kept layer's name: its own result, before it is quantized


def with_float_layers(
    content: bytes, plain: bytes, *, layers: Collection[str], keep_float: Collection[str], rounded: Collection[str]
) -> bytes:
    """The same file with every operation of the layers `keep_float` in float32.

    Args:
        content: a file made from a fake-quantized model.
        plain: the same model converted without quantizing anything, for its float32 constants.
        layers: the names of all the model's layers.
        rounded: the layers whose results the fake-quantized model rounds.

    Raises:
        ExportError: an operation that is not in both files.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    source = schema.ModelT.InitFromPackedBuf(plain, 0)
    twins = _by_layer(source, layers)
    counts: defaultdict[tuple[str | None, int], int] = defaultdict(int)
    rewriting = _Rewriting(file, source, rounded)
    for operation in file.subgraphs[0].operators:
        key = _key(file, operation, layers)
        if key[0] not in keep_float:
            rewriting.pass_on(operation)
            continue
        if counts[key] >= len(twins[key]):
            raise ExportError(f"{key[0]}: cannot be kept in float: its float32 operation was not found")
        rewriting.turn_back(operation, twins[key][counts[key]], str(key[0]))
        counts[key] += 1
    file.subgraphs[0].operators = rewriting.operations
    round_before_moves(file, suffix=REAL)
    drop_unread_conversions(file)
    drop_unused(file)
    return pack(file)


def _key(file: Any, operation: Any, layers: Collection[str]) -> tuple[str | None, int]:
    """The layer an operation belongs to (None for a conversion, which belongs to no layer), and its kind."""
    kind = file.operatorCodes[operation.opcodeIndex].builtinCode
    name = file.subgraphs[0].tensors[operation.outputs[0]].name.decode()
    return (None if kind in CONVERSIONS else layer_of(name, layers)), kind


def _by_layer(file: Any, layers: Collection[str]) -> dict[tuple[str | None, int], list[Any]]:
    found: defaultdict[tuple[str | None, int], list[Any]] = defaultdict(list)
    for operation in file.subgraphs[0].operators:
        found[_key(file, operation, layers)].append(operation)
    return found


class _Rewriting:
    """The operations of the new file, and the float32 tensors that were made for them."""

    def __init__(self, file: Any, source: Any, rounded: Collection[str]) -> None:
        self.file, self.source, self.rounded = file, source, rounded
        self.graph = file.subgraphs[0]
        self.operations: list[Any] = []
        self._real: dict[int, int] = {}  # an integer tensor -> its float32 form, after rounding
        self._floats: dict[int, str] = {}  # a kept operation's float32 result -> the layer
        # A kept operation's result -> (the layer, the same before rounding).
        self._unrounded: dict[int, tuple[str, int]] = {}
        self._integer = {
            int(operation.outputs[0]): int(operation.inputs[0]) for operation in self.graph.operators
            if self._kind(file, operation) == Builtin.DEQUANTIZE
        }

    def pass_on(self, operation: Any) -> None:
        """Append an operation that stays as it is; the converter may quantize a kept layer's result by itself.

        A float one, or one on a grid that the integer kernel prescribes (L2_NORMALIZATION), which float does not need.
        """
        source, result = int(operation.inputs[0]), int(operation.outputs[0])
        if self._kind(self.file, operation) == Builtin.QUANTIZE and source in self._unrounded:
            self._unrounded[result] = self._unrounded[source]
            operation = self._quantize(self._unrounded[source][1], result)
        elif self._kind(self.file, operation) == Builtin.QUANTIZE and source in self._floats:
            self._unrounded[result] = self._floats[source], source
        self.operations.append(operation)

    def turn_back(self, operation: Any, twin: Any, layer: str) -> None:
        """Append `operation` of `layer` on float32 tensors, and the conversions it needs."""
        if len(operation.inputs) != len(twin.inputs):
            raise ExportError(f"{self._name(operation.outputs[0])}: cannot be kept in float: its float32 form differs")
        operation.inputs = [
            self._input(int(tensor), int(other), layer)
            for tensor, other in zip(operation.inputs, twin.inputs, strict=True)
        ]
        self.operations.append(operation)
        results = list(map(int, operation.outputs))
        operation.outputs = list(results)
        for position, tensor in enumerate(results):
            if self.graph.tensors[tensor].type == Type.INT8:
                real = self._append(tensor, REAL)
                operation.outputs[position] = real
                self._unrounded[tensor] = layer, real
                self.operations.append(self._quantize(real, tensor))
            elif self.graph.tensors[tensor].type == Type.FLOAT32:
                self._floats[tensor] = layer

    def _input(self, tensor: int, other: int, layer: str) -> int:
        """What the float32 operation of `layer` reads where the integer one reads `tensor`."""
        integer = self._integer.get(tensor, tensor)
        maker, real = self._unrounded.get(integer, ("", -1))
        if maker and (maker == layer or maker not in self.rounded):
            return real
        if tensor < 0 or tensor in self._real:
            return self._real.get(tensor, tensor)
        constant = other >= 0 and self.source.buffers[self.source.subgraphs[0].tensors[other].buffer].data is not None
        if constant and self.source.subgraphs[0].tensors[other].type == Type.FLOAT32:
            self._real[tensor] = self._constant(tensor, other)
        elif self.graph.tensors[tensor].type == Type.INT8:
            self._real[tensor] = self._append(tensor, DEQUANTIZED)
            version = INT8_VERSIONS[Builtin.DEQUANTIZE]
            self.operations.append(
                conversion(self.file, Builtin.DEQUANTIZE, tensor, self._real[tensor], version=version)
            )
        else:
            return tensor  # a shape, or axes
        return self._real[tensor]

    def _quantize(self, real: int, tensor: int) -> Any:
        return conversion(self.file, Builtin.QUANTIZE, real, tensor, version=INT8_VERSIONS[Builtin.QUANTIZE])

    @staticmethod
    def _kind(file: Any, operation: Any) -> int:
        return int(file.operatorCodes[operation.opcodeIndex].builtinCode)

    def _constant(self, tensor: int, other: int) -> int:
        """The float32 constant, under the name of the integer one."""
        real = self._append(tensor, "")
        self.graph.tensors[real].shape = self.source.subgraphs[0].tensors[other].shape
        self.graph.tensors[real].buffer = len(self.file.buffers)
        self.file.buffers.append(self.source.buffers[self.source.subgraphs[0].tensors[other].buffer])
        return real

    def _append(self, tensor: int, suffix: str) -> int:
        self.graph.tensors.append(float_twin(self.graph.tensors[tensor], (self._name(tensor) + suffix).encode()))
        return len(self.graph.tensors) - 1

    def _name(self, tensor: int) -> str:
        return str(self.graph.tensors[tensor].name.decode())
