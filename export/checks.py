"""The promises about an integer file, checked on the written bytes rather than on what the converter said.

Each check answers with sentences, one per broken promise; an empty list means the promise holds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeship.errors import ExportError
from edgeship.graph import Graph, Operation, read_onnx, read_tflite

# The converter multiplies two float32 scales and rounds once: half a unit in the last place, with margin 4.
SCALE_TOLERANCE = 4 * float(np.finfo(np.float32).eps)
INTEGER_TYPES = ("int8", "uint8", "int32")
# A bias that reaches 2**31 has wrapped around.
LARGEST_BIAS = 2**31 - 1


def check_tflite(content: bytes, *, name: str, relu_starts_at_zero: bool) -> None:
    """Hold an int8 TFLite file against every promise.

    Args:
        relu_starts_at_zero: whether every ReLU's zero point must be -128 (true for our own trained ranges;
            post-training quantization in the converter decides for itself).

    Raises:
        ExportError: naming the file and every broken promise.
    """
    graph = read_tflite(content, where=Path(name))
    checks: list[Callable[[Graph], list[str]]] = [
        _only_integers, _no_requantization, _per_channel_convolutions, _bias_scales, _sane_scales,
    ]
    if relu_starts_at_zero:
        checks.append(_relu_zero_points)
    _raise_if_any(name, [sentence for check in checks for sentence in check(graph)])


def check_onnx(content: bytes, *, name: str, activations: str, weights: str) -> None:
    """Hold an integer ONNX file against every promise: types, per-channel weights, bias scales, no Pad.

    Raises:
        ExportError: naming the file and every broken promise.
    """
    graph = read_onnx(content, where=Path(name))
    broken = [
        f"{operation.name}: an explicit Pad is left, which stays in float"
        for operation in graph.operations if operation.kind == "Pad"
    ]
    for weighted in graph.weighted_operations():
        if weighted.weights.dtype != weights:
            broken.append(f"{weighted.operation.name}: weights are {weighted.weights.dtype}, not {weights}")
        if weighted.bias is not None and weighted.bias.dtype != "int32":
            broken.append(f"{weighted.operation.name}: bias is {weighted.bias.dtype}, not int32")
    for tensor in (*graph.inputs, *graph.outputs):
        if graph.tensors[tensor].dtype != activations:
            broken.append(f"{tensor}: {graph.tensors[tensor].dtype}, not {activations}")
    broken += _per_channel_convolutions(graph) + _bias_scales(graph) + _sane_scales(graph)
    _raise_if_any(name, broken)


def _raise_if_any(name: str, broken: list[str]) -> None:
    if broken:
        more = f" (and {len(broken) - 5} more)" if len(broken) > 5 else ""
        raise ExportError(f"{name}: not the integer file it must be: {'; '.join(broken[:5])}{more}")


def _only_integers(graph: Graph) -> list[str]:
    return [
        f"{operation.kind} {operation.name} has the {graph.tensors[name].dtype} tensor {name}"
        for operation in graph.operations
        for name in (*operation.inputs, *operation.outputs)
        if name and graph.tensors[name].dtype not in INTEGER_TYPES
    ]


def _no_requantization(graph: Graph) -> list[str]:
    return [
        f"a stray {operation.kind} at {operation.outputs[0]}"
        for operation in graph.operations if operation.kind in ("QUANTIZE", "DEQUANTIZE")
    ]


def _per_channel_convolutions(graph: Graph) -> list[str]:
    """One scale per output channel, symmetric: every zero point 0, or 128 where weights are uint8."""
    broken = []
    for weighted in graph.weighted_operations():
        if not _is_convolution(weighted.operation):
            continue
        weights, name = weighted.weights, weighted.operation.name
        assert weights.shape is not None  # constants have a shape
        channels = weights.shape[3 if weighted.operation.kind == "DEPTHWISE_CONV_2D" else 0]
        found = 0 if weights.scales is None else len(weights.scales)
        if found != channels:
            broken.append(f"{name}: {found} weight scales for {channels} output channels")
        elif np.any(weights.zero_points != (128 if weights.dtype == "uint8" else 0)):
            broken.append(f"{name}: weights are not symmetric")
    return broken


def _bias_scales(graph: Graph) -> list[str]:
    """Bias scale = input scale x weight scale, and no bias near the end of int32."""
    broken = []
    for weighted in graph.weighted_operations():
        if weighted.bias is None:
            continue
        data, weights, bias = weighted.input, weighted.weights, weighted.bias
        name = weighted.operation.name
        if data.scales is None or weights.scales is None or bias.scales is None:
            broken.append(f"{name}: its input, weights or bias has no scale")
        elif not np.allclose(bias.scales, data.scales * weights.scales, rtol=SCALE_TOLERANCE, atol=0):
            broken.append(f"{name}: its bias scale is not input scale x weight scale")
        if bias.data is not None and np.any(np.abs(bias.data.astype(np.int64)) >= LARGEST_BIAS):
            broken.append(f"{name}: a bias does not fit int32 (is an output channel dead?)")
    return broken


def _sane_scales(graph: Graph) -> list[str]:
    return [
        f"{tensor.name}: a scale is zero, denormal or not finite"
        for tensor in graph.tensors.values()
        if tensor.scales is not None
        and not np.all(np.isfinite(tensor.scales) & (tensor.scales >= np.finfo(np.float32).tiny))
    ]


def _relu_zero_points(graph: Graph) -> list[str]:
    """After a ReLU half of the codes would be wasted below zero, and ONNX Runtime could not drop the Relu."""
    broken = []
    for operation in graph.operations:
        if operation.kind == "RELU" or operation.attributes.get("fused_activation_function") == "RELU":
            zero_points = graph.tensors[operation.outputs[0]].zero_points
            if zero_points is None or np.any(zero_points != -128):
                broken.append(f"{operation.outputs[0]}: a ReLU with zero point {zero_points}, not -128")
    return broken


def _is_convolution(operation: Operation) -> bool:
    return operation.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "Conv")
