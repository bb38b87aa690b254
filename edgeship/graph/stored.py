"""Weights that a file stores in fewer bytes than it computes with, and what they stand for.

TFLite puts a DEQUANTIZE behind a stored kernel. In ONNX it is a DequantizeLinear, a Cast (float16), or a Cast and a Mul
by the scales (int8). A ConvInteger or MatMulInteger has the kernel's scales behind it, in the Mul of its result.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from edgeship.core.integers import SHIFTS

if TYPE_CHECKING:
    from edgeship.graph.records import Graph, Operation, Tensor

OUTPUT_CHANNEL_AXES = {"ConvInteger": 0, "MatMulInteger": -1}


def stored_constant(graph: Graph, name: str) -> Tensor | None:
    """The constant that a float tensor is made of, with its grid; None for any other tensor."""
    operation = graph.producers.get(name)
    if operation is None or not operation.inputs:
        return None
    if operation.kind in ("DEQUANTIZE", "Cast") and graph.is_constant(operation.inputs[0]):
        return graph.tensors[operation.inputs[0]]
    if operation.kind != "Mul" or len(operation.inputs) != 2:
        return None
    cast, scale = graph.producers.get(operation.inputs[0]), graph.tensors.get(operation.inputs[1])
    if cast is None or cast.kind != "Cast" or not cast.inputs or not graph.is_constant(cast.inputs[0]):
        return None
    constant = graph.tensors[cast.inputs[0]]
    if scale is None or scale.data is None or not constant.is_integer or scale.data.dtype != np.float32:
        return None
    return _with_scales(constant, scale.data, axis=_long_axis(scale.data))


def with_dynamic_scales(graph: Graph, operation: Operation, weights: Tensor) -> Tensor:
    """The kernel of a ConvInteger or MatMulInteger with the scales that its result is multiplied by."""
    cast = _only_reader(graph, operation.outputs[0], "Cast")
    scaling = None if cast is None else _only_reader(graph, cast.outputs[0], "Mul")
    if cast is None or scaling is None or weights.shape is None:
        return weights
    for name in scaling.inputs:
        product = graph.producers.get(name)
        if name == cast.outputs[0] or product is None or product.kind != "Mul":
            continue
        scales = [graph.tensors[item].data for item in product.inputs if graph.is_constant(item)]
        if len(scales) == 1 and scales[0] is not None and scales[0].dtype == np.float32:
            axis = OUTPUT_CHANNEL_AXES[operation.kind] % len(weights.shape) if scales[0].size > 1 else None
            return _with_scales(weights, scales[0], axis=axis)
    return weights


def _with_scales(tensor: Tensor, scales: np.ndarray, *, axis: int | None) -> Tensor:
    if axis is not None and (tensor.shape is None or axis >= len(tensor.shape) or tensor.shape[axis] != scales.size):
        return tensor
    zero_points = np.full(scales.size, SHIFTS.get(tensor.dtype, 0), np.int64)
    return dataclasses.replace(tensor, scales=scales.reshape(-1), zero_points=zero_points, axis=axis)


def _long_axis(scales: np.ndarray) -> int | None:
    return next((axis for axis, size in enumerate(scales.shape) if size > 1), None)


def _only_reader(graph: Graph, name: str, kind: str) -> Operation | None:
    readers = graph.consumers.get(name, ())
    return readers[0] if len(readers) == 1 and readers[0].kind == kind and readers[0].outputs else None
