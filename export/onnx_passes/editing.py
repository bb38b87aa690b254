"""The few questions every pass asks of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import numpy_helper


def initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Constants by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each tensor."""
    return {output: node for node in model.graph.node for output in node.output if output}


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each tensor."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            if name:
                found.setdefault(name, []).append(node)
    return found


def attribute(node: onnx.NodeProto, name: str) -> list[int]:
    """An `ints` attribute as a list; empty when absent."""
    return next((list(item.ints) for item in node.attribute if item.name == name), [])


def text_attribute(node: onnx.NodeProto, name: str, default: str) -> str:
    """A `string` attribute."""
    return next((item.s.decode() for item in node.attribute if item.name == name), default)


def set_ints(node: onnx.NodeProto, name: str, values: list[int]) -> None:
    """Set an `ints` attribute."""
    for item in list(node.attribute):
        if item.name == name:
            node.attribute.remove(item)
    node.attribute.append(onnx.helper.make_attribute(name, values))


def array(tensor: onnx.TensorProto) -> np.ndarray:
    """A constant's values."""
    values: np.ndarray = numpy_helper.to_array(tensor)
    return values


def same_grid(one: onnx.NodeProto, other: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether two QuantizeLinear or DequantizeLinear nodes have equal scales and zero points."""
    return all(
        np.array_equal(array(constants[first]), array(constants[second]))
        for first, second in zip(one.input[1:3], other.input[1:3], strict=True)
    )


def one_grid_around(
    node: onnx.NodeProto, *, constants: dict[str, onnx.TensorProto], made_by: dict[str, onnx.NodeProto],
    read_by: dict[str, list[onnx.NodeProto]],
) -> tuple[onnx.NodeProto, list[onnx.NodeProto]] | None:
    """Return the DequantizeLinear that a node reads and the QuantizeLinears that read it, where all have one grid."""
    source, readers = made_by.get(node.input[0]), read_by.get(node.output[0], [])
    if source is None or source.op_type != "DequantizeLinear" or not readers:
        return None
    if not all(item.op_type == "QuantizeLinear" and same_grid(source, item, constants) for item in readers):
        return None
    return source, readers


def replace_array(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    """Give a constant other values (and type), under the same name."""
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, order="C"), tensor.name))


def add_initializer(model: onnx.ModelProto, name: str, values: np.ndarray) -> str:
    """Add a constant; returns its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
    return name


def set_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give the graph these nodes, old and new ones, in this order; references to the old ones are stale then."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def remove_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Delete nodes in place (rebuilding the list would leave every other reference stale)."""
    for node in nodes:
        model.graph.node.remove(node)


def rename_tensor(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename a tensor wherever it is made or read, graph inputs, outputs and constants included."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        if value.name == old:
            value.name = new


def replace_input(model: onnx.ModelProto, old: str, new: str) -> None:
    """Let every reader of `old` read `new` instead."""
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = new


def on_integers(model: onnx.ModelProto, node: onnx.NodeProto, integers: str, conversions: list[onnx.NodeProto]) -> None:
    """Let a node read `integers`, and what the QuantizeLinear nodes `conversions` make of its result be its result.

    It keeps the name of the quantized tensor, which may be a graph output's.
    """
    node.input[0] = integers
    results = [item.output[0] for item in conversions]
    named = next((value.name for value in model.graph.output if value.name in results), results[0])
    remove_nodes(model, conversions)
    for result in results:
        replace_input(model, result, named)
    rename_tensor(model, node.output[0], named)
