"""What of two matched files is not the same: scales, zero points, kernels, biases and other constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeship.core.integers import SHIFTS
from edgeship.graph.kernels import Constant, constant_of, kernel_differences, kernel_of
from edgeship.graph.kinds import WEIGHTED
from edgeship.graph.marked import is_before_marked
from edgeship.graph.matching import FAMILIES, IN_ORDER, Matching, OperationPair, TensorPair, as_int8
from edgeship.graph.moves import Moves
from edgeship.graph.records import Graph, Operation, affine_grid

ELEMENTWISE = frozenset({"sum", "difference", "multiplication", "division", "smallest", "largest", "prelu"})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two files were compared by."""

    compared: int  # activations' grids, kernels, biases and other constants of the TFLite file
    differences: tuple[str, ...]  # one sentence each
    not_compared: tuple[str, ...]  # names of what has no counterpart that could be told


def differences(tflite: Graph, onnx: Graph, matching: Matching) -> tuple[str, ...]:
    """One sentence for each matched tensor, kernel, bias or constant that is not the same in both files.

    A bias or kernel that a matched operation lacks is a difference; what is in `matching.unmatched` is none.
    """
    return compare(tflite, onnx, matching).differences


def compare(tflite: Graph, onnx: Graph, matching: Matching) -> Comparison:
    """Compare everything that is matched."""
    sides = Moves(tflite), Moves(onnx)
    found: dict[str, list[str]] = {}
    not_compared = list(matching.unmatched)
    for pair in matching.pairs:
        found.setdefault(pair.tflite.name, []).extend(_grid_differences(pair, onnx))
    for operations in matching.operations:
        if _in_other_order(operations, matching, *sides):
            name = operations.tflite.outputs[0]
            found.setdefault(name, []).append(f"{name}: reads its inputs in another order in the ONNX file")
        for name, sentences in _constants(operations, *sides):
            if sentences is None:
                not_compared.append(name)
            else:
                found.setdefault(name, []).extend(sentences)
    return Comparison(
        compared=len(found),
        differences=tuple(dict.fromkeys(sentence for sentences in found.values() for sentence in sentences)),
        not_compared=tuple(dict.fromkeys(not_compared)),
    )


def _in_other_order(pair: OperationPair, matching: Matching, first: Moves, second: Moves) -> bool:
    """Whether an operation that is not commutative reads the same values in another order."""
    if FAMILIES.get(pair.tflite.kind) not in IN_ORDER:
        return False
    wanted = [matching.values.get(first.root(name)) for name in first.operands(pair.tflite)]
    found = [second.root(name) for name in second.operands(pair.onnx)]
    return None not in wanted and wanted != found and sorted(filter(None, wanted)) == sorted(found)


def _grid_differences(pair: TensorPair, onnx: Graph) -> Iterator[str]:
    """The tensor's own grid, and that of each operation that makes or reads it."""
    name, scales, zero_points = pair.tflite.name, pair.tflite.scales, as_int8(pair.tflite)
    assert scales is not None and pair.onnx.scales is not None
    for other_scales, other_zero_points in _grids(pair, onnx):
        if not np.array_equal(scales, other_scales):
            yield f"{name}: scale {_short(scales)} in the TFLite file, {_short(other_scales)} in the ONNX file"
        if not np.array_equal(zero_points, other_zero_points):
            yield (
                f"{name}: zero point {_short(zero_points)} in the TFLite file, {_short(other_zero_points)} in the ONNX "
                "file (both as int8)"
            )


def _grids(pair: TensorPair, onnx: Graph) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    shift = SHIFTS.get(pair.onnx.dtype, 0)
    assert pair.onnx.scales is not None
    yield pair.onnx.scales, as_int8(pair.onnx)
    for reader in onnx.consumers.get(pair.onnx.name, ()):
        if reader.kind == "DequantizeLinear" and reader.inputs[0] == pair.onnx.name:
            if is_before_marked(reader, onnx):
                continue
            grid = affine_grid(onnx.tensors, reader, reader.inputs[:3])
            if grid is not None:
                yield grid["scales"], np.unique(grid["zero_points"] - shift)


def _constants(pair: OperationPair, first: Moves, second: Moves) -> Iterator[tuple[str, list[str] | None]]:
    """(name, differences) of each constant of an operation; None where it cannot be compared."""
    one, other = pair.tflite, pair.onnx
    if one.kind in WEIGHTED and other.kind in WEIGHTED:
        kernels = [
            (operation.inputs[WEIGHTED[operation.kind][1]], side)
            for operation, side in ((one, first), (other, second))
        ]
        if all(name in side.constants for name, side in kernels):
            values = [
                kernel_of(side.graph, operation, name)
                for operation, (name, side) in zip((one, other), kernels, strict=True)
            ]
            name = kernels[0][0]
            yield name, None if None in values else list(kernel_differences(name, *values))  # type: ignore[arg-type]
            yield from _bias(one, other, first, second)
    elif FAMILIES.get(one.kind) in ELEMENTWISE:
        yield from _operands(one, other, first, second)


def _bias(one: Operation, other: Operation, first: Moves, second: Moves) -> Iterator[tuple[str, list[str] | None]]:
    names = _bias_name(one, first), _bias_name(other, second)
    wanted = constant_of(first.graph, names[0]) if names[0] else None
    found = constant_of(second.graph, names[1]) if names[1] else None
    if names[0] and wanted is not None and not names[1]:
        # One of zeros too: it adds nothing today, but the converter that loses it will lose the next one.
        yield names[0], [f"{names[0]}: not in the ONNX file"]
    elif names[1] and found is not None and not names[0]:
        name = f"{one.outputs[0]}/bias"
        yield name, [f"{name}: not in the TFLite file"] if np.any(found.values) else []
    elif names[0] and names[1]:
        compared = wanted is not None and found is not None
        yield names[0], list(kernel_differences(names[0], wanted, found)) if compared else None  # type: ignore[arg-type]


def _bias_name(operation: Operation, side: Moves) -> str:
    """The constant that is added to a product, by the operation itself or by an addition behind it."""
    place = WEIGHTED[operation.kind][2]
    own = operation.inputs[place] if place is not None and place < len(operation.inputs) else ""
    return own or side.added_bias.get(operation.outputs[0], "")


def _operands(one: Operation, other: Operation, first: Moves, second: Moves) -> Iterator[tuple[str, list[str] | None]]:
    """The constant that an elementwise operation reads, whichever way its axes lie."""
    names = [
        [name for name in operation.inputs if name in side.constants]
        for operation, side in ((one, first), (other, second))
    ]
    if not names[0]:
        return
    if len(names[0]) != 1 or len(names[1]) != 1:
        yield names[0][0], None
        return
    wanted, found = constant_of(first.graph, names[0][0]), constant_of(second.graph, names[1][0])
    if wanted is None or found is None or (wanted.scales is None) != (found.scales is None):
        yield names[0][0], None
    elif any(size > 1 for size in sorted(wanted.values.shape)[:-1]):
        # Of several long axes, which is which depends on the layout of the activation beside it.
        same = _sorted(wanted) == _sorted(found)
        yield names[0][0], [] if same else [f"{names[0][0]}: other numbers in the ONNX file"]
    else:
        yield names[0][0], list(kernel_differences(names[0][0], wanted, found))


def _sorted(constant: Constant) -> list[bytes]:
    arrays = [constant.values, *(item for item in (constant.scales, constant.zero_points) if item is not None)]
    return [np.sort(array, axis=None).tobytes() for array in arrays]


def _short(numbers: np.ndarray) -> str:
    return f"{numbers[0]}" if numbers.size == 1 else f"[{numbers[0]}, ... {numbers.size} numbers]"
