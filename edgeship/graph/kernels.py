"""Constants as an operation reads them: behind the moves and conversions in between, in one layout for all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeship.core.integers import SHIFTS
from edgeship.graph.kinds import DYNAMIC_PRODUCTS, RESHAPES, TRANSPOSES
from edgeship.graph.moves import follow
from edgeship.graph.records import LONGEST_CHAIN, Graph, Operation, Tensor, affine_grid
from edgeship.graph.stored import with_dynamic_scales

# Axes of a kernel that bring it into the order (output channels, input channels, rows, columns ...).
KERNEL_AXES: dict[str, tuple[int, ...]] = {
    "CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "TRANSPOSE_CONV": (0, 3, 1, 2),
    "CONV_3D": (4, 3, 0, 1, 2),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """Values with the scale and zero point of each of them; all three have one shape.

    `values` are integers as int8 holds them (uint8 less 128), or floats, which have no scales.
    """

    values: np.ndarray
    scales: np.ndarray | None = None
    zero_points: np.ndarray | None = None

    def moved(self, move: Operation, graph: Graph) -> Constant:
        """The same behind a Transpose or Reshape. Raises ValueError where it cannot be followed."""
        sources = {name: graph.tensors[name].data for name in move.inputs[1:] if name and graph.is_constant(name)}
        known = {name: data for name, data in sources.items() if data is not None}
        return self.mapped(lambda array: follow(move, array, known, graph))

    def mapped(self, change: Callable[[np.ndarray], np.ndarray]) -> Constant:
        """Each array changed in the same way."""
        scales = None if self.scales is None else change(self.scales)
        zero_points = None if self.zero_points is None else change(self.zero_points)
        return Constant(values=change(self.values), scales=scales, zero_points=zero_points)


def constant_of(graph: Graph, name: str) -> Constant | None:
    """What a tensor is that comes of constants by moves and conversions alone; None for any other."""
    moves: list[Operation] = []
    for _ in range(LONGEST_CHAIN):
        tensor, maker = graph.tensors[name], graph.producers.get(name)
        if tensor.data is not None and (maker is None or maker.kind == "Constant"):
            break
        if maker is None or not maker.inputs or not maker.inputs[0]:
            return None
        moves.append(maker)
        name = maker.inputs[0]
    else:
        return None
    tensor = graph.tensors[name]
    if tensor.data is None:
        return None
    # In ONNX the grid is that of the DequantizeLinear which reads it, one of the moves.
    has_grid = graph.format == "tflite" and tensor.scales is not None
    found = _with_grid(tensor.data, tensor.dtype, _grid(tensor) if has_grid else None)
    for move in reversed(moves):
        after = _after(found, move, graph)
        if after is None:
            return None
        found = after
    return found


def kernel_of(graph: Graph, operation: Operation, name: str) -> Constant | None:
    """A kernel in the order (output channels, input channels, rows, columns ...); None where it cannot be told."""
    if operation.kind in DYNAMIC_PRODUCTS:
        tensor = with_dynamic_scales(graph, operation, graph.tensors[name])
        if tensor.data is None or tensor.scales is None:
            return None
        found: Constant | None = _with_grid(tensor.data, tensor.dtype, _grid(tensor))
    else:
        found = constant_of(graph, name)
    if found is None:
        return None
    axes = _kernel_axes(operation, found.values.ndim)
    return None if axes is None else found.mapped(lambda array: array.transpose(axes))


def kernel_differences(name: str, first: Constant, second: Constant, *, file: str = "ONNX") -> Iterator[str]:
    """What of a kernel or bias is not as in the first file, in words."""
    try:
        other = second.mapped(lambda array: _like(array, first.values.shape))
    except ValueError:
        yield f"{name}: shape {first.values.shape} in the TFLite file, {second.values.shape} in the {file} file"
        return
    if (first.scales is None) != (other.scales is None):
        have, lack = ("TFLite", file) if other.scales is None else (file, "TFLite")
        yield f"{name}: integers in the {have} file, floats in the {lack} file"
        return
    if first.scales is not None and other.scales is not None and not np.array_equal(first.scales, other.scales):
        yield f"{name}: scale {_short(first.scales)} in the TFLite file, {_short(other.scales)} in the {file} file"
    if (
        first.zero_points is not None and other.zero_points is not None
        and not np.array_equal(first.zero_points, other.zero_points)
    ):
        yield (
            f"{name}: zero point {_short(first.zero_points)} in the TFLite file, {_short(other.zero_points)} in the "
            f"{file} file (both as int8)"
        )
    if not np.array_equal(first.values, other.values):
        yield f"{name}: other {'numbers' if first.scales is None else 'integers'} in the {file} file"


def _like(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array in a shape that differs by axes of length 1 alone. Raises ValueError where it differs otherwise."""
    if [size for size in array.shape if size != 1] != [size for size in shape if size != 1]:
        raise ValueError(f"{array.shape} is not {shape}")
    return array.reshape(shape)


def _kernel_axes(operation: Operation, rank: int) -> tuple[int, ...] | None:
    kind, axes = operation.kind, tuple(range(rank))
    if kind in KERNEL_AXES:
        return KERNEL_AXES[kind] if len(KERNEL_AXES[kind]) == rank else None
    if kind == "ConvTranspose":  # input channels first
        return (1, 0, *axes[2:]) if rank >= 3 and operation.attributes.get("group", 1) == 1 else None
    is_rows_first = (
        kind == "FULLY_CONNECTED" or kind not in MATRIX_PRODUCTS
        or any(operation.attributes.get(name) for name in ("transB", "adj_y"))
    )
    if rank < 2:
        return None
    return axes if is_rows_first else (*axes[:-2], axes[-1], axes[-2])


MATRIX_PRODUCTS = frozenset({
    "MatMul", "Gemm", "FusedGemm", "FusedMatMul", "BATCH_MATMUL", "MatMulInteger", "MatMulIntegerToFloat",
    "QLinearMatMul", "QGemm",
})


def _after(found: Constant, move: Operation, graph: Graph) -> Constant | None:
    """The constant behind one move or conversion; None where it is none of them."""
    if move.kind in RESHAPES | TRANSPOSES:
        return found.moved(move, graph)
    if move.kind == "DequantizeLinear":
        grid = affine_grid(graph.tensors, move, move.inputs[:3])
        return None if grid is None else _with_grid(found.values, "", grid, shift=_shift(graph, move))
    if move.kind in ("DEQUANTIZE", "Identity"):
        return found
    if move.kind in ("Cast", "CAST"):
        return found
    if move.kind == "Mul" and len(move.inputs) == 2 and graph.tensors[move.inputs[1]].data is not None:
        factor = graph.tensors[move.inputs[1]].data
        assert factor is not None
        scales = np.broadcast_to(factor, found.values.shape)
        return Constant(values=found.values, scales=scales, zero_points=np.broadcast_to(np.int64(0), scales.shape))
    return None


def _grid(tensor: Tensor) -> dict[str, Any]:
    return {"scales": tensor.scales, "zero_points": tensor.zero_points, "axis": tensor.axis}


def _shift(graph: Graph, dequantize: Operation) -> int:
    return SHIFTS.get(graph.tensors[dequantize.inputs[0]].dtype, 0)


def _with_grid(
    data: np.ndarray, dtype: str, grid: dict[str, Any] | None, *, shift: int | None = None
) -> Constant:
    """Values with a grid's scales and zero points spread over their shape."""
    if shift is None:
        shift = SHIFTS.get(dtype, 0)
        values = data.astype(np.int64) - shift if dtype.startswith(("int", "uint")) else data.astype(np.float32)
    else:
        values = data
    if grid is None:
        return Constant(values=values)

    def spread(numbers: np.ndarray) -> np.ndarray:
        axis = grid["axis"]
        if axis is not None and numbers.size > 1:
            numbers = numbers.reshape([-1 if at == axis else 1 for at in range(values.ndim)])
        elif numbers.size == 1:
            numbers = numbers.reshape(())
        return np.broadcast_to(numbers, values.shape)

    return Constant(values=values, scales=spread(grid["scales"]), zero_points=spread(grid["zero_points"] - shift))


def _short(numbers: np.ndarray) -> str:
    different = list(dict.fromkeys(numbers.reshape(-1).tolist()))
    return f"{different[0]}" if len(different) == 1 else f"[{different[0]}, ... {len(different)} numbers]"
