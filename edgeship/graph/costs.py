"""What a graph costs by its shapes alone: multiply-accumulates, and the memory that activations need at once.

Pure functions, in time that grows with the file's size. Where a shape is not known the answer is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from edgeship.graph.kinds import WEIGHTED
from edgeship.graph.records import Graph, Operation

Shape = tuple[int | None, ...]

# Convolutions and dense layers multiply each element of one tensor by the weights that meet it: all of them divided
# by the size of the axis along which that tensor's channels lie. Kind -> (does its input count, or its output; that
# axis of the weights), by the layouts that the formats define: OHWI, 1HWC and DHWIO in TFLite, OIHW and IOHW in ONNX.
INPUT, OUTPUT = "input", "output"
CHANNEL_AXES: dict[str, tuple[str, int]] = {
    "CONV_2D": (OUTPUT, 0), "CONV_3D": (OUTPUT, -1), "DEPTHWISE_CONV_2D": (OUTPUT, -1), "FULLY_CONNECTED": (OUTPUT, 0),
    "TRANSPOSE_CONV": (INPUT, -1), "ConvTranspose": (INPUT, 0),
    "Conv": (OUTPUT, 0), "FusedConv": (OUTPUT, 0), "ConvInteger": (OUTPUT, 0), "QLinearConv": (OUTPUT, 0),
}
# The other weighted kinds are matrix products: each element of the output sums over the rows of the right operand,
# or its columns where one of these attributes says that it is transposed.
TRANSPOSING = ("transB", "adj_y")
# They multiply too, by rules of their own.
NOT_COUNTED = frozenset({
    "CUSTOM", "CONV_3D_TRANSPOSE", "SVDF", "RNN", "LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM",
    "GRU", "Einsum", "DeformConv", "Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention",
    "MatMulNBits", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "NhwcConv", "NhwcFusedConv", "QLinearConvTranspose",
})
KNOWN_DOMAINS = frozenset({"", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})

# Written out, since what numpy takes for a dtype ("int4") depends on the packages that were imported.
ITEM_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2, "int32": 4, "uint32": 4,
    "float32": 4, "int64": 8, "uint64": 8, "float64": 8, "complex64": 8, "complex128": 16,
}

# No runtime takes tensors of more axes or of more elements; a hostile file's numbers stay small by these.
MAX_RANK, MAX_TOTAL = 8, 2**63


def multiply_accumulates(graph: Graph, shapes: Mapping[str, Shape] | None = None) -> int | None:
    """Of one inference, in convolutions, dense layers and matrix products; a batch that is left open is 1.

    None where a shape is not known, or for an operation that multiplies by rules not known here (recurrent and
    custom ones). `shapes` are of tensors whose shape the file does not say: ONNX intermediates.
    """
    total = 0
    for operation in graph.operations:
        cost = multiply_accumulates_of(operation, graph, shapes or {})
        if cost is None:
            return None
        total += cost
    return total if total < MAX_TOTAL else None


def multiply_accumulates_of(operation: Operation, graph: Graph, shapes: Mapping[str, Shape]) -> int | None:
    """Return those of one operation: 0 where it does not multiply by weights, None where they are not known."""
    if operation.kind in NOT_COUNTED or operation.domain not in KNOWN_DOMAINS:
        return None
    return _cost(operation, graph, shapes) if operation.kind in WEIGHTED else 0


def arena_bytes(graph: Graph, shapes: Mapping[str, Shape] | None = None) -> int | None:
    """The most bytes of activations that are alive at once, in the file's order.

    Inputs and outputs count, constants do not; a tensor lives from the operation that makes it to the last one that
    reads it. None where a shape is not known, or the dtype is one of packed or variable size. `shapes` are as above.
    """
    last_use = {name: index for index, operation in enumerate(graph.operations) for name in operation.inputs}
    last_use |= dict.fromkeys(graph.outputs, len(graph.operations))
    alive: dict[str, int] = {}
    total = most = 0
    for index, operation in enumerate(graph.operations):
        for name in (*(graph.inputs if index == 0 else ()), *operation.outputs):
            if not name or name in alive or graph.is_constant(name):
                continue
            size = bytes_of(graph, name, shapes or {})
            if size is None:
                return None
            alive[name] = size
            total += size
        most = max(most, total)
        for name in (*operation.inputs, *operation.outputs):
            if last_use.get(name, index) <= index:
                total -= alive.pop(name, 0)
    return most if most < MAX_TOTAL else None


def bytes_of(graph: Graph, name: str, shapes: Mapping[str, Shape]) -> int | None:
    """Return the bytes of a tensor; None where its shape is not known, or its dtype has none of fixed size."""
    tensor = graph.tensors.get(name)
    elements = None if tensor is None else _elements(_shape(name, graph, shapes))
    item = None if tensor is None else ITEM_BYTES.get(tensor.dtype)
    return None if elements is None or item is None else elements * item


def _cost(operation: Operation, graph: Graph, shapes: Mapping[str, Shape]) -> int | None:
    data, weights, _ = WEIGHTED[operation.kind]
    shape = _shape(operation.inputs[weights], graph, shapes)
    products = _product(shape)
    if shape is None or products is None or not shape:
        return None
    if operation.kind not in CHANNEL_AXES:
        elements, inner = _elements(_shape(operation.outputs[0], graph, shapes)), _summed(operation, shape)
        return None if elements is None or inner is None else elements * inner
    tensor, axis = CHANNEL_AXES[operation.kind]
    name = operation.outputs[0] if tensor == OUTPUT else operation.inputs[data]
    elements = _elements(_shape(name, graph, shapes))
    return None if elements is None else elements * (products // (shape[axis] or 1))


def _summed(operation: Operation, weights: Shape) -> int | None:
    """How many products each element of a matrix product sums."""
    if operation.attributes.get("transBatchB"):
        return None
    transposed = any(operation.attributes.get(name) for name in TRANSPOSING)
    return weights[-1] if transposed or len(weights) == 1 else weights[-2]


def _shape(name: str, graph: Graph, shapes: Mapping[str, Shape]) -> Shape | None:
    """The file's word where it is whole, or else what was found otherwise."""
    tensor = graph.tensors.get(name)
    told = None if tensor is None else tensor.shape
    return told if told is not None and None not in told else shapes.get(name, told)


def _elements(shape: Shape | None) -> int | None:
    """Of an activation, whose first axis is the batch."""
    if shape and shape[0] in (None, 0):
        shape = (1, *shape[1:])
    return _product(shape)


def _product(sizes: Iterable[int | None] | None) -> int | None:
    known = [] if sizes is None else [size for size in sizes if size is not None]
    if sizes is None or len(known) < len(tuple(sizes)) or len(known) > MAX_RANK or any(size < 0 for size in known):
        return None
    return math.prod(known)
