"""Per-channel scaling (squeeze-and-excitation) in the layout of the convolutions around it.

TFLite multiplies `(1, h, w, c)` by `(1, c)`. tf2onnx keeps that layout and wraps every such Mul in two Transposes
of the whole feature map. Here the Mul runs on `(1, c, h, w)` and the `(1, c)` factors are reshaped to
`(1, c, 1, 1)` instead: the same products, without the copies.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.export.onnx_passes.editing import (
    add_initializer,
    attribute,
    consumers,
    producers,
    remove_nodes,
    replace_input,
)

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def channels_first_scaling(model: onnx.ModelProto) -> None:
    """Rewrite every Mul of a transposed feature map by a `(1, c)` tensor whose result is transposed back.

    Requires: shapes can be inferred. Ensures: the same values; no such Mul keeps its Transposes.
    """
    ranks = _ranks(model)
    for mul in [node for node in model.graph.node if node.op_type == "Mul"]:
        for position in (0, 1):
            if _rewrite(model, mul, position, ranks):
                break


def _rewrite(model: onnx.ModelProto, mul: onnx.NodeProto, position: int, ranks: dict[str, int]) -> bool:
    made_by, read_by = producers(model), consumers(model)
    feature, factor = mul.input[position], mul.input[1 - position]
    feature_dq = _dequantizer(made_by, feature)
    transpose = made_by.get(feature_dq.input[0] if feature_dq else feature)
    if transpose is None or transpose.op_type != "Transpose":
        return False
    if attribute(transpose, "perm") != TO_CHANNELS_LAST or ranks.get(factor) != 2:
        return False
    result = _quantized_result(mul, read_by)
    backs = read_by.get(result, [])
    if not backs or any(
        back.op_type != "Transpose" or attribute(back, "perm") != TO_CHANNELS_FIRST for back in backs
    ):
        return False
    _insert_reshape(model, mul, 1 - position, _dequantizer(made_by, factor))
    # The feature map's own DequantizeLinear is copied: the old one may have other readers.
    if feature_dq:
        copy = onnx.NodeProto()
        copy.CopyFrom(feature_dq)
        copy.name = copy.output[0] = f"{mul.output[0]}/feature"
        copy.input[0] = transpose.input[0]
        model.graph.node.append(copy)
        mul.input[position] = copy.output[0]
    else:
        mul.input[position] = transpose.input[0]
    for back in backs:
        replace_input(model, back.output[0], result)
    remove_nodes(model, backs)
    return True


def _insert_reshape(
    model: onnx.ModelProto, mul: onnx.NodeProto, position: int, dequantizer: onnx.NodeProto | None
) -> None:
    """`(1, c)` -> `(1, c, 1, 1)`, on the integers where there are any."""
    shape = add_initializer(model, f"{mul.output[0]}/factor_shape", np.array([1, -1, 1, 1], np.int64))
    source = dequantizer.input[0] if dequantizer else mul.input[position]
    reshaped = f"{source}/channels_first"
    model.graph.node.append(onnx.helper.make_node("Reshape", [source, shape], [reshaped], name=reshaped))
    if dequantizer is None:
        mul.input[position] = reshaped
        return
    copy = onnx.NodeProto()
    copy.CopyFrom(dequantizer)
    copy.name = copy.output[0] = f"{mul.output[0]}/factor"
    copy.input[0] = reshaped
    model.graph.node.append(copy)
    mul.input[position] = copy.output[0]


def _dequantizer(made_by: dict[str, onnx.NodeProto], tensor: str) -> onnx.NodeProto | None:
    node = made_by.get(tensor)
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _quantized_result(mul: onnx.NodeProto, read_by: dict[str, list[onnx.NodeProto]]) -> str:
    readers = read_by.get(mul.output[0], [])
    if len(readers) == 1 and readers[0].op_type == "QuantizeLinear":
        return str(readers[0].output[0])
    return str(mul.output[0])


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    return {value.name: len(value.type.tensor_type.shape.dim) for value in inferred.graph.value_info}
