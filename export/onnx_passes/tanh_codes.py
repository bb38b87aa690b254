"""A tanh between its two grids as a sigmoid of twice the values, for which ONNX Runtime has an integer kernel.

tanh(x) = 2 sigmoid(2x) - 1. On the grids that TFLite prescribes, a tanh's steps are 1/128 around the middle code and a
sigmoid's 1/256 from the lowest on, so the code of tanh(x), 128 tanh(x) + 128 counted from the lowest, is the code of
sigmoid(2x), 256 sigmoid(2x). Only the numbers that the conversions around it speak of are others
(edgeship/graph/marked.py).
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.export.onnx_passes.editing import (
    add_initializer,
    array,
    consumers,
    initializers,
    producers,
    remove_nodes,
)
from edgeship.graph.marked import SIGMOID_STEP, TANH_OVER_LOWEST, TANH_STEP


def tanh_codes(model: onnx.ModelProto) -> None:
    """Rewrite every Tanh between a DequantizeLinear and QuantizeLinears to the prescribed grid.

    Requires: zero points that no later pass changes. Ensures: the same integers, but for results within float32
    rounding of a half; the grids that graph/grids.py reads are those before.
    """
    constants, made_by, read_by = initializers(model), producers(model), consumers(model)
    for tanh in [node for node in model.graph.node if node.op_type == "Tanh"]:
        source, readers = made_by.get(tanh.input[0]), read_by.get(tanh.output[0], [])
        if source is None or source.op_type != "DequantizeLinear" or source.input[0] in constants or not readers:
            continue
        if not all(reader.op_type == "QuantizeLinear" and _is_prescribed(reader, constants) for reader in readers):
            continue
        name, result = tanh.output[0], f"{tanh.output[0]}/sigmoid"
        scale, zero_point = (array(constants[item]) for item in source.input[1:3])
        twice = onnx.helper.make_node(
            "DequantizeLinear", [
                source.input[0], add_initializer(model, f"{name}/twice/scale", scale * np.float32(2)),
                add_initializer(model, f"{name}/twice/zero_point", zero_point),
            ], [f"{name}/twice"], name=f"{name}/twice",
        )
        model.graph.node.extend([twice, onnx.helper.make_node("Sigmoid", [twice.output[0]], [result], name=result)])
        remove_nodes(model, [tanh])
        for reader in readers:
            lowest = np.array(np.iinfo(zero_point.dtype).min, zero_point.dtype)
            grid = {"scale": np.array(SIGMOID_STEP), "zero_point": lowest}
            del reader.input[:]
            reader.input.extend([
                result, *(add_initializer(model, f"{reader.output[0]}/{key}", value) for key, value in grid.items()),
            ])


def _is_prescribed(quantize: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    scale, zero_point = (array(constants[name]) for name in quantize.input[1:3])
    middle = np.iinfo(zero_point.dtype).min + TANH_OVER_LOWEST
    return scale.size == 1 and bool(scale == TANH_STEP) and bool(zero_point == middle)
