"""A change of grids as an integer lookup instead of DequantizeLinear and QuantizeLinear.

TFLite changes grids by QUANTIZE, and by a RELU that stands alone. ONNX Runtime has no integer kernel for either, but
it computes LeakyRelu between two grids by a table of 256 entries, filled in float: with a slope of 1 that is the
change of grids itself, entry by entry what QuantizeLinear(DequantizeLinear(x)) gives.
"""

from __future__ import annotations

import onnx

from edgeship.export.onnx_passes.editing import initializers, producers, replace_input, same_grid


def requantize(model: onnx.ModelProto) -> None:
    """Put an identity LeakyRelu between every DequantizeLinear and a QuantizeLinear that reads it alone.

    Requires: scalar scales. Ensures: the same integers; where both grids are the same, both nodes are gone.
    """
    constants, made_by = initializers(model), producers(model)
    outputs = {value.name for value in model.graph.output}
    for quantize in [node for node in model.graph.node if node.op_type == "QuantizeLinear"]:
        dequantize = made_by.get(quantize.input[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear" or dequantize.input[0] in constants:
            continue
        if same_grid(dequantize, quantize, constants) and quantize.output[0] not in outputs:
            model.graph.node.remove(quantize)
            replace_input(model, quantize.output[0], dequantize.input[0])
            continue
        name = f"{quantize.output[0]}/regridded"
        model.graph.node.append(
            onnx.helper.make_node("LeakyRelu", [quantize.input[0]], [name], name=name, alpha=1.0)
        )
        quantize.input[0] = name
