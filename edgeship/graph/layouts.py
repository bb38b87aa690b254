"""Where the elements of one file's tensor lie in the other file's: what was moved is followed, element by element.

TFLite has channels last, ONNX first, and a converter folds the Transposes away that it can. So the axes of a tensor do
not follow from its rank or shape: they follow from the operations, from the inputs on.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping

import numpy as np

from edgeship.graph.matching import CHANNELS_FIRST, FAMILIES, Matching, TensorPair
from edgeship.graph.moves import NOWHERE, Moves, follow
from edgeship.graph.records import LONGEST_CHAIN, Graph, Operation

GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool"})
MAX_RANK = 6  # of tensors whose axes are looked for: all orders of these are tried
Shape = tuple[int, ...]


class _Unknown(Exception):
    """The layout does not follow from what the files say."""


UNTOLD = (_Unknown, ValueError, KeyError, IndexError, TypeError)  # also what numpy says of a move that does not fit


class Layouts:
    """Of two matched files; each tensor's elements are followed when it is asked for."""

    def __init__(self, tflite: Graph, onnx: Graph, matching: Matching) -> None:
        self.first, self.second = Moves(tflite), Moves(onnx)
        self.values = matching.values
        self.pairs = {output: pair for pair in matching.operations for output in pair.tflite.outputs}
        self._roots: dict[str, tuple[tuple[int, ...] | None, Shape]] = {}
        for root in self.first.roots:  # in the file's order, so that each rests on those before it
            if root in self.values and self.first.roots[root] == root:
                with contextlib.suppress(*UNTOLD):
                    self._roots[root] = self._axes(root, _known(tflite, root))

    def order(self, pair: TensorPair) -> np.ndarray | None:
        """Of the ONNX tensor's shape: for each element its place in the flattened TFLite tensor.

        `tflite_values.reshape(-1)[order]` has the ONNX tensor's layout. None where it does not follow from the files.
        """
        places = self._places_or_none(pair.tflite.name, pair.onnx.name)
        if places is None:
            return None
        wanted, found = places
        where = np.full(max(int(wanted.max(initial=0)), int(found.max(initial=0))) + 2, NOWHERE)
        where[wanted.reshape(-1)] = np.arange(wanted.size)  # the last place is that of NOWHERE
        order: np.ndarray = where[found]
        return None if order.min(initial=0) < 0 else order

    def _places_or_none(self, one: str, other: str) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            return self._places_of_pair(one, other)
        except UNTOLD:
            return None

    def _places_of_pair(self, one: str, other: str) -> tuple[np.ndarray, np.ndarray]:
        """The places of both tensors' elements in the value that they come from, as the first file has it."""
        root = self.first.roots[one]
        if self.values.get(root) != self.second.roots[other]:
            raise _Unknown
        first, second = self._of_root(root)
        return _followed(self.first, one, first), _followed(self.second, other, second)

    def _of_root(self, root: str) -> tuple[np.ndarray, np.ndarray]:
        shape = _known(self.first.graph, root)
        first = np.arange(math.prod(shape)).reshape(shape)
        if root not in self._roots:
            raise _Unknown
        axes, shape = self._roots[root]
        return first, (first if axes is None else first.transpose(axes)).reshape(shape)

    def _axes(self, root: str, shape: Shape) -> tuple[tuple[int, ...] | None, Shape]:
        """How the other file's axes lie to this one's: (order or None for the same, the other file's shape)."""
        other = self.values[root]
        maker = self.second.graph.producers.get(other)
        if maker is None:
            return None, _known(self.second.graph, other)
        pair = self.pairs.get(root)
        if pair is None:
            return self._axes_of_composed(root, shape, other)
        if maker.kind in GLOBAL_POOLS:
            with contextlib.suppress(*UNTOLD):
                return self._axes_of_pooled(pair.tflite, maker, shape)
        if (maker.kind in CHANNELS_FIRST) != (pair.tflite.kind in CHANNELS_FIRST):
            return _channels_first(shape)
        if maker.kind in CHANNELS_FIRST:
            return None, shape
        if FAMILIES.get(maker.kind) == "product":
            return None, (*self._operand_shape(pair.tflite, maker)[:-1], shape[-1])
        return self._axes_of_operands(pair.tflite, maker, shape)

    def _operand_shape(self, one: Operation, other: Operation) -> Shape:
        _, found = self._places_of_pair(self.first.operands(one)[0], self.second.operands(other)[0])
        return found.shape

    def _axes_of_pooled(self, one: Operation, other: Operation, shape: Shape) -> tuple[tuple[int, ...] | None, Shape]:
        """Of a mean or maximum over axes that became a pool over all axes behind the second, of any number of them."""
        first, second = self._places_of_pair(self.first.operands(one)[0], self.second.operands(other)[0])
        pooled = (*second.shape[:2], *(1 for _ in second.shape[2:]))
        if len(shape) != first.ndim or first.ndim != second.ndim:
            if sum(size > 1 for size in shape) > 1 and shape != pooled[: len(shape)]:
                raise _Unknown
            return None, pooled
        axes = _axes_between(first, second)
        if tuple(shape[axis] for axis in axes) != pooled:
            raise _Unknown
        return axes, pooled

    def _axes_of_operands(self, one: Operation, other: Operation, shape: Shape) -> tuple[tuple[int, ...] | None, Shape]:
        """Of an operation that leaves the axes in the order in which its largest operand has them."""
        named: dict[str, list[str]] = {}
        for name in self.second.operands(other):
            named.setdefault(self.second.roots[name], []).append(name)
        operands = []
        for name in self.first.operands(one):
            names = named.get(self.values.get(self.first.roots[name], ""), [])
            if names:  # several where a value meets itself, moved: one after the other, as both files have them
                operands.append((name, names.pop(0) if len(names) > 1 else names[0]))
        return self._axes_of_largest(operands, shape, other)

    def _axes_of_composed(self, root: str, shape: Shape, other: str) -> tuple[tuple[int, ...] | None, Shape]:
        """Of a value that was matched by name: one operation here and several there, which leave the axes alone."""
        maker = self.first.graph.producers.get(root)
        if maker is None:
            raise _Unknown
        wanted = {self.values.get(self.first.roots[name]): name for name in self.first.operands(maker)}
        waiting, operands = [other], []
        for _ in range(LONGEST_CHAIN):
            if not waiting:
                break
            made_by = self.second.graph.producers.get(waiting.pop())
            for name in self.second.operands(made_by) if made_by is not None else ():
                source = self.second.roots[name]
                if source in wanted:
                    operands.append((wanted[source], name))
                else:
                    waiting.append(source)
        return self._axes_of_largest(operands, shape, None)

    def _axes_of_largest(
        self, operands: list[tuple[str, str]], shape: Shape, other: Operation | None
    ) -> tuple[tuple[int, ...] | None, Shape]:
        places = [found for names in operands if (found := self._places_or_none(*names)) is not None]
        if not places:
            raise _Unknown
        first, second = max(places, key=lambda pair: (pair[0].size, pair[0].ndim))  # (16, 16) is added to (1, 16, 16)
        if other is not None and other.kind.startswith("Reduce") and first.ndim != len(shape):
            return None, _reduced(other, second.shape, shape, self.second.graph)
        if first.ndim != second.ndim or first.ndim != len(shape):
            raise _Unknown
        axes = _axes_between(first, second)
        return axes, tuple(shape[axis] for axis in axes)


def _followed(side: Moves, name: str, places: np.ndarray) -> np.ndarray:
    """The places behind the moves from a value's root to `name`."""
    constants = _Constants(side.graph)
    for move in side.chain(name):
        places = follow(move, places, constants, side.graph)
    return places


class _Constants(Mapping[str, np.ndarray]):
    """The values of a graph's constants by name."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __getitem__(self, name: str) -> np.ndarray:
        data = self.graph.tensors[name].data
        if data is None:
            raise KeyError(name)
        return data

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (name for name in self.graph.tensors if self.graph.is_constant(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _known(graph: Graph, name: str) -> Shape:
    shape = graph.tensors[name].shape
    if shape is None or any(size is None or size < 0 for size in shape):
        raise _Unknown
    return tuple(size for size in shape if size is not None)


def _channels_first(shape: Shape) -> tuple[tuple[int, ...] | None, Shape]:
    """Of a result with channels last: (batch, rows, columns, channels), or a mean over rows and columns."""
    if len(shape) == 2:
        return None, (*shape, 1, 1)
    axes = (0, len(shape) - 1, *range(1, len(shape) - 1))
    return axes, tuple(shape[axis] for axis in axes)


def _axes_between(first: np.ndarray, second: np.ndarray) -> tuple[int, ...]:
    """The order of axes that makes `second` of `first`; axes of length 1 keep theirs where that is possible."""
    if first.ndim > MAX_RANK:
        raise _Unknown
    for axes in itertools.permutations(range(first.ndim)):
        if first.transpose(axes).shape == second.shape and np.array_equal(first.transpose(axes), second):
            return axes
    raise _Unknown


def _reduced(reduce: Operation, before: Shape, after: Shape, graph: Graph) -> Shape:
    """What an ONNX Reduce... leaves, of a value of at most one long axis in the other file."""
    if sum(size > 1 for size in after) > 1:
        raise _Unknown
    axes = list(reduce.attributes.get("axes", ()))
    if len(reduce.inputs) > 1 and reduce.inputs[1]:
        axes = _Constants(graph)[reduce.inputs[1]].reshape(-1).tolist()
    gone = {int(axis) % len(before) for axis in axes} or set(range(len(before)))
    if reduce.attributes.get("keepdims", 1):
        return tuple(1 if axis in gone else size for axis, size in enumerate(before))
    return tuple(size for axis, size in enumerate(before) if axis not in gone)
