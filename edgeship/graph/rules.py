"""Rules that integer kernels take for granted of scales and zero points: each is one function, for traps and promises.

    bias_scale_holds      bias scale = input scale x weight scale
    has_sane_scales       every scale is a number that float32 can divide by
    output_channels       how many scales a kernel with one per output channel has
    relu_results          the results of ReLUs, and wastes_codes: whether they have codes for negative numbers
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeship.graph.kinds import RELUS
from edgeship.graph.records import Graph, Operation, Tensor, WeightedOperation

# The three scales of an exact product may each be rounded to float32 on their way into a file: half an epsilon (a unit
# in the last place) each, 1.5 together. 4 leaves room for a converter that computes a scale in float32, in a few steps.
SCALE_TOLERANCE = 4 * float(np.finfo(np.float32).eps)
LEAST_SCALE = float(np.finfo(np.float32).tiny)  # below it are denormal numbers, whose reciprocal may be infinite
OUTPUT_CHANNEL_AXES = {"DEPTHWISE_CONV_2D": 3, "CONV_3D": 4, "ConvTranspose": 1}  # 0 for all others
SMALLEST = {"int8": -128, "uint8": 0, "int16": -32768, "uint16": 0}


def bias_scale_holds(bias: np.ndarray, data: np.ndarray, weights: np.ndarray) -> bool:
    """Return whether the scales of a bias are those of the products that it is added to.

    Kernels take the bias's integers and ignore its scale (TFLite's specification of int8 operators; ONNX Runtime's
    ConvMoves in qdq_actions.cc), so that another scale makes the result wrong.

    Args:
        bias, data, weights: scales of the bias, of the input (one) and of the kernel; one, or one per output channel.
    """
    with np.errstate(invalid="ignore"):  # infinity times 0: broken scales have a rule of their own
        expected = data.reshape(-1)[0].astype(np.float64) * weights.reshape(-1)
    if bias.size not in (1, expected.size) and expected.size != 1:
        return False
    return bool(np.allclose(bias.reshape(-1), expected, rtol=SCALE_TOLERANCE, atol=0))


def has_sane_scales(tensor: Tensor) -> bool:
    """Return whether every scale of a tensor is a finite normal number above 0; also for a tensor without scales."""
    scales = tensor.scales
    return scales is None or bool(np.all(np.isfinite(scales) & (scales >= LEAST_SCALE)))


def output_channels(item: WeightedOperation) -> int | None:
    """Return the output channels of a kernel; None where the kernel's shape does not say them."""
    axis, shape = OUTPUT_CHANNEL_AXES.get(item.operation.kind, 0), item.weights.shape
    return None if shape is None or axis >= len(shape) else shape[axis]


def relu_results(graph: Graph) -> Iterator[tuple[Operation, Tensor]]:
    """Yield every operation that is or ends in a ReLU, with its result on the grid that the file gives it."""
    for operation in graph.operations:
        fused = str(operation.attributes.get("fused_activation_function"))
        if (operation.kind in RELUS or fused in RELUS) and any(operation.outputs[:1]):
            yield operation, graph.after_quantize(operation.outputs[0])


def wastes_codes(tensor: Tensor) -> bool:
    """Return whether a result of a ReLU has codes below its zero point: they stand for numbers that never come."""
    smallest = SMALLEST.get(tensor.dtype)
    return smallest is not None and tensor.zero_points is not None and bool(np.any(tensor.zero_points != smallest))
