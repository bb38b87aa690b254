"""Padding that no convolution can take over, on integers instead of between DequantizeLinear and QuantizeLinear.

What is padded with zeros is, in integers, padded with the zero point: the result is the same on the same grid, and
ONNX Runtime pads 8-bit integers, while it has no fusion for a Pad in float.
"""

from __future__ import annotations

import numpy as np
import onnx

from export.onnx_passes.editing import (
    add_initializer,
    array,
    consumers,
    initializers,
    producers,
    remove_nodes,
    rename_tensor,
    replace_input,
    same_grid,
)


def integer_pad(model: onnx.ModelProto) -> None:
    """Move every Pad by zeros before the DequantizeLinear it reads.

    Requires: zero points that no later pass changes. Ensures: a Pad whose input is dequantized and whose readers
    quantize to the same grid works on integers.
    """
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        constants, made_by, read_by = initializers(model), producers(model), consumers(model)
        source = made_by.get(pad.input[0])
        readers = read_by.get(pad.output[0], [])
        if source is None or source.op_type != "DequantizeLinear" or not _pads_with_zero(pad, constants):
            continue
        if not readers or not all(
            reader.op_type == "QuantizeLinear" and same_grid(source, reader, constants) for reader in readers
        ):
            continue
        pad.input[0] = source.input[0]
        del pad.input[2:]
        pad.input.append(add_initializer(model, f"{pad.output[0]}/zero", array(constants[source.input[2]])))
        # The result keeps the name of the quantized tensor, which may be a graph output's.
        results = [reader.output[0] for reader in readers]
        named = next((value.name for value in model.graph.output if value.name in results), results[0])
        remove_nodes(model, readers)
        for result in results:
            replace_input(model, result, named)
        rename_tensor(model, pad.output[0], named)


def _pads_with_zero(pad: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    mode = next((item.s for item in pad.attribute if item.name == "mode"), b"constant")
    given = [name for name in pad.input[2:3] if name]
    return mode == b"constant" and all(name in constants and not np.any(array(constants[name])) for name in given)
