"""Nearest-neighbour Resize in the words of the present ONNX standard.

tf2onnx writes TensorFlow's half-pixel rule, source = floor((x + 0.5) * ratio), as `tf_half_pixel_for_nn`, which
opset 13 took out: ONNX Runtime still runs it with a warning, other runtimes may not. The standard's `half_pixel`
computes (x + 0.5) * ratio - 0.5; rounding that half up is the same.
"""

from __future__ import annotations

import onnx

FORMER = b"tf_half_pixel_for_nn"
PRESENT = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}


def standard_resize(model: onnx.ModelProto) -> None:
    """Rewrite every Resize with `tf_half_pixel_for_nn`. Ensures: the same values."""
    for node in model.graph.node:
        if node.op_type != "Resize" or not any(item.s == FORMER for item in node.attribute):
            continue
        kept = [item for item in node.attribute if item.name not in PRESENT]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in PRESENT.items())
