"""What the operations of a file cost by its shapes: multiply-accumulates, parameters, bytes of results, all at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from edgeship.core.evidence import LayerCost
from edgeship.graph.costs import Shape, arena_bytes, bytes_of, multiply_accumulates_of
from edgeship.graph.held import held_weights
from edgeship.graph.kinds import QDQ
from edgeship.graph.records import Graph, Operation, Tensor

INTEGERS = frozenset({"int8", "uint8"})


def layer_costs(graph: Graph, shapes: Mapping[str, Shape] | None = None) -> tuple[LayerCost, ...]:
    """Return the cost of each operation that computes on activations, in the file's order.

    Of a QDQ file these are the operations between the conversions, each with the integer tensor behind it as its
    result, since runtimes make one integer kernel of them. A weight that several operations read is counted with the
    first of them, so that the sum is the file's. `shapes` are of tensors whose shape the file does not say: ONNX
    intermediates.
    """
    known, weights = shapes or {}, _weights(graph)
    counted: set[str] = set()
    found: dict[str, LayerCost] = {}
    for operation in graph.operations:
        if operation.kind in QDQ or not _is_run(operation, graph):
            continue
        results = [graph.after_quantize(name).name for name in operation.outputs if name]
        if not results or results[0] in found:  # a ReLU before the conversion, which is part of the kernel
            continue
        own = {name: size for name, size in weights.get(operation, {}).items() if name not in counted}
        counted.update(own)
        sizes = [bytes_of(graph, name, known) for name in results]
        found[results[0]] = LayerCost(
            layer=results[0], kind=operation.kind,
            multiply_accumulates=multiply_accumulates_of(operation, graph, known), parameters=sum(own.values()),
            activation_bytes=None if None in sizes else sum(size for size in sizes if size is not None),
        )
    return tuple(found.values())


def kernels_arena_bytes(graph: Graph, shapes: Mapping[str, Shape] | None = None) -> int | None:
    """Return the most bytes of activations that are alive at once when runtimes run a file.

    Of a QDQ file these are the integer tensors, as of one integer kernel per operation between the conversions. None
    where a shape is not known, or where a product of a QDQ file has float weights: floats are then kept too.
    """
    if not any(operation.kind in QDQ for operation in graph.operations):
        return arena_bytes(graph, shapes)
    if any(item.weights.dtype not in INTEGERS for item in graph.weighted_operations()):
        return None
    return arena_bytes(_of_kernels(graph), shapes)


def _of_kernels(graph: Graph) -> Graph:
    """Return a QDQ file's graph with its operations on the integer tensors; conversions remain at the two ends."""
    kernels: list[Operation] = []
    made: set[str] = set()
    for operation in graph.operations:
        if not _is_run(operation, graph):
            continue
        inputs, outputs = operation.inputs, operation.outputs
        if operation.kind == "QuantizeLinear":
            if inputs[0] not in graph.inputs:
                continue
        elif operation.kind == "DequantizeLinear":
            if outputs[0] not in graph.outputs:
                continue
        else:
            inputs = tuple(graph.before_dequantize(name).name if name in graph.tensors else name for name in inputs)
            outputs = tuple(graph.after_quantize(name).name if name in graph.tensors else name for name in outputs)
        if not made.intersection(outputs):  # a ReLU before the conversion is part of the kernel
            kernels.append(dataclasses.replace(operation, inputs=inputs, outputs=outputs))
            made.update(name for name in outputs if name)
    return dataclasses.replace(graph, operations=tuple(kernels))


def _is_run(operation: Operation, graph: Graph) -> bool:
    """Whether it computes on activations; a Transpose of a weight, for example, does not."""
    read = [name for name in operation.inputs if name]
    return bool(read) and not all(_is_constant(graph, name) for name in read)


def _is_constant(graph: Graph, name: str) -> bool:
    """Whether a tensor is in the file, or one operation away from constants."""
    maker = graph.producers.get(name)
    if maker is None:
        return graph.is_constant(name)
    return all(graph.is_constant(given) for given in maker.inputs if given)


def _weights(graph: Graph) -> dict[Operation, dict[str, int]]:
    """Operation -> its weights and biases by tensor, with how many values each has."""
    found: dict[Operation, dict[str, int]] = {}
    for item in graph.weighted_operations():
        tensors = [tensor for tensor in (item.weights, item.bias) if tensor is not None and tensor.data is not None]
        found[item.operation] = {tensor.name: _values(tensor) for tensor in tensors}
    for held in held_weights(graph):
        found.setdefault(held.operation, {})[held.tensor.name] = held.values
    return found


def _values(tensor: Tensor) -> int:
    return 0 if tensor.shape is None else math.prod(size or 0 for size in tensor.shape)
