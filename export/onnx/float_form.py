"""Layers kept in float in an integer ONNX file.

Between a DequantizeLinear and a QuantizeLinear ONNX Runtime makes an integer operation of whatever it can, and
quantizes float weights for that itself, to one scale per tensor (1.32, optimizer/qdq_transformer:
weight_bias_quantization.cc and qdq_selectors.cc; measured: a float convolution became a QLinearConv). Where the input
of a kept layer is dequantized by a Cast, a Sub and a Mul instead, which compute the same numbers, none of that matches.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper

from edgeship.export.onnx_passes.editing import add_initializer, array, consumers, initializers, producers, set_nodes
from edgeship.export.tflite.names import layer_of
from edgeship.graph.kinds import QDQ


def with_float_layers(model: onnx.ModelProto, *, layers: Collection[str], keep_float: Collection[str]) -> None:
    """Dequantize the inputs of every operation of the layers `keep_float` by plain arithmetic, in place.

    Args:
        model: what `run_passes` returned, its nodes named after their layers.
        layers: the names of all the Keras model's layers.
    """
    constants, made_by = initializers(model), producers(model)
    nodes: list[onnx.NodeProto] = []
    known: dict[tuple[str, ...], str] = {}  # several operations of a layer read one tensor, and ONNX Runtime fuses them
    for node in model.graph.node:
        if node.op_type not in QDQ and layer_of(node.output[0], layers) in keep_float:
            for position, name in enumerate(node.input):
                source = made_by.get(name)
                if source is None or source.op_type != "DequantizeLinear" or source.input[0] in constants:
                    continue
                if tuple(source.input) not in known:
                    nodes += _arithmetic(model, source, constants, f"{node.output[0]}/input{position}")
                    known[tuple(source.input)] = nodes[-1].output[0]
                node.input[position] = known[tuple(source.input)]
        nodes.append(node)
    set_nodes(model, nodes)
    _drop_unread(model)


def _arithmetic(
    model: onnx.ModelProto, source: onnx.NodeProto, constants: dict[str, onnx.TensorProto], name: str
) -> list[onnx.NodeProto]:
    """(x - zero point) * scale, in float32; a zero point of 0 is left out."""
    scale, zero_point = (array(constants[source.input[position]]).astype(np.float32) for position in (1, 2))
    last, nodes = f"{name}/Cast", []
    nodes.append(helper.make_node("Cast", [source.input[0]], [last], name=last, to=onnx.TensorProto.FLOAT))
    for kind, value in (("Sub", zero_point), ("Mul", scale)):
        if kind == "Sub" and not value.any():
            continue
        constant = add_initializer(model, f"{name}/{kind}/value", value)
        nodes.append(helper.make_node(kind, [last, constant], [f"{name}/{kind}"], name=f"{name}/{kind}"))
        last = nodes[-1].output[0]
    return nodes


def _drop_unread(model: onnx.ModelProto) -> None:
    """Remove DequantizeLinear operations that nothing reads any more, with their constants."""
    outputs = {value.name for value in model.graph.output}
    read = set(consumers(model)) | outputs
    for node in [node for node in model.graph.node if node.op_type == "DequantizeLinear"]:
        if node.output[0] not in read:
            model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
