"""Weights inside operations that are more than one product: packed 4-bit products, attention, recurrent layers.

What they compute is not described here; that they have weights, how many and in how few bits, is. Positions and
attributes are those of onnxruntime/docs/ContribOperators.md, of the ONNX operators and of TFLite's schema.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgeship.graph.records import Graph, Operation, Tensor

# Kind -> positions of the weights among its inputs; those that are absent or computed do not count.
HELD_KINDS: dict[str, tuple[int, ...]] = {
    "MatMulNBits": (1,), "MatMulBnb4": (1,), "GatherBlockQuantized": (0,), "DynamicQuantizeMatMul": (1,),
    "QAttention": (1,), "Attention": (1,), "DynamicQuantizeLSTM": (1, 2), "QMoE": (2, 5, 8), "MoE": (2, 4, 6),
    "QLinearConvTranspose": (3,), "NhwcConv": (1,), "NhwcFusedConv": (1,), "DeformConv": (1,),
    "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2),
    "SVDF": (1, 2), "EMBEDDING_LOOKUP": (1,), "CONV_3D_TRANSPOSE": (1,), "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (1, 2, 3, 4, 5, 6, 7, 8),
}
# Kind -> (the attribute that says how many bits a value has, the default).
BITS = {
    "MatMulNBits": ("bits", 4), "MatMulBnb4": ("", 4), "GatherBlockQuantized": ("bits", 4),
    "QMoE": ("expert_weight_bits", 4),
}
# The packed rows of these are padded; their attributes say how many values there are.
SIZED = ("MatMulNBits", "MatMulBnb4")
MOST_VALUES = 2**63


@dataclass(frozen=True, kw_only=True)
class HeldWeights:
    """One tensor of weights in such an operation."""

    operation: Operation
    tensor: Tensor
    dtype: str  # of a value: "int4" where two of them are packed in a byte
    values: int
    dynamic: bool  # its activations are quantized when they are computed
    integer: bool  # its activations are integers in the file


def held_weights(graph: Graph) -> tuple[HeldWeights, ...]:
    """Every constant that such an operation multiplies by, in the file's order."""
    return tuple(held for operation in graph.operations for held in _of(graph, operation))


def _of(graph: Graph, operation: Operation) -> Iterator[HeldWeights]:
    for position in HELD_KINDS.get(operation.kind, ()):
        name = operation.inputs[position] if position < len(operation.inputs) else ""
        if not name or not graph.is_constant(name):
            continue
        tensor = graph.tensors[name]
        bits = _bits(operation) if tensor.dtype in ("uint8", "int8") else None
        first = graph.tensors.get(operation.inputs[0])
        yield HeldWeights(
            operation=operation, tensor=tensor, dtype=_word(operation, tensor, bits),
            values=_values(operation, tensor, bits),
            dynamic=operation.kind.startswith("DynamicQuantize"),
            integer=first is not None and first.is_integer and operation.kind != "GatherBlockQuantized",
        )


def _bits(operation: Operation) -> int | None:
    """How many bits a packed value has; None where a value has an element of its own."""
    if operation.kind not in BITS:
        return None
    attribute, default = BITS[operation.kind]
    found = operation.attributes.get(attribute, default)
    return found if isinstance(found, int) and 1 <= found <= 8 else default


def _word(operation: Operation, tensor: Tensor, bits: int | None) -> str:
    if bits is None:
        return tensor.dtype
    return "float4" if operation.kind == "MatMulBnb4" else f"int{bits}"


def _values(operation: Operation, tensor: Tensor, bits: int | None) -> int:
    sizes = [operation.attributes.get(key) for key in ("K", "N")] if operation.kind in SIZED else []
    if sizes and all(isinstance(size, int) and 0 < size < MOST_VALUES for size in sizes):
        return math.prod(size for size in sizes if isinstance(size, int))
    stored = 0 if tensor.shape is None else math.prod(size or 0 for size in tensor.shape)
    return stored * (8 // bits if bits else 1)
