"""Which scales and zero points an ONNX tensor has, from the operations that make it and that read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from edgeship.graph.kinds import GRID_KEEPING
from edgeship.graph.marked import marked, tanh_grids
from edgeship.graph.records import Operation, Tensor, affine_grid

# QOperator kinds (what ONNX Runtime makes of a QDQ file): where each tensor's scale and zero point are, as
# (tensor, scale, zero point) among the inputs, and (scale, zero point) of the output.
Positions = tuple[tuple[tuple[int, int, int], ...], tuple[int, int] | None]
_ONE: Positions = (((0, 1, 2),), (3, 4))
_TWO: Positions = (((0, 1, 2), (3, 4, 5)), (6, 7))
POSITIONS: dict[str, Positions] = {
    "QuantizeLinear": ((), (1, 2)),
    "DequantizeLinear": (((0, 1, 2),), None),
    "QLinearConv": _TWO,
    "QLinearMatMul": _TWO,
    "QLinearAdd": _TWO,
    "QLinearMul": _TWO,
    "QGemm": (_TWO[0], (7, 8)),
    "QLinearGlobalAveragePool": _ONE,
    "QLinearAveragePool": _ONE,
    "QLinearReduceMean": _ONE,
    "QLinearSoftmax": _ONE,
    "QLinearSigmoid": _ONE,
    "QLinearLeakyRelu": _ONE,
}

# Of integers these keep the grid of their first input too; all inputs of a Concat have one.
KEEPING_KINDS = GRID_KEEPING | {"Clip", "Pad", "Concat", "Split", "DepthToSpace", "SpaceToDepth", "ReduceMax"}

Grid = dict[str, Any]  # the fields scales, zero_points and axis of a Tensor


def grid_positions(operation: Operation) -> Positions:
    """Where an operation's inputs name the grids of its tensors; nothing for an operation without grids."""
    if operation.kind == "QLinearConcat":  # output scale, output zero point, then three per tensor
        return tuple((at, at + 1, at + 2) for at in range(2, len(operation.inputs) - 2, 3)), (0, 1)
    return POSITIONS.get(operation.kind, ((), None))


def attach_grids(tensors: dict[str, Tensor], operations: tuple[Operation, ...]) -> None:
    """Replace the integer tensors in `tensors` by ones with scales, zero points and axis.

    A tensor's producer decides, then its readers where they agree, then, over operations that only move
    or clip values (Transpose, Reshape, MaxPool, Concat) and over a Resize of codes, the tensor on the other side.
    """
    found = list(marked(tensors, operations))
    others = {id(operation) for item in found for operation in (item.before, item.after)}
    tanhs = {
        name: {"scales": scales, "zero_points": zero_points, "axis": None}
        for item in found if item.kind == "Sigmoid" for name, scales, zero_points in tanh_grids(item, tensors)
    }
    made: dict[str, Grid | None] = {}
    read: dict[str, Grid | None] = {}
    for operation in [item for item in operations if id(item) not in others]:
        inputs, output = grid_positions(operation)
        if output is not None:
            _note(made, operation, operation.outputs[0], output, tensors)
        for tensor, scale, zero_point in inputs:
            if tensor < len(operation.inputs):
                _note(read, operation, operation.inputs[tensor], (scale, zero_point), tensors)
    for name, grid in {**dict(_dequantized_by_arithmetic(tensors, operations)), **tanhs, **read, **made}.items():
        _attach(tensors, name, grid)
    for operation in operations:
        if operation.kind == "QLinearConv" and len(operation.inputs) == 9 and operation.inputs[8]:
            _attach_bias_grid(tensors, operation)
    moves = list(_moves(operations, {id(item.after): item.before for item in found if item.kind == "Resize"}))
    _copy_forwards(tensors, moves)
    for sources, results in reversed(moves):
        for source in sources:
            _copy_grid(tensors, results[0], source)
    _copy_forwards(tensors, moves)  # once more, to what else is made of what one reader told of


def _copy_forwards(tensors: dict[str, Tensor], moves: Iterable[tuple[tuple[str, ...], tuple[str, ...]]]) -> None:
    for sources, results in moves:
        for name in filter(None, results):
            _copy_grid(tensors, sources[0], name)


def _moves(
    operations: tuple[Operation, ...], resized: Mapping[int, Operation]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(sources, results) of what keeps a grid; `resized`: id of the conversion behind a Resize -> that before it."""
    for operation in operations:
        if id(operation) in resized:
            yield resized[id(operation)].inputs[:1], operation.outputs
        elif operation.kind in KEEPING_KINDS:
            yield operation.inputs if operation.kind == "Concat" else operation.inputs[:1], operation.outputs


def _dequantized_by_arithmetic(
    tensors: dict[str, Tensor], operations: tuple[Operation, ...]
) -> Iterator[tuple[str, Grid]]:
    """(x - zero point) * scale spelled as Cast, Sub (left out for 0) and Mul: what our files have before float ones."""
    readers: dict[str, list[Operation]] = {}
    for operation in operations:
        for name in operation.inputs[:1]:
            readers.setdefault(name, []).append(operation)

    def constant_of(operation: Operation | None, kind: str) -> np.ndarray | None:
        if operation is None or operation.kind != kind or len(operation.inputs) != 2:
            return None
        data = tensors[operation.inputs[1]].data
        return data.reshape(-1) if data is not None and data.size == 1 else None

    def only_reader(operation: Operation) -> Operation | None:
        found = readers.get(operation.outputs[0], [])
        return found[0] if len(found) == 1 else None

    for cast in operations:
        source = tensors[cast.inputs[0]] if cast.kind == "Cast" else None
        if source is None or not source.is_integer or source.data is not None:
            continue
        after = only_reader(cast)
        zero_point = constant_of(after, "Sub")
        if zero_point is not None and after is not None:
            after = only_reader(after)
        scale = constant_of(after, "Mul")
        if scale is not None:
            zero_points = np.zeros(1, np.int64) if zero_point is None else zero_point.astype(np.int64)
            yield source.name, {"scales": scale, "zero_points": zero_points, "axis": None}


def _note(
    grids: dict[str, Grid | None],
    operation: Operation,
    name: str,
    positions: Iterable[int],
    tensors: dict[str, Tensor],
) -> None:
    names = [operation.inputs[at] if at < len(operation.inputs) else "" for at in positions]
    grid = affine_grid(tensors, operation, [name, *names], default_axis=_default_axis(operation))
    if name in grids and not _same(grids[name], grid):
        grid = None  # several uses, several scales: the tensor has no grid of its own
    grids[name] = grid


def _default_axis(operation: Operation) -> int:
    """The axis of per-channel scales where the operation does not say it."""
    match operation.kind:
        case "QLinearConv":
            return 0
        case "QLinearMatMul":
            return -1
        case "QGemm":
            return 0 if operation.attributes.get("transB") else 1
    return 1


def _attach(tensors: dict[str, Tensor], name: str, grid: Grid | None) -> None:
    if grid is not None and tensors[name].is_integer:
        tensors[name] = dataclasses.replace(tensors[name], **grid)


def _attach_bias_grid(tensors: dict[str, Tensor], operation: Operation) -> None:
    """QLinearConv's bias has no scale in the file: by definition it is input scale x weight scale."""
    data, weights, bias = (tensors[operation.inputs[at]] for at in (0, 3, 8))
    if data.scales is not None and weights.scales is not None:
        with np.errstate(all="ignore"):  # a broken scale is for the reader of the graph to judge
            scales = data.scales[0] * weights.scales
        zero_points, axis = np.zeros(scales.size, np.int64), 0 if scales.size > 1 else None
        _attach(tensors, bias.name, {"scales": scales, "zero_points": zero_points, "axis": axis})


def _copy_grid(tensors: dict[str, Tensor], source: str, target: str) -> None:
    """Per tensor only: a per-channel axis would move with the values."""
    grid, other = tensors[source], tensors[target]
    if grid.scales is not None and grid.axis is None and other.scales is None:
        _attach(tensors, target, {"scales": grid.scales, "zero_points": grid.zero_points, "axis": None})


def _same(one: Grid | None, other: Grid | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.array_equal(one[key], other[key]) for key in one)
