"""The largest code that an activation can take, where the operations before it prove that it is below 255."""

from __future__ import annotations

import math

from edgeship.core.integers import UINT8_SHIFT
from edgeship.graph.kinds import GRID_KEEPING
from edgeship.graph.records import LONGEST_CHAIN, Graph, Operation, Tensor, affine_grid

LARGEST = {"uint8": 255, "int8": 127}
# No result of these is larger, whatever they read.
UPPER_ENDS = {
    "Sigmoid": 1.0, "HardSigmoid": 1.0, "Softmax": 1.0, "Tanh": 1.0, "QLinearSigmoid": 1.0, "QLinearSoftmax": 1.0,
}


def largest_code(graph: Graph, name: str, integers: Tensor) -> int:
    """Return the largest code that an operation can read at its input `name`, as uint8 holds it.

    Args:
        integers: the integer tensor behind `name`, with its grid. Padding has its zero point, which counts too.
    """
    largest = LARGEST.get(integers.dtype)
    if largest is None or integers.scales is None or integers.zero_points is None or integers.scales.size != 1:
        return LARGEST["uint8"]
    zero_point = int(integers.zero_points[0])
    end = _upper_end(graph, name, LONGEST_CHAIN)
    code = int(max(zero_point, min(largest, _code(end, float(integers.scales[0]), zero_point))))
    return code + (UINT8_SHIFT if integers.dtype == "int8" else 0)


def _upper_end(graph: Graph, name: str, steps: int) -> float:
    """Return a number that no value of a tensor passes; infinity where the operations before it tell none."""
    operation = graph.producers.get(name)
    if operation is None or not steps:
        return math.inf
    if operation.kind in UPPER_ENDS:
        return UPPER_ENDS[operation.kind]
    if operation.kind == "Clip":
        return _clip_end(graph, operation)
    if operation.kind == "QuantizeLinear":
        return _rounded_end(graph, operation, _upper_end(graph, operation.inputs[0], steps - 1))
    if operation.kind == "Relu":
        return max(0.0, _upper_end(graph, operation.inputs[0], steps - 1))
    if operation.kind in GRID_KEEPING | {"DequantizeLinear"}:
        return _upper_end(graph, operation.inputs[0], steps - 1)
    return math.inf


def _clip_end(graph: Graph, clip: Operation) -> float:
    """Return the upper end of a Clip: an input since opset 11, before that an attribute."""
    if len(clip.inputs) > 2 and clip.inputs[2]:
        data = graph.tensors[clip.inputs[2]].data
        return float(data.reshape(-1)[0]) if data is not None and data.size == 1 else math.inf
    return float(clip.attributes.get("max", math.inf))


def _rounded_end(graph: Graph, quantize: Operation, end: float) -> float:
    """Return the upper end after a rounding: that of its own codes, or the code that the end before it gets."""
    names = (quantize.outputs[0], *quantize.inputs[1:3])
    grid = affine_grid(graph.tensors, quantize, names)
    largest = LARGEST.get(graph.tensors[quantize.outputs[0]].dtype)
    if grid is None or largest is None or grid["scales"].size != 1:
        return math.inf
    scale, zero_point = float(grid["scales"][0]), int(grid["zero_points"][0])
    return (min(largest, _code(end, scale, zero_point)) - zero_point) * scale


def _code(end: float, scale: float, zero_point: int) -> float:
    """Return the code of a number, one more where it is near to a half: the kernels round in float32."""
    if not (math.isfinite(end) and math.isfinite(scale) and scale > 0):
        return math.inf
    return math.ceil(end / scale - 0.49) + zero_point
