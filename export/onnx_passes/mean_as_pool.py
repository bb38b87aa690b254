"""A mean over any axes as GlobalAveragePool, for which ONNX Runtime has an integer kernel.

tf2onnx writes GlobalAveragePool where the mean is over a channels-first image, and ReduceMean elsewhere (behind a
Reshape, for example). ONNX Runtime 1.32 computes ReduceMean in float only.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from edgeship.export.onnx_passes.editing import (
    add_initializer,
    attribute,
    consumers,
    producers,
    remove_nodes,
    rename_tensor,
)


def mean_as_pool(model: onnx.ModelProto) -> None:
    """Rewrite every ReduceMean between a DequantizeLinear and a QuantizeLinear.

    The integers are transposed and reshaped to `(1, kept, reduced, 1)`, pooled, and reshaped to what the mean's shape
    was. Requires: shapes can be inferred, a batch of 1, axes as an attribute (opset 17). Ensures: the same values.
    """
    shapes = _shapes(model)
    for mean in [node for node in model.graph.node if node.op_type == "ReduceMean"]:
        dequantize = producers(model).get(mean.input[0])
        readers = consumers(model).get(mean.output[0], [])
        shape, result = shapes.get(mean.input[0]), shapes.get(mean.output[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear" or len(readers) != 1:
            continue
        if readers[0].op_type != "QuantizeLinear" or shape is None or result is None:
            continue
        _rewrite(model, mean, dequantize, readers[0], shape, result)


def _rewrite(
    model: onnx.ModelProto, mean: onnx.NodeProto, dequantize: onnx.NodeProto, quantize: onnx.NodeProto,
    shape: list[int], result: list[int],
) -> None:
    reduced = sorted(axis % len(shape) for axis in attribute(mean, "axes"))
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    name, integers = mean.output[0], dequantize.input[0]

    def add(kind: str, inputs: list[str], suffix: str, **attributes: object) -> str:
        node = onnx.helper.make_node(kind, inputs, [f"{name}/{suffix}"], name=f"{name}/{suffix}", **attributes)
        model.graph.node.append(node)
        return str(node.output[0])

    if [*kept, *reduced] != list(range(len(shape))):
        integers = add("Transpose", [integers], "kept_first", perm=[*kept, *reduced])
    sizes = [1, math.prod(shape[axis] for axis in kept), math.prod(shape[axis] for axis in reduced), 1]
    as_image = add_initializer(model, f"{name}/image_shape", np.array(sizes, np.int64))
    integers = add("Reshape", [integers, as_image], "image")
    values = add("DequantizeLinear", [integers, *dequantize.input[1:]], "image_values")
    pooled = add("GlobalAveragePool", [values], "pooled")
    back = add_initializer(model, f"{name}/shape", np.array(result, np.int64))
    quantized = quantize.output[0]
    codes = add("QuantizeLinear", [pooled, *quantize.input[1:]], "codes")
    reshaped = add("Reshape", [codes, back], "reshaped")
    remove_nodes(model, [mean, quantize])
    # The result keeps its name, which may be a graph output's.
    rename_tensor(model, reshaped, quantized)


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Static shapes by tensor; tensors with open sizes are left out."""
    inferred = onnx.shape_inference.infer_shapes(model)
    found = {}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        sizes = [item.dim_value for item in value.type.tensor_type.shape.dim]
        if sizes and all(size > 0 for size in sizes):
            found[value.name] = sizes
    return found
