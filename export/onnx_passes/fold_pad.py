"""Explicit padding into the convolution or pooling behind it.

TFLite keeps ZeroPadding2D as a PAD operation; in ONNX it stands in float between DequantizeLinear and
QuantizeLinear, and ONNX Runtime has no integer fusion for it. A convolution can pad by itself, with the zero
point, which is what PAD wrote; max-pooling can too where nothing is below that zero point.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.core.errors import ExportError
from edgeship.export.onnx_passes.editing import (
    array,
    attribute,
    consumers,
    initializers,
    producers,
    remove_nodes,
    replace_input,
    same_grid,
    set_ints,
    text_attribute,
)
from edgeship.graph.kinds import QDQ

AUTO_PAD, PADS_BY_NUMBERS = "auto_pad", ("", "NOTSET", "VALID")


def fold_pad(model: onnx.ModelProto) -> None:
    """Fold every Pad of the two spatial axes into the Conv or MaxPool nodes that read it, if only such nodes do.

    Requires: constant pads. Ensures: the same results. A Pad that is left mirrors, or pads with another value than
    zero, or pads other axes, or what another operation reads, or what may be negative in front of a MaxPool (which pads
    with the lowest value), or stands in front of an operation that finds its own padding from sizes.
    Raises ExportError where the pads are not constant.
    """
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        if pad.input[1] not in initializers(model):
            raise ExportError(f"{pad.name}: its pads are not constant")
        _fold(model, pad)


def _fold(model: onnx.ModelProto, pad: onnx.NodeProto) -> None:
    constants, readers = initializers(model), consumers(model)
    if not pads_with_zero(pad, constants):
        return
    pads = array(constants[pad.input[1]]).tolist()
    ends = [(end, _spatial(pads, layout)) for end, layout in _ends(pad.output[0], readers, "NCHW")]
    if not ends or not _keeps_its_grid(model, pad) or any(
        around is None or end.op_type not in ("Conv", "MaxPool")
        or text_attribute(end, AUTO_PAD, "") not in PADS_BY_NUMBERS
        or (end.op_type == "MaxPool" and not _never_below_zero(model, pad))
        for end, around in ends
    ):
        return
    for end, around in ends:
        assert around is not None
        top, left, bottom, right = around
        before = attribute(end, "pads") or [0, 0, 0, 0]
        set_ints(end, "pads", [int(a + b) for a, b in zip(before, (top, left, bottom, right), strict=True)])
        for item in [item for item in end.attribute if item.name == AUTO_PAD]:
            end.attribute.remove(item)  # "VALID" would have the runtimes overlook the numbers
    # Pad and the Q behind it share the grid of the DQ before it: the padded integers are the unpadded ones.
    source = producers(model).get(pad.input[0])
    for reader in readers[pad.output[0]]:
        if reader.op_type == "QuantizeLinear" and source is not None and source.op_type == "DequantizeLinear":
            replace_input(model, reader.output[0], source.input[0])
            remove_nodes(model, [reader])
    replace_input(model, pad.output[0], pad.input[0])
    remove_nodes(model, [pad])


def pads_with_zero(pad: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a Pad writes zeros around its input: neither a mirror image of it nor another value."""
    given = [name for name in pad.input[2:3] if name]
    is_zero = all(name in constants and not np.any(array(constants[name])) for name in given)
    return text_attribute(pad, "mode", "constant") == "constant" and is_zero and not pad.input[3:]


def _keeps_its_grid(model: onnx.ModelProto, pad: onnx.NodeProto) -> bool:
    """Whether what quantizes the padded values quantizes to the grid that they had before."""
    constants = initializers(model)
    source = producers(model).get(pad.input[0])
    quantizers = [node for node in consumers(model)[pad.output[0]] if node.op_type == "QuantizeLinear"]
    if source is None or source.op_type != "DequantizeLinear":
        return not quantizers
    return all(same_grid(source, node, constants) for node in quantizers)


def _ends(
    tensor: str, readers: dict[str, list[onnx.NodeProto]], layout: str
) -> list[tuple[onnx.NodeProto, str]]:
    """Walk from the Pad's output through Q, DQ and the NHWC->NCHW Transpose to the nodes that compute."""
    ends: list[tuple[onnx.NodeProto, str]] = []
    for node in readers.get(tensor, []):
        if node.op_type in QDQ:
            ends += _ends(node.output[0], readers, layout)
        elif node.op_type == "Transpose" and attribute(node, "perm") == [0, 3, 1, 2]:
            ends += _ends(node.output[0], readers, "NHWC")
        else:
            ends.append((node, layout))
    return ends


def _spatial(pads: list[int], layout: str) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right); None where other axes are padded."""
    starts, stops = pads[:4], pads[4:]
    rows, columns, others = (1, 2, (0, 3)) if layout == "NHWC" else (2, 3, (0, 1))
    if len(pads) != 8 or any(starts[axis] or stops[axis] for axis in others):
        return None
    return starts[rows], starts[columns], stops[rows], stops[columns]


def _never_below_zero(model: onnx.ModelProto, pad: onnx.NodeProto) -> bool:
    """Whether no padded value is negative: made by a Relu, or its zero point is the lowest integer."""
    source = producers(model).get(pad.input[0])
    if source is None or source.op_type not in QDQ:
        return source is not None and source.op_type == "Relu"
    zero_point = array(initializers(model)[source.input[2]])
    return bool(np.all(zero_point == np.iinfo(zero_point.dtype).min))
