"""Which results of an integer file and of the float file of the same format are one value, and what each is made of.

Both files name an operation's result after its layer. Where a ReLU is fused (TFLite), or its node is gone because the
integer grid ends at 0 (ONNX), the integer result is the one after the ReLU; in a float ONNX file that is the Relu's,
which is called "x/Relu". A matrix product that tf2onnx made a Gemm of is called "<layer>/Gemm" there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeship.graph.records import LONGEST_CHAIN, Graph, Operation, Tensor

KERNEL, GEMM = "/kernel", "/Gemm"
GRID_DTYPES = ("int8", "uint8", "int16")
ACTIVATIONS = frozenset({"Relu", "Clip", "RELU", "RELU6"})
CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear"})
# What these make has its input's values, so one of the two stands for both.
MOVES = frozenset({
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE",
    "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Identity",
})


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A result that both files have."""

    tensor: Tensor  # of the integer file, with its one scale and zero point
    twin: str  # the same result's name in the float file
    kind: str  # of the operation that computes it, in the format's own word
    reads: tuple[str, ...]  # the nearest results before it that are pairs too, and inputs of the file


def pair_results(integer: Graph, floats: Graph) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The pairs in the integer file's order, and its integer results that the float file lacks, by name."""
    gemms = _gemms(integer)
    twins: dict[str, str] = {}
    results = [
        integer.tensors[name] for operation in integer.operations for name in operation.outputs
        if name and _has_grid(integer.tensors[name])
    ]
    for tensor in results:
        if _is_copy(integer, tensor.name, twins):
            continue
        names = (_published(integer, tensor.name), f"{tensor.name}{GEMM}", gemms.get(tensor.name, ""))
        twin = next((name for name in names if name in floats.producers), None)
        if twin is not None:
            twins[tensor.name] = _after_activation(floats, twin) if _is_activated(integer, tensor) else twin
    pairs = tuple(
        Pair(
            tensor=tensor, twin=twins[tensor.name], kind=_kind(integer, tensor.name, twins),
            reads=_reads(integer, tensor.name, twins),
        )
        for tensor in results if tensor.name in twins
    )
    missing = (item.name for item in results if item.name not in twins and not _is_copied(integer, item.name, twins))
    return pairs, tuple(missing)


def _has_grid(tensor: Tensor) -> bool:
    """Whether it is computed, in integers, on one scale."""
    one_scale = tensor.scales is not None and tensor.scales.size == 1
    return tensor.dtype in GRID_DTYPES and tensor.data is None and one_scale


def _published(graph: Graph, name: str) -> str:
    """The file's own output where that is nothing but `name` as floats; else `name`."""
    readers = graph.consumers.get(name, ())
    output = readers[0].outputs[0] if len(readers) == 1 and readers[0].kind in CONVERSIONS else ""
    return output if output in graph.outputs else name


def _gemms(integer: Graph) -> dict[str, str]:
    """Integer result of a product -> what the float file calls it if tf2onnx made a Gemm of it."""
    layers = {item.output.name: item.weights.name.removesuffix(KERNEL) for item in integer.weighted_operations()}
    return {name: f"{layer}{GEMM}" for name, layer in layers.items()}


def _is_activated(graph: Graph, tensor: Tensor) -> bool:
    """Whether the integer result is what comes after a ReLU."""
    assert tensor.zero_points is not None
    operation = graph.producers[tensor.name]
    if tensor.zero_points[0] <= np.iinfo(tensor.dtype).min or _activates(operation):
        return True
    before = graph.producers.get(operation.inputs[0]) if operation.inputs else None
    return operation.kind in CONVERSIONS and before is not None and _activates(before)


def _activates(operation: Operation) -> bool:
    return operation.kind in ACTIVATIONS or operation.attributes.get("fused_activation_function", "NONE") != "NONE"


def _after_activation(graph: Graph, name: str) -> str:
    """The result of the ReLU that alone reads `name` and is named after it; else `name`."""
    readers = graph.consumers.get(name, ())
    if len(readers) == 1 and readers[0].kind in ACTIVATIONS and readers[0].outputs[0].startswith(f"{name}/"):
        return readers[0].outputs[0]
    return name


def _kind(graph: Graph, name: str, compared: Mapping[str, str]) -> str:
    """Of the operation behind the conversions, activations and moves that end in `name`."""
    operation = graph.producers[name]
    for _ in range(LONGEST_CHAIN):
        source = operation.inputs[0] if operation.inputs else ""
        if operation.kind not in CONVERSIONS | ACTIVATIONS | MOVES or source in compared:
            break
        if source not in graph.producers:
            break
        operation = graph.producers[source]
    return operation.kind


def _reads(graph: Graph, name: str, compared: Mapping[str, str]) -> tuple[str, ...]:
    """Backwards from an operation to the first results that are compared, and to the file's inputs."""
    found: dict[str, None] = {}  # a set that keeps its order
    waiting, seen = list(graph.producers[name].inputs), set()
    while waiting:
        source = waiting.pop(0)
        if source in seen:
            continue
        seen.add(source)
        if source in compared or source in graph.inputs:
            found[source] = None
        elif source in graph.producers:
            waiting += graph.producers[source].inputs
    return tuple(found)


def _is_copy(graph: Graph, name: str, compared: Mapping[str, str]) -> bool:
    """Whether it has the values of an input of the file, or of a result that is compared."""
    operation = graph.producers[name]
    source = operation.inputs[0] if operation.inputs else ""
    return operation.kind in MOVES | CONVERSIONS and (source in graph.inputs or source in compared)


def _is_copied(graph: Graph, name: str, compared: Mapping[str, str]) -> bool:
    """Whether it is a copy, or what moves or clips its values is compared under another name."""
    if graph.producers[name].kind in MOVES or _is_copy(graph, name, compared):
        return True
    readers = graph.consumers.get(name, ())
    return any(reader.kind in MOVES | {"Clip"} and reader.outputs[0] in compared for reader in readers)
