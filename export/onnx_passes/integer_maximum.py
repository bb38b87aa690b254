"""A maximum over axes on integers instead of between DequantizeLinear and QuantizeLinear.

Rounding keeps order, so the largest value of a grid has the largest code. ONNX Runtime pools 8-bit integers, and it
computes ReduceMax of them, but leaves a ReduceMax or GlobalMaxPool between the two conversions in float.
"""

from __future__ import annotations

import onnx

from edgeship.export.onnx_passes.editing import (
    consumers,
    initializers,
    on_integers,
    producers,
    same_grid,
)


def integer_maximum(model: onnx.ModelProto) -> None:
    """Move every ReduceMax and GlobalMaxPool before the DequantizeLinear it reads, as a ReduceMax.

    Requires: axes as an attribute (opset 17). Ensures: one whose readers quantize to the grid of its input works on
    integers.
    """
    for node in [item for item in model.graph.node if item.op_type in ("ReduceMax", "GlobalMaxPool")]:
        constants, source = initializers(model), producers(model).get(node.input[0])
        readers = consumers(model).get(node.output[0], [])
        if source is None or source.op_type != "DequantizeLinear" or source.input[0] in constants or not readers:
            continue
        if not all(item.op_type == "QuantizeLinear" and same_grid(source, item, constants) for item in readers):
            continue
        if node.op_type == "GlobalMaxPool":
            rank = _rank(model, node)
            if rank is None:
                continue
            node.op_type = "ReduceMax"
            node.attribute.append(onnx.helper.make_attribute("axes", list(range(2, rank))))
        on_integers(model, node, source.input[0], readers)


def _rank(model: onnx.ModelProto, node: onnx.NodeProto) -> int | None:
    """How many axes a node's input has; None where that is not known."""
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        if value.name == node.input[0]:
            return len(value.type.tensor_type.shape.dim) or None
    return None
