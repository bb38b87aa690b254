"""A linear Resize between two equal grids, of the codes themselves: it then rounds as LiteRT's integer kernel does.

LiteRT (XNNPACK) weighs 8-bit codes in whole numbers and rounds halves up. Between a DequantizeLinear and a
QuantizeLinear with the tensor's scale, each value is a rounded product, so a half falls on either side: at a factor of
2, where one result in sixteen is a half, up to 6 % of all results were a step away. Here

    DequantizeLinear    has a scale of 1 and the lowest code as its zero point: values of 0 to 255, whose weighted sums
                        float32 holds exactly wherever the weights have few bits, which is where halves are (a factor
                        of 2: 8 bits of a code, 2 + 2 of the two weights; of 24)
    QuantizeLinear      divides by STEP, the largest float32 below 1, which moves a half up by one unit in its last
                        place, beyond the half; another result is many such units away from one

ONNX Runtime's own integer Resize cuts off what is behind the point, and its integer convolution, which can interpolate
by whole factors too, takes about twice as long as this Resize in float.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.export.onnx_passes.editing import (
    add_initializer,
    array,
    consumers,
    initializers,
    one_grid_around,
    producers,
    text_attribute,
)
from edgeship.graph.marked import ONE, STEP


def resized_codes(model: onnx.ModelProto) -> None:
    """Give every linear Resize that changes no grid the codes of its input, and its result theirs.

    Requires: zero points that no later pass changes. Ensures: the grids that graph/grids.py reads are those before.
    """
    constants, made_by, read_by = initializers(model), producers(model), consumers(model)
    for resize in [node for node in model.graph.node if node.op_type == "Resize"]:
        around = one_grid_around(resize, constants=constants, made_by=made_by, read_by=read_by)
        if text_attribute(resize, "mode", "nearest") != "linear" or around is None:
            continue
        source, readers = around
        name, dtype = resize.output[0], array(constants[source.input[2]]).dtype
        codes = onnx.helper.make_node(
            "DequantizeLinear", [source.input[0], *_counting(model, f"{name}/codes", ONE, dtype)], [f"{name}/codes"],
            name=f"{name}/codes",
        )
        model.graph.node.append(codes)
        resize.input[0] = codes.output[0]
        for reader in readers:
            counted = _counting(model, reader.output[0], STEP, dtype)
            del reader.input[1:]
            reader.input.extend(counted)


def _counting(model: onnx.ModelProto, name: str, step: np.float32, dtype: np.dtype) -> list[str]:
    """Return the names of a scale and a zero point that count codes from the lowest on."""
    return [
        add_initializer(model, f"{name}/step", np.array(step)),
        add_initializer(model, f"{name}/lowest", np.array(np.iinfo(dtype).min, dtype)),
    ]
