"""Every Resize in the words of the present ONNX standard, to the size that the TFLite file says.

tf2onnx writes TensorFlow's half-pixel rule of nearest neighbours, source = floor((x + 0.5) * ratio), as
`tf_half_pixel_for_nn`, which opset 13 took out: ONNX Runtime still runs it with a warning, other runtimes may not. The
standard's `half_pixel` computes (x + 0.5) * ratio - 0.5; rounding that half up is the same.

It writes the ratio of the sizes, a float32, too, and the standard makes a size of it by cutting off: 12 x (31 / 12) is
30 then.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.export.onnx_passes.editing import add_initializer, array, initializers

FORMER = b"tf_half_pixel_for_nn"
PRESENT = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
SCALES, SIZES = 2, 3  # positions among the inputs


def standard_resize(model: onnx.ModelProto) -> None:
    """Rewrite every Resize with `tf_half_pixel_for_nn`, or with constant scales. Ensures: the same values."""
    constants = initializers(model)
    shapes = {
        value.name: [item.dim_value for item in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *onnx.shape_inference.infer_shapes(model).graph.value_info)
    }
    for node in [node for node in model.graph.node if node.op_type == "Resize"]:
        _say_size(model, node, constants, shapes.get(node.input[0], []))
        if not any(item.s == FORMER for item in node.attribute):
            continue
        kept = [item for item in node.attribute if item.name not in PRESENT]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in PRESENT.items())


def _say_size(
    model: onnx.ModelProto, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], shape: list[int]
) -> None:
    """Give the size itself where only its ratio to a known `shape` is given."""
    scales = node.input[SCALES] if len(node.input) == SIZES else ""
    if scales not in constants or not shape or not all(shape):
        return
    sizes = np.rint(array(constants[scales]).astype(np.float64) * shape).astype(np.int64)
    del node.input[1:]
    node.input.extend(["", "", add_initializer(model, f"{node.output[0]}/size", sizes)])
