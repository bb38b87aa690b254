"""Products of two tensors, however their axes are named -> products of matrices, with transposes and reshapes around.

LiteRT and ONNX Runtime have an integer kernel for the products of matrices in two tensors (BATCH_MATMUL,
QLinearMatMul). Of the axes of two tensors some are in both and in the result (one product for each of their positions),
some in both and summed over, and some in one of them alone: the rows and the columns of the result.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from typing import Any

from tf_keras import layers

from edgeship.model.flat_layers import MatMul
from edgeship.model.keras2 import calls_of
from edgeship.quantize.simplifying.replacement import Replacement

Sizes = dict[str, int]
Groups = tuple[str, str, str]


@dataclass(frozen=True)
class Axes:
    """The letters of an equation of two tensors by what becomes of them; the first of all is the batch."""

    first: str
    second: str
    result: str

    @property
    def common(self) -> str:
        return "".join(letter for letter in self.first if letter in self.second and letter in self.result)

    @property
    def summed(self) -> str:
        return "".join(letter for letter in self.first if letter in self.second and letter not in self.result)

    @property
    def rows(self) -> str:
        return "".join(letter for letter in self.first if letter not in self.second)

    @property
    def columns(self) -> str:
        return "".join(letter for letter in self.second if letter not in self.first)

    @property
    def is_product(self) -> bool:
        """Whether each axis is one of the four kinds, and the batch stays in front."""
        unique = all(len(set(letters)) == len(letters) for letters in (self.first, self.second, self.result))
        whole = {*self.result} == {*self.common, *self.rows, *self.columns}
        return unique and whole and self.first[:1] == self.second[:1] == self.result[:1] != ""


def einsum(layer: Any) -> Replacement | None:
    """Return what stands for an einsum of two tensors; None for another one."""
    inputs, arrow, result = layer.equation.replace(" ", "").partition("->")
    labels = inputs.split(",")
    tensors = layer.get_input_at(0)
    if len(labels) != 2 or len(layer.constants) != 2 or not arrow or not isinstance(tensors, list) or len(tensors) != 2:
        return None
    free = "".join(letter for letter in string.ascii_letters if letter not in layer.equation)
    counts = [tensor.shape.rank - len(label.replace("...", "")) for tensor, label in zip(tensors, labels, strict=True)]
    most = max(counts)
    # An ellipsis stands for the axes that are left, counted from the last.
    first, second = (
        label.replace("...", free[most - count : most]) for label, count in zip(labels, counts, strict=True)
    )
    return _product(layer, Axes(first, second, result.replace("...", free[:most])))


def dot(layer: Any) -> Replacement | None:
    """Return what stands for a Dot; None where it normalizes its inputs."""
    tensors = layer.get_input_at(0)
    ranks = [tensor.shape.rank for tensor in tensors]
    given = [layer.axes] * 2 if isinstance(layer.axes, int) else list(layer.axes)
    axes = [axis % rank for axis, rank in zip(given, ranks, strict=True)]
    if layer.normalize or 0 in axes:
        return None
    first = list(string.ascii_lowercase[: ranks[0]])
    second = ["a", *string.ascii_uppercase[1 : ranks[1]]]
    second[axes[1]] = first[axes[0]]
    rest = [letter for letter in (*first[1:], *second[1:]) if letter != first[axes[0]]]
    return _product(layer, Axes("".join(first), "".join(second), "".join(["a", *rest])), at_least_one=True)


def _product(layer: Any, axes: Axes, *, at_least_one: bool = False) -> Replacement | None:
    """A product of matrices, or None. With `at_least_one` a result of no axes but the batch gets one of size 1."""
    shapes = {tuple(map(tuple, node.input_shapes)) for node in calls_of(layer)}
    if not axes.is_product or len(shapes) != 1:
        return None
    tensors = layer.get_input_at(0)
    sizes: Sizes = {}
    for letters, tensor in zip((axes.first, axes.second), tensors, strict=True):
        if len(letters) != tensor.shape.rank or None in tensor.shape[1:]:
            return None
        for letter, size in zip(letters[1:], tensor.shape[1:], strict=True):
            if sizes.setdefault(letter, size) != size:  # one of them is spread over the other
                return None

    def build(parts: Replacement, given: Any) -> Any:
        return _built(parts, *_ordered(axes, *given), sizes, at_least_one=at_least_one)

    return Replacement(layer, build)


def _ordered(axes: Axes, first: Any, second: Any) -> tuple[Axes, Any, Any]:
    """The two so that the rows come before the columns in the result."""
    turned = Axes(axes.second, axes.first, axes.result)
    if axes.result[1:] == turned.common[1:] + turned.rows + turned.columns:
        return turned, second, first
    return axes, first, second


def _built(parts: Replacement, axes: Axes, first: Any, second: Any, sizes: Sizes, *, at_least_one: bool) -> Any:
    common, summed, rows, columns = axes.common[1:], axes.summed, axes.rows, axes.columns
    # Matrices may lie either way: as they do, no transpose is needed.
    turned = {
        "transpose_a": axes.first[1:] == common + summed + rows and bool(rows),
        "transpose_b": axes.second[1:] == common + columns + summed and bool(columns),
    }
    one = _matrices(parts, "first", first, axes.first[1:], _two(common, rows, summed, turned["transpose_a"]), sizes)
    groups = _two(common, summed, columns, turned["transpose_b"])
    two = _matrices(parts, "second", second, axes.second[1:], groups, sizes)
    shape = [sizes[letter] for letter in axes.result[1:]] or [1] * at_least_one
    steps = _back((common, rows, columns), axes.result[1:], shape, sizes)
    tensor = parts.layer("product" if steps else "", MatMul, **turned)([one, two])
    for place, (kind, argument) in enumerate(steps):
        tensor = parts.layer(f"result{place + 1}" if place + 1 < len(steps) else "", kind, argument)(tensor)
    return tensor


def _two(common: str, one: str, other: str, turned: bool) -> Groups:
    return (common, other, one) if turned else (common, one, other)


def _matrices(parts: Replacement, name: str, tensor: Any, letters: str, groups: Groups, sizes: Sizes) -> Any:
    """A tensor with one axis for each group of axes, the first left out where there is none."""
    wanted = "".join(groups)
    if letters != wanted:
        order = [letters.index(letter) + 1 for letter in wanted]
        tensor = parts.layer(f"{name}_transposed", layers.Permute, order)(tensor)
    shape = _grouped(groups, sizes)
    if tensor.shape[1:].as_list() != shape:
        tensor = parts.layer(f"{name}_reshaped", layers.Reshape, shape)(tensor)
    return tensor


def _grouped(groups: Groups, sizes: Sizes) -> list[int]:
    return [math.prod(sizes[letter] for letter in group) for group in (groups if groups[0] else groups[1:])]


def _back(groups: Groups, wanted: str, shape: list[int], sizes: Sizes) -> list[tuple[Any, list[int]]]:
    """The layers, with their arguments, that give a product of matrices the result's axes."""
    made, now, steps = "".join(groups), _grouped(groups, sizes), []
    if made != wanted:
        whole = [sizes[letter] for letter in made]
        if now != whole:
            steps.append((layers.Reshape, whole))
        steps.append((layers.Permute, [made.index(letter) + 1 for letter in wanted]))
        now = [sizes[letter] for letter in wanted]
    if now != shape:
        steps.append((layers.Reshape, shape))
    return steps
