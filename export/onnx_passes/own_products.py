"""One product per result: a product whose result two operations read is computed for each of them.

The TFLite converter writes a matrix product twice where a network reads it with and without the ReLU behind it, each on
a grid of its own. tf2onnx (1.17, optimizer/merge_duplicated_nodes_optimizer.py) makes one of equal products, whose real
result both then read; ONNX Runtime has an integer kernel only for a product that a single QuantizeLinear reads, perhaps
behind a ReLU, so the one would be computed in float.
"""

from __future__ import annotations

import onnx

from edgeship.export.onnx_passes.editing import consumers, initializers

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def own_products(model: onnx.ModelProto) -> None:
    """Give every reader of an integer product's result a product of its own; its operands are shared.

    Ensures: the same numbers; no product has two readers, but for one with a float kernel, which is a constant and no
    dequantized one: a layer kept in float.
    """
    readers, constants = consumers(model), initializers(model)
    products = [node for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] not in constants]
    for node in products:
        for number, reader in enumerate(readers.get(node.output[0], [])[1:], start=1):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name, copy.output[0] = f"{node.name}/own{number}", f"{node.output[0]}/own{number}"
            for position, name in enumerate(reader.input):
                if name == node.output[0]:
                    reader.input[position] = copy.output[0]
            model.graph.node.append(copy)
