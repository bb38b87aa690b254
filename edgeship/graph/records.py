"""Graph, Operation and Tensor: one description of a model file, whichever of the two formats it has."""

from __future__ import annotations

import dataclasses
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgeship.graph.kinds import CLIPS, DYNAMIC_PRODUCTS, GRID_KEEPING, PRODUCTS, QDQ, STORING, WEIGHTED
from edgeship.graph.stored import stored_constant, with_dynamic_scales

SCALE_DTYPES = ("float32", "float16", "bfloat16")
LONGEST_CHAIN = 16  # of operations looked through; a hostile file has longer ones

# What flatbuffers, protobuf and numpy raise on bytes that are not what they claim to be.
BROKEN_CONTENT = (
    struct.error, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, AssertionError,
    MemoryError, RecursionError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A tensor of the file; `shape` is None where the file does not say it (ONNX intermediates).

    `dtype` is numpy's name ("float32", "int8"), or "int4", "bfloat16", "string" ... for what numpy lacks, or
    "unknown". `scales` (float32) and `zero_points` (int64) have one element per tensor (`axis` None) or one
    per index of `axis`; both are None for a tensor without an affine grid. `data` is a read-only view of the
    file's bytes, for constants only; a TFLite constant of a dtype numpy lacks keeps its packed bytes, as a
    flat uint8 array.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    scales: np.ndarray | None = None
    zero_points: np.ndarray | None = None
    axis: int | None = None
    data: np.ndarray | None = None

    @property
    def is_integer(self) -> bool:
        """Whether its values are integers (of any width)."""
        return self.dtype.startswith(("int", "uint"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """An operation: `inputs` names its tensors ("" for an absent optional one).

    `kind` is the format's own word: "CONV_2D", "Conv". `attributes` has TFLite's option names in snake_case
    with enumerations as words (`fused_activation_function="RELU"`, `padding="SAME"`), or ONNX's names.
    `domain` is "" for both formats' standard operations. An operation without a name (in TFLite none has one)
    is called as its first output.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    domain: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedOperation:
    """A convolution or matrix product with the tensors it really works on.

    In a QDQ file these are the integer tensors behind the DequantizeLinear and after the QuantizeLinear, with
    the scales of exactly that use; weights that are stored smaller than they are computed with are the stored ones. A
    MatMul's bias is a separate Add and is not given here.
    """

    operation: Operation
    input: Tensor
    weights: Tensor
    bias: Tensor | None
    output: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A whole model of one graph. `operations` are in the file's order.

    `versions`: {"schema": 3} for TFLite, {"ir": 8, "ai.onnx": 17, ...} for ONNX. `metadata`: the file's own
    key-value entries as text (binary entries as their length), with its "description" or "producer".
    """

    format: str  # "tflite" or "onnx"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: dict[str, Tensor]
    operations: tuple[Operation, ...]
    versions: dict[str, int]
    metadata: dict[str, str]

    @cached_property
    def producers(self) -> dict[str, Operation]:
        """Tensor name -> the operation that writes it."""
        return {name: operation for operation in self.operations for name in operation.outputs}

    @cached_property
    def consumers(self) -> dict[str, tuple[Operation, ...]]:
        """Tensor name -> the operations that read it, once per reading, in order."""
        found: defaultdict[str, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            for name in operation.inputs:
                found[name].append(operation)
        return {name: tuple(operations) for name, operations in found.items() if name}

    def is_constant(self, name: str) -> bool:
        """Whether the tensor's values are in the file."""
        return name in self.tensors and self.tensors[name].data is not None

    def before_dequantize(self, name: str) -> Tensor:
        """The integer tensor that a DequantizeLinear makes `name` of, with this use's scales; else `name`."""
        operation = self.producers.get(name)
        if operation is None or operation.kind != "DequantizeLinear":
            return self.tensors[name]
        grid = affine_grid(self.tensors, operation, operation.inputs[:3])
        return dataclasses.replace(self.tensors[operation.inputs[0]], **(grid or {}))

    def after_quantize(self, name: str) -> Tensor:
        """The integer tensor that the only reader of `name`, a QuantizeLinear, makes of it; else `name`.

        Looks through a Relu or Clip in between.
        """
        start = name
        for _ in range(LONGEST_CHAIN):
            readers = self.consumers.get(name, ())
            if len(readers) != 1 or readers[0].kind not in CLIPS | QDQ:
                break
            name = readers[0].outputs[0]
            if readers[0].kind == "QuantizeLinear":
                return self.tensors[name]
        return self.tensors[start]

    def weighted_operations(self) -> tuple[WeightedOperation, ...]:
        """Every convolution and every matrix product with constant weights, in the file's order."""
        found = []
        for operation in self.operations:
            if operation.kind not in WEIGHTED:
                continue
            data, weights, bias = WEIGHTED[operation.kind]
            if operation.kind in PRODUCTS and not self._comes_from_constant(operation.inputs[weights]):
                continue  # a product of two activations
            bias_name = operation.inputs[bias] if bias is not None and bias < len(operation.inputs) else ""
            kernel = self.before(GRID_KEEPING, operation.inputs[weights])
            stored = stored_constant(self, kernel) or self.before_dequantize(kernel)
            if operation.kind in DYNAMIC_PRODUCTS:
                stored = with_dynamic_scales(self, operation, stored)
            found.append(WeightedOperation(
                operation=operation,
                input=self.before_dequantize(operation.inputs[data]),
                weights=stored,
                bias=self.before_dequantize(bias_name) if bias_name else None,
                output=self.after_quantize(operation.outputs[0]),
            ))
        return tuple(found)

    def before(self, kinds: frozenset[str], name: str) -> str:
        """The tensor that operations of `kinds` made `name` from."""
        for _ in range(LONGEST_CHAIN):
            producer = self.producers.get(name)
            if producer is None or producer.kind not in kinds:
                break
            name = producer.inputs[0]
        return name

    def _comes_from_constant(self, name: str) -> bool:
        return self.is_constant(self.before(GRID_KEEPING | QDQ | STORING, name))


def require_operands(operation: Operation) -> None:
    """Raise ValueError if an operation lacks the operands that the methods of Graph rely on."""
    if operation.kind in WEIGHTED:
        needed: tuple[int, ...] = WEIGHTED[operation.kind][:2]
    elif operation.kind in GRID_KEEPING | CLIPS | QDQ:
        needed = (0,)
    else:
        return
    inputs = [at for at in needed if at < len(operation.inputs) and operation.inputs[at]]
    if len(inputs) < len(needed) or not (operation.outputs and operation.outputs[0]):
        raise ValueError(f"{operation.kind} {operation.name!r} lacks an operand")


def affine_grid(
    tensors: Mapping[str, Tensor], operation: Operation, names: Sequence[str], *, default_axis: int = 1
) -> dict[str, Any] | None:
    """The fields scales, zero_points and axis that constants give a tensor.

    `names`: the tensor, its scale and its zero point, which may be absent or "". None where scale or zero
    point are no constants, blocked (of rank 2 or more), or of dtypes that no integer grid has.
    """
    name, scale, zero_point = (*names, "", "")[:3]
    scales = tensors[scale].data if scale in tensors else None
    if scales is None or scales.ndim > 1 or scales.size == 0 or tensors[scale].dtype not in SCALE_DTYPES:
        return None
    if not zero_point:
        zero_points = np.zeros(scales.size, np.int64)
    else:
        found = tensors[zero_point].data if zero_point in tensors else None
        if found is None or found.size not in (1, scales.size) or not tensors[zero_point].is_integer:
            return None
        zero_points = np.broadcast_to(found.astype(np.int64).reshape(-1), (scales.size,))
    axis, shape = None, tensors[name].shape
    if scales.size > 1:
        axis = int(operation.attributes.get("axis", default_axis))
        if shape is not None:
            axis += len(shape) if axis < 0 else 0
            if not 0 <= axis < len(shape) or shape[axis] not in (None, scales.size):
                raise ValueError(f"tensor {name!r} {list(shape)} has {scales.size} scales along axis {axis}")
    return {"scales": scales.astype(np.float32).reshape(-1), "zero_points": zero_points, "axis": axis}
