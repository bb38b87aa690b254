"""A product and a sum in the place of a second product: `Gemm(x, w, y)` beside `MatMul(x, w)`.

tf2onnx (1.17) makes a Gemm of each product whose result meets an addition, and leaves the product where others read its
result too (a softmax written by hand reads its logits twice). The file would compute it twice, and have a weight more
than the TFLite file.
"""

from __future__ import annotations

import onnx
from onnx import helper

from edgeship.export.onnx_passes.editing import initializers

PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def one_product(model: onnx.ModelProto) -> None:
    """Make an addition of every Gemm whose product another operation before it computes (constants still shared).

    Ensures: the same numbers, rounded once more between the product and the sum, as in the TFLite file.
    """
    constants, products = initializers(model), {}
    for node in model.graph.node:
        if node.op_type == "MatMul":
            products[tuple(node.input)] = node.output[0]
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] in constants:
            continue
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        product = products.get(tuple(node.input[:2]))
        if product is None or {**PLAIN, **given} != PLAIN:
            continue
        node.op_type = "Add"
        node.input[:] = [product, node.input[2]]
        del node.attribute[:]
