"""Padding that no convolution can take over, on integers instead of between DequantizeLinear and QuantizeLinear.

What is padded with a value is, in integers, padded with the code of that value (the zero point, for zeros), and a
mirror image of values is one of their codes: the result is the same on the same grid, and ONNX Runtime pads 8-bit
integers, while it has no fusion for a Pad in float.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.export.onnx_passes.editing import (
    add_initializer,
    array,
    consumers,
    initializers,
    on_integers,
    one_grid_around,
    producers,
    text_attribute,
)


def integer_pad(model: onnx.ModelProto) -> None:
    """Move every Pad before the DequantizeLinear it reads.

    Requires: zero points that no later pass changes. Ensures: a Pad whose input is dequantized and whose readers
    quantize to the same grid works on integers.
    """
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        constants, made_by, read_by = initializers(model), producers(model), consumers(model)
        around = one_grid_around(pad, constants=constants, made_by=made_by, read_by=read_by)
        if around is None:
            continue
        source, readers = around
        mirrors = text_attribute(pad, "mode", "constant") != "constant"
        code = None if mirrors else _code(pad, source, constants)
        if code is None and not mirrors:
            continue
        del pad.input[2:]
        if code is not None:
            pad.input.append(add_initializer(model, f"{pad.output[0]}/value", code))
        on_integers(model, pad, source.input[0], readers)


def _code(
    pad: onnx.NodeProto, source: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> np.ndarray | None:
    """What QuantizeLinear makes of the value that a Pad writes; None for one that is not constant."""
    scale, zero = (array(constants[name]) for name in source.input[1:3])
    given = [name for name in pad.input[2:3] if name]
    if any(name not in constants for name in given):
        return None
    value = array(constants[given[0]]).reshape(()).astype(np.float32) if given else np.float32(0)
    limits = np.iinfo(zero.dtype)
    codes = np.clip(np.rint(value / scale) + zero.astype(np.int32), limits.min, limits.max)
    return np.asarray(codes.reshape(zero.shape), zero.dtype)
