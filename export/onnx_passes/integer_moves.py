"""A maximum over axes, or a block of pixels as channels, on integers instead of between two conversions.

Moved codes are the codes of moved values, and rounding keeps order, so the largest value of a grid has the largest
code. ONNX Runtime computes SpaceToDepth and ReduceMax of 8-bit integers, but leaves these and a GlobalMaxPool in float
where they stand between a DequantizeLinear and a QuantizeLinear (1.32).
"""

from __future__ import annotations

import onnx

from edgeship.export.onnx_passes.editing import consumers, initializers, on_integers, one_grid_around, producers

KINDS = ("ReduceMax", "GlobalMaxPool", "SpaceToDepth")


def integer_moves(model: onnx.ModelProto) -> None:
    """Move every SpaceToDepth, ReduceMax and GlobalMaxPool (as a ReduceMax) before the DequantizeLinear it reads.

    Requires: axes as an attribute (opset 17). Ensures: one whose readers quantize to the grid of its input works on
    integers.
    """
    for node in [item for item in model.graph.node if item.op_type in KINDS]:
        constants = initializers(model)
        around = one_grid_around(node, constants=constants, made_by=producers(model), read_by=consumers(model))
        if around is None or around[0].input[0] in constants:
            continue
        source, readers = around
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
