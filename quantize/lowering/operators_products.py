"""Products with a matrix, or with a tensor of more axes, of a layer's own or constant -> dense layers."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.lowering.operator_arguments import Call, Owned, Replacement, Result, as_array, is_tensor

Kernel = Owned | np.ndarray


def kernel_of(value: Any) -> Kernel | None:
    """A weight or a constant in its own shape, or None: a tensor, or a variable that was reshaped before."""
    if isinstance(value, Owned):
        return value if value.used_shape == value.shape else None
    return None if is_tensor(value) else np.asarray(value, np.float32)


def trains(kernel: Kernel) -> bool:
    return isinstance(kernel, Owned) and kernel.trainable


def _matmul(call: Call) -> Result:
    if is_tensor(call["a"]) and is_tensor(call["b"]):
        return _matmul_of_tensors(call)
    tensor, kernel = call["a"], kernel_of(call["b"])
    flags = ("transpose_a", "adjoint_a", "adjoint_b", "a_is_sparse", "b_is_sparse")
    if kernel is None or not is_tensor(tensor) or any(call.get(flag) for flag in flags):
        return None
    if len(kernel.shape) != 2:
        return None
    lead = _letters(tensor.shape.rank - 1)
    return _contracted(tensor, kernel, f"{lead}y", "zy" if call.get("transpose_b") else "yz", f"{lead}z")


def _matmul_of_tensors(call: Call) -> Result:
    first, second = call["a"], call["b"]
    if first.shape.rank != second.shape.rank or first.shape.rank < 3 or first.dtype != second.dtype:
        return None  # of rank 2 the batch is multiplied
    turned = {f"transpose_{side}": bool(call.get(f"transpose_{side}") or call.get(f"adjoint_{side}")) for side in "ab"}
    return Replacement(flat_layers.MatMul(**turned, name="matmul"), [first, second])


def _tensordot(call: Call) -> Result:
    tensor, kernel = call["a"], kernel_of(call["b"])
    if kernel is None or not is_tensor(tensor):
        return None
    rank, axes = tensor.shape.rank, np.asarray(call["axes"])
    if axes.ndim == 0:
        count = int(axes)
        ones, others = list(range(rank - count, rank)), list(range(count))
    else:
        ones, others = (list(map(int, np.atleast_1d(item))) for item in axes)
    first = _letters(rank)
    second = list(string.ascii_uppercase[: len(kernel.shape)])
    for one, other in zip(ones, others, strict=True):
        second[other] = first[one]
    rest = [letter for letter in (*first, *second) if (letter in first) != (letter in second)]
    return _contracted(tensor, kernel, first, "".join(second), "".join(rest))


def _einsum(call: Call) -> Result:
    """A tensor and a kernel, such as "btc,cd->btd", "...c,dc->...d", "bhwc,hwcd->bd"; else the operator as a layer."""
    return _einsum_of_kernel(call) or _any_einsum(call)


def _einsum_of_kernel(call: Call) -> Result:
    operands = list(call["inputs"])
    inputs, arrow, output = str(call["equation"]).replace(" ", "").partition("->")
    labels = inputs.split(",")
    if len(operands) != 2 or len(labels) != 2 or not arrow or is_tensor(operands[0]) == is_tensor(operands[1]):
        return None
    if is_tensor(operands[1]):
        operands, labels = operands[::-1], labels[::-1]
    tensor, kernel = operands[0], kernel_of(operands[1])
    rest = tensor.shape.rank - len(labels[0].replace("...", ""))
    if kernel is None or "..." in labels[1] or ("..." in output and "..." not in labels[0]) or rest < 0:
        return None
    others = "".join(letter for letter in string.ascii_letters if letter not in inputs + output)[:rest]
    return _contracted(tensor, kernel, labels[0].replace("...", others), labels[1], output.replace("...", others))


def _contracted(tensor: Any, kernel: Kernel, first: str, second: str, output: str) -> Result:
    """A dense layer over the axes that a tensor and a kernel share, with what brings these to the end and back.

    Args:
        first, second, output: a letter for each axis of the tensor (the batch first), the kernel and the result.

    Returns:
        None for a product that is none of a matrix: an axis that both keep, or one that is summed up or repeated.
    """
    lead = [letter for letter in first if letter not in second]
    shared = [letter for letter in first if letter in second]
    new = [letter for letter in second if letter not in first]
    unique = all(len(set(letters)) == len(letters) for letters in (first, second, output))
    fits = (len(first), len(second)) == (tensor.shape.rank, len(kernel.shape)) and unique and shared and new
    if not fits or lead[:1] != [first[0]] or output[:1] != first[0] or set(output) != {*lead, *new}:
        return None
    sizes = dict(zip(second, kernel.shape, strict=True)) | dict(zip(first, tensor.shape, strict=True))
    if len(shared) + len(new) > 2 and any(sizes[letter] is None for letter in (*lead[1:], *shared)):
        return None
    result = _permuted(tensor, first, [*lead, *shared])
    if len(shared) > 1:
        joined = [*(sizes[letter] for letter in lead[1:]), math.prod(sizes[letter] for letter in shared)]
        result = Replacement(layers.Reshape(joined, name="joined"), result)
    matrix = _matrix(kernel, [second.index(letter) for letter in (*shared, *new)], len(shared))
    made = layers.Dense(matrix.shape[1], use_bias=False, trainable=trains(kernel), name="dense")
    result = Replacement(made, result, (matrix,))
    if len(new) > 1:
        result = Replacement(layers.Reshape([sizes[letter] for letter in (*lead, *new)][1:], name="split"), result)
    return _permuted(result, [*lead, *new], output)


def is_of_matrix(equation: str) -> bool:
    """Whether an equation of a tensor and a kernel is the product with a matrix."""
    inputs, _, output = equation.replace(" ", "").partition("->")
    first, _, second = inputs.partition(",")
    plain = [labels.replace("...", "") for labels in (first, second, output)]
    unique = all(len(set(labels)) == len(labels) for labels in plain)
    lead = {*plain[0]} - {*plain[1]}
    new = {*plain[1]} - {*plain[0]}
    starts = (first.startswith("...") and output.startswith("...")) or (first[:1] == output[:1] and first[:1] in lead)
    return unique and bool(new) and len(new) < len(plain[1]) and starts and {*plain[2]} == lead | new


def _permuted(result: Any, letters: Sequence[str], wanted: Sequence[str]) -> Any:
    axes = [list(letters).index(letter) for letter in wanted]
    if axes == sorted(axes):
        return result
    return Replacement(layers.Permute(axes[1:], name="transpose"), result)


def _matrix(kernel: Kernel, axes: list[int], rows: int) -> Kernel:
    """The kernel with its axes in another order, as a matrix of the first `rows` of them by the others."""
    if axes == [0, 1]:
        return kernel
    values = kernel.numpy() if isinstance(kernel, Owned) else kernel
    height = math.prod(values.shape[axis] for axis in axes[:rows])
    values = values.transpose(axes).reshape(height, -1)
    # A weight that the layer owns from here on.
    return Owned(kernel.variable, values.shape, values, kernel.variables) if isinstance(kernel, Owned) else values


def _letters(count: int) -> str:
    return string.ascii_lowercase[:count]


def _any_einsum(call: Call) -> Result:
    operands = list(call["inputs"])
    if any(isinstance(item, Owned) for item in operands):
        return None
    tensors = [item for item in operands if is_tensor(item)]
    constants = [None if is_tensor(item) else as_array(item) for item in operands]
    return Replacement(flat_layers.Einsum(call["equation"], constants, name="einsum"), tensors)


PRODUCTS: dict[str, Callable[[Call], Result]] = {
    "linalg.matmul": _matmul,
    "tensordot": _tensordot,
    "linalg.tensordot": _tensordot,
    "einsum": _einsum,
    "linalg.einsum": _einsum,
}
