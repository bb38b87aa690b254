"""The identity ONNX Runtime takes for granted: bias scale = input scale x weight scale.

Its fused integer convolution takes the bias integers and ignores their scale (onnxruntime qdq_actions.cc,
ConvMoves). Where the scale differs, the fused graph answers wrong and the unfused one right.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.core.errors import ExportError
from edgeship.export.onnx_passes.editing import array, initializers, producers
from edgeship.graph.rules import bias_scale_holds


def integer_bias(model: onnx.ModelProto) -> None:
    """Check the identity for every Conv and Gemm with integer weights; those kept in float have none.

    Changes nothing; raises ExportError where it does not hold.
    """
    constants, made_by = initializers(model), producers(model)

    def scale(tensor: str) -> np.ndarray | None:
        node = made_by.get(tensor)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        return array(constants[node.input[1]])

    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or not node.input[2]:
            continue
        data, weight, bias = (scale(name) for name in node.input[:3])
        if weight is None and bias is None:
            continue  # kept in float; whether that was meant is checked on the file
        if data is None or weight is None or bias is None:
            raise ExportError(f"{node.name}: expected integer data, weight and bias, found a float one")
        if not bias_scale_holds(bias, data, weight):
            raise ExportError(f"{node.name}: its bias scale is not input scale x weight scale")
