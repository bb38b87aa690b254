"""Which results of an integer file may be compared with which of the float file, and what each of them is made of.

Both files name an operation's result after its layer. They differ in what an operation is: ReLUs are fused, batch norms
and factors folded, an activation is one operation in one file and two in the other. So a result "x" of the integer file
has several candidates in the float file: "x", what begins with "x/", and what comes of these before the next result
that both files name. The values tell which one it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from edgeship.graph.kinds import CLIPS, CONVERSIONS, MOVES
from edgeship.graph.records import LONGEST_CHAIN, Graph, Tensor

KERNEL, GEMM = "/kernel", "/Gemm"
GRID_DTYPES = ("int8", "uint8", "int16")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A result of the integer file and what it may be in the float file."""

    tensor: Tensor  # of the integer file, with its one scale and zero point
    twins: tuple[str, ...]  # results of the float file, at least one
    kind: str  # of the operation that computes it, in the format's own word
    reads: tuple[str, ...]  # the nearest results before it that are pairs too, and inputs of the file


def pair_results(integer: Graph, floats: Graph) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The pairs in the integer file's order, and its integer results that the float file lacks, by name."""
    results = [
        integer.tensors[name] for operation in integer.operations for name in operation.outputs
        if name and _has_grid(integer.tensors[name])
    ]
    candidates = _candidates(floats, _anchors(integer, floats, results))
    twins: dict[str, list[str]] = {}
    known = {name: name for name in integer.inputs}  # and what is compared: a result -> whose values it has
    for tensor in results:
        if _moves(integer, tensor.name, known):
            known[tensor.name] = known[integer.producers[tensor.name].inputs[0]]
            twins.get(known[tensor.name], []).extend(candidates.get(tensor.name, []))
        elif tensor.name in candidates:
            known[tensor.name] = tensor.name
            twins[tensor.name] = list(candidates[tensor.name])
    pairs = tuple(
        Pair(
            tensor=tensor, twins=tuple(twins[tensor.name]), kind=_kind(integer, tensor.name, twins),
            reads=_reads(integer, tensor.name, twins),
        )
        for tensor in results if tensor.name in twins
    )
    missing = (item.name for item in results if item.name not in known and not _moved(integer, item.name, known))
    return pairs, tuple(missing)


def _has_grid(tensor: Tensor) -> bool:
    """Whether it is computed, in integers, on one scale."""
    one_scale = tensor.scales is not None and tensor.scales.size == 1
    return tensor.dtype in GRID_DTYPES and tensor.data is None and one_scale


def _anchors(integer: Graph, floats: Graph, results: Sequence[Tensor]) -> dict[str, str]:
    """Float result -> the integer result that is called so, in one of the ways in which the formats call it."""
    layers = {item.output.name: item.weights.name.removesuffix(KERNEL) for item in integer.weighted_operations()}
    anchors: dict[str, str] = {}
    for tensor in results:
        names = (
            _published(integer, tensor.name), f"{tensor.name}{GEMM}", f"{layers.get(tensor.name)}{GEMM}",
            _shortened(integer, floats, tensor.name),
        )
        anchor = next((name for name in names if name in floats.producers), None)
        if anchor is not None:
            anchors[anchor] = tensor.name
    return anchors


def _published(graph: Graph, name: str) -> str:
    """The file's own output where that is nothing but `name` as floats; else `name`."""
    readers = graph.consumers.get(name, ())
    output = readers[0].outputs[0] if len(readers) == 1 and readers[0].kind in CONVERSIONS else ""
    return output if output in graph.outputs else name


def _shortened(integer: Graph, floats: Graph, name: str) -> str:
    """A name without the operations that tf2onnx appends ("x/Concat"), as far as it is no other integer result's."""
    while "/" in name and name not in floats.producers:
        name = name.rpartition("/")[0]
        if name in integer.tensors:
            return ""
    return name


def _candidates(floats: Graph, anchors: Mapping[str, str]) -> dict[str, list[str]]:
    """Integer result -> float results of its name, and those that come of them and have no integer result's name."""
    owners: dict[str, str] = {}
    candidates: defaultdict[str, list[str]] = defaultdict(list)
    for operation in floats.operations:
        before = next((owners[name] for name in operation.inputs if name in owners), None)
        for result in operation.outputs:
            owner = _named(result, anchors) or before
            if owner is not None and not floats.tensors[result].is_integer:
                owners[result] = owner
                candidates[owner].append(result)
    return candidates


def _named(result: str, anchors: Mapping[str, str]) -> str | None:
    """Whose name it has, or begins with before a "/"; the longest one."""
    slash = "/"
    while slash:
        if result in anchors:
            return anchors[result]
        result, slash, _ = result.rpartition("/")
    return None


def _kind(graph: Graph, name: str, compared: Collection[str]) -> str:
    """Of the operation behind the conversions, activations and moves that end in `name`."""
    operation = graph.producers[name]
    for _ in range(LONGEST_CHAIN):
        source = operation.inputs[0] if operation.inputs else ""
        passing = operation.kind in CONVERSIONS | CLIPS | MOVES
        if not passing or source in compared or source not in graph.producers:
            break
        operation = graph.producers[source]
    return operation.kind


def _reads(graph: Graph, name: str, compared: Collection[str]) -> tuple[str, ...]:
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


def _moves(graph: Graph, name: str, sources: Collection[str]) -> bool:
    """Whether it has the values of one of `sources`."""
    operation = graph.producers[name]
    source = operation.inputs[0] if operation.inputs else ""
    return source in sources and (
        operation.kind in MOVES or (operation.kind in CONVERSIONS and source in graph.inputs)
    )


def _moved(graph: Graph, name: str, others: Collection[str]) -> bool:
    """Whether it only moves values, or one of `others` has them, moved or clipped."""
    readers = graph.consumers.get(name, ())
    return graph.producers[name].kind in MOVES or any(
        reader.kind in MOVES | {"Clip"} and reader.outputs[0] in others for reader in readers
    )
