"""Explicit padding into the convolution or pooling behind it.

TFLite keeps ZeroPadding2D as a PAD operation; in ONNX it stands in float between DequantizeLinear and
QuantizeLinear, and ONNX Runtime has no integer fusion for it. A convolution can pad by itself, with the zero
point, which is what PAD wrote; max-pooling can too where nothing is below that zero point.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.errors import ExportError
from export.onnx_passes.editing import (
    array,
    attribute,
    consumers,
    initializers,
    producers,
    remove_nodes,
    replace_input,
    set_ints,
)

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def fold_pad(model: onnx.ModelProto) -> None:
    """Fold every Pad of the two spatial axes into its Conv or MaxPool consumers.

    Requires: constant pads; padding by zero. Ensures: no Pad is left.
    Raises ExportError where a Pad cannot be folded.
    """
    while pad := next((node for node in model.graph.node if node.op_type == "Pad"), None):
        _fold(model, pad)


def _fold(model: onnx.ModelProto, pad: onnx.NodeProto) -> None:
    constants, readers = initializers(model), consumers(model)
    if pad.input[1] not in constants:
        raise ExportError(f"{pad.name}: its pads are not constant")
    pads = array(constants[pad.input[1]]).tolist()
    for end, layout in _ends(pad.output[0], readers, "NCHW"):
        top, left, bottom, right = _spatial(pads, layout, pad.name)
        if end.op_type not in ("Conv", "MaxPool"):
            raise ExportError(f"{pad.name}: padding in front of {end.op_type} {end.name} cannot be folded")
        if end.op_type == "MaxPool" and not _never_below_zero(model, pad):
            raise ExportError(f"{pad.name}: max-pooling of padded values that may be negative cannot be folded")
        before = attribute(end, "pads") or [0, 0, 0, 0]
        set_ints(end, "pads", [int(a + b) for a, b in zip(before, (top, left, bottom, right), strict=True)])
    # Pad and the Q behind it share the grid of the DQ before it: the padded integers are the unpadded ones.
    source = producers(model).get(pad.input[0])
    for reader in readers[pad.output[0]]:
        if reader.op_type == "QuantizeLinear" and source is not None and source.op_type == "DequantizeLinear":
            replace_input(model, reader.output[0], source.input[0])
            remove_nodes(model, [reader])
    replace_input(model, pad.output[0], pad.input[0])
    remove_nodes(model, [pad])


def _ends(
    tensor: str, readers: dict[str, list[onnx.NodeProto]], layout: str
) -> list[tuple[onnx.NodeProto, str]]:
    """Walk from the Pad's output through Q, DQ and the NHWC->NCHW Transpose to the nodes that compute."""
    ends: list[tuple[onnx.NodeProto, str]] = []
    for node in readers.get(tensor, []):
        if node.op_type in QUANTIZERS:
            ends += _ends(node.output[0], readers, layout)
        elif node.op_type == "Transpose" and attribute(node, "perm") == [0, 3, 1, 2]:
            ends += _ends(node.output[0], readers, "NHWC")
        else:
            ends.append((node, layout))
    return ends


def _spatial(pads: list[int], layout: str, name: str) -> tuple[int, int, int, int]:
    starts, stops = pads[:4], pads[4:]
    rows, columns, others = (1, 2, (0, 3)) if layout == "NHWC" else (2, 3, (0, 1))
    if len(pads) != 8 or any(starts[axis] or stops[axis] for axis in others):
        raise ExportError(f"{name}: only the two spatial axes of an image can be padded, found {pads}")
    return starts[rows], starts[columns], stops[rows], stops[columns]


def _never_below_zero(model: onnx.ModelProto, pad: onnx.NodeProto) -> bool:
    """Whether no padded value is negative: made by a Relu, or its zero point is the lowest integer."""
    source = producers(model).get(pad.input[0])
    if source is None or source.op_type not in QUANTIZERS:
        return source is not None and source.op_type == "Relu"
    zero_point = array(initializers(model)[source.input[2]])
    return bool(np.all(zero_point == np.iinfo(zero_point.dtype).min))
