"""A Relu or Clip that cuts off part of the grid, on integers behind the QuantizeLinear instead of in float before it.

Where a ReLU's result is on a grid with negative values (shared with the other inputs of a concatenation), ONNX
Runtime cannot drop the Relu, fuses it into the float convolution and computes that in float. Rounding keeps order, so
clipping the integers at the codes of the two ends gives the same result, and the convolution becomes an integer one.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.export.onnx_passes.editing import add_initializer, array, consumers, initializers, producers, remove_nodes
from edgeship.graph.kinds import CLIPS


def integer_clip(model: onnx.ModelProto) -> None:
    """Move every Relu and Clip that only a QuantizeLinear reads behind it.

    Where the grid ends at the same ends, ONNX Runtime drops such a node itself, behind an operation; one that stands
    alone between two grids is dropped here.

    Requires: zero points that no later pass changes. Ensures: the same integers.
    """
    constants, made_by, read_by = initializers(model), producers(model), consumers(model)
    for node in [item for item in model.graph.node if item.op_type in CLIPS]:
        readers = read_by.get(node.output[0], [])
        ends = _ends(node, constants)
        if ends is None or len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
            continue
        quantize = readers[0]
        scale, zero = (array(constants[name]) for name in quantize.input[1:3])
        limits = np.iinfo(zero.dtype)
        low, high = (_code(end, scale, zero) for end in ends)
        cuts = low > limits.min or high < limits.max
        source = made_by.get(node.input[0])
        if not cuts and (source is None or source.op_type != "DequantizeLinear"):
            continue
        quantize.input[0] = node.input[0]
        remove_nodes(model, [node])
        if cuts:
            _clip_after(model, quantize, low, high, zero.dtype)


def _ends(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> tuple[float, float] | None:
    if node.op_type == "Relu":
        return 0.0, float("inf")
    ends = [float("-inf"), float("inf")]
    for place, name in enumerate(node.input[1:3]):
        if name:
            if name not in constants:
                return None
            ends[place] = float(array(constants[name]))
    return ends[0], ends[1]


def _code(end: float, scale: np.ndarray, zero: np.ndarray) -> int:
    """The integer that QuantizeLinear gives to `end`."""
    limits = np.iinfo(zero.dtype)
    if not np.isfinite(end):
        return int(limits.min if end < 0 else limits.max)
    return int(np.clip(np.rint(np.float32(end) / scale) + int(zero), limits.min, limits.max))


def _clip_after(model: onnx.ModelProto, quantize: onnx.NodeProto, low: int, high: int, dtype: np.dtype) -> None:
    """The clipped integers keep the tensor's name, which belongs to the result."""
    result = quantize.output[0]
    quantize.output[0] = f"{result}/unclipped"
    ends = {"low": low, "high": high}
    bounds = [add_initializer(model, f"{result}/{end}", np.array(value, dtype)) for end, value in ends.items()]
    clip = onnx.helper.make_node("Clip", [quantize.output[0], *bounds], [result], name=f"{result}/clip")
    model.graph.node.append(clip)
