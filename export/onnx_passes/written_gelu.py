"""A GELU in operations that the standard has: tf2onnx 1.17 passes TFLite's GELU on as it is, and no runtime knows that.

ONNX has an operator for it from opset 20 on only. ONNX Runtime makes one kernel of these forms (optimizer/
gelu_fusion.cc, fast_gelu_fusion.cc). LiteRT computes the same (tensorflow/lite/kernels/internal/reference/gelu.h).
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper

from edgeship.export.onnx_passes.editing import add_initializer, set_nodes

NOT_STANDARD = "TFL_GELU"
CUBIC = 0.044715  # Hendrycks and Gimpel, Gaussian Error Linear Units, 2016, section 2
# (operation, its inputs, its result) in order; "x" and "y" are the GELU's own, numbers are constants.
EXACT = (
    ("Div", ("x", math.sqrt(2.0)), "scaled"), ("Erf", ("scaled",), "erf"), ("Add", ("erf", 1.0), "share"),
    ("Mul", ("x", "share"), "twice"), ("Mul", ("twice", 0.5), "y"),
)
APPROXIMATE = (
    ("Mul", ("x", "x"), "square"), ("Mul", ("x", "square"), "cube"), ("Mul", ("cube", CUBIC), "bend"),
    ("Add", ("x", "bend"), "bent"), ("Mul", ("bent", math.sqrt(2.0 / math.pi)), "scaled"),
    ("Tanh", ("scaled",), "tanh"), ("Add", ("tanh", 1.0), "share"), ("Mul", ("x", "share"), "twice"),
    ("Mul", ("twice", 0.5), "y"),
)


def written_gelu(model: onnx.ModelProto) -> None:
    """Rewrite every TFL_GELU, in place. Ensures: none is left."""
    if any(node.op_type == NOT_STANDARD for node in model.graph.node):
        set_nodes(model, [
            made for node in model.graph.node
            for made in (_written(model, node) if node.op_type == NOT_STANDARD else [node])
        ])


def _written(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    result = node.output[0]
    names: dict[str, str] = {"x": node.input[0], "y": result}

    def name_of(item: str | float) -> str:
        if isinstance(item, str):
            return names.setdefault(item, f"{result}/{item}")
        return add_initializer(model, f"{result}/{item:.6g}", np.array(item, np.float32))

    return [
        helper.make_node(kind, [name_of(item) for item in inputs], [name_of(output)], name=name_of(output))
        for kind, inputs, output in (APPROXIMATE if _is_approximate(node) else EXACT)
    ]


def _is_approximate(node: onnx.NodeProto) -> bool:
    return any(item.name == "approximate" and item.i for item in node.attribute)
