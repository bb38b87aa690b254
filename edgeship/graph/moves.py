"""Operations that only move, convert or clip values: which tensor a value comes from, and where its elements went.

Two files of one network differ in these most: what is a Transpose in one is folded away in the other. So what is
compared between files are the values that other operations compute, wherever they were moved since.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeship.graph.kinds import PADS, RESHAPES, SAME_PLACE, TRANSPOSES, WEIGHTED
from edgeship.graph.records import Graph, Operation

SUMS = frozenset({"ADD", "Add"})
NOWHERE = -1  # the place of an element that padding put there


class Moves:
    """Of one graph: constants and what is made of constants alone, and the root of every other value.

    A root is an input of the graph, or what an operation computes. Where a bias is an addition behind a product, the
    product's result is the root of the sum.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constants = {name for name, tensor in graph.tensors.items() if tensor.data is not None}
        self.roots: dict[str, str] = {name: name for name in graph.inputs}
        self.added_bias: dict[str, str] = {}  # output of a product -> the constant that an addition adds to it
        self._dequantizing: set[str] = set()
        for operation in graph.operations:
            self._look_at(operation)

    def root(self, name: str) -> str:
        """What computes the values of `name`: an input, or an operation's result."""
        return self.roots.get(name, name)

    def source(self, operation: Operation) -> str | None:
        """The one input whose values the operation's result has; None for an operation that computes."""
        kind, inputs = operation.kind, operation.inputs
        if not inputs or not inputs[0]:
            return None
        if kind in RESHAPES | TRANSPOSES | PADS | SAME_PLACE:
            return inputs[0]
        if kind == "LeakyRelu" and operation.attributes.get("alpha") == 1.0:  # a change of grids, by a table
            return inputs[0]
        if operation.outputs and operation.outputs[0] in self._dequantizing:
            return inputs[0]
        if kind in SUMS and self._adds_bias(operation):
            return next(name for name in inputs if name not in self.constants)
        return None

    def computing(self) -> list[Operation]:
        """The operations that compute values out of values, in the file's order."""
        return [
            operation for operation in self.graph.operations
            if operation.outputs and self.source(operation) is None and not self.constants.issuperset(operation.outputs)
        ]

    def operands(self, operation: Operation) -> tuple[str, ...]:
        """Its inputs that are no constants."""
        return tuple(name for name in operation.inputs if name and name not in self.constants)

    def chain(self, name: str) -> list[Operation]:
        """The moves from the root of `name` to `name`."""
        found: list[Operation] = []
        while name != self.roots.get(name, name):
            operation = self.graph.producers[name]
            found.append(operation)
            name = self.source(operation) or self.roots[name]
        return found[::-1]

    def _look_at(self, operation: Operation) -> None:
        given = [name for name in operation.inputs if name]
        if self.constants.issuperset(given) and operation.kind != "Constant":
            self.constants.update(name for name in operation.outputs if name)
            return
        self._note_dequantizing(operation)
        source = self.source(operation)
        for name in operation.outputs:
            if name:
                self.roots[name] = name if source is None else self.roots.get(source, source)

    def _note_dequantizing(self, operation: Operation) -> None:
        """(x - zero point) * scale as Cast, Sub and Mul: what stands before layers kept in float."""
        if operation.kind not in ("Sub", "Mul") or len(operation.inputs) != 2:
            return
        source, constant = operation.inputs
        tensor, maker = self.graph.tensors[constant], self.graph.producers.get(source)
        if tensor.data is None or tensor.data.size != 1 or maker is None:
            return
        from_integers = maker.kind == "Cast" and self.graph.tensors[maker.inputs[0]].is_integer
        if from_integers or (operation.kind == "Mul" and maker.kind == "Sub" and source in self._dequantizing):
            self._dequantizing.add(operation.outputs[0])

    def _adds_bias(self, operation: Operation) -> bool:
        values = self.operands(operation)
        if len(operation.inputs) != 2 or len(values) != 1:
            return False
        product = self.roots.get(values[0])
        maker = self.graph.producers.get(product or "")
        if product is None or maker is None or maker.kind not in WEIGHTED or product in self.constants:
            return False
        _, weights, bias = WEIGHTED[maker.kind]
        if maker.inputs[weights] not in self.constants or (bias is not None and any(maker.inputs[bias : bias + 1])):
            return False
        constant = next(name for name in operation.inputs if name in self.constants)
        known = self.added_bias.setdefault(product, constant)
        return known == constant


def follow(operation: Operation, places: np.ndarray, constants: Mapping[str, np.ndarray], graph: Graph) -> np.ndarray:
    """Where the elements are after a move.

    Args:
        places: an integer array of the input's shape.
        constants: values of the constants that say how to move.

    Raises:
        ValueError: the move depends on more than the file says, or does not fit the shape.
    """
    kind = operation.kind
    if kind in TRANSPOSES:
        axes = operation.attributes.get("perm")
        if kind == "TRANSPOSE":
            axes = constants[operation.inputs[1]].reshape(-1).tolist()
        return places.transpose(axes)
    if kind in PADS:
        return _padded(operation, places, constants)
    if kind in RESHAPES:
        if not kind.isupper():
            return places.reshape(_shape(operation, places.shape, constants))
        sizes = graph.tensors[operation.outputs[0]].shape or ()
        return places.reshape([-1 if size is None else size for size in sizes])
    return places


def _padded(operation: Operation, places: np.ndarray, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    amounts = constants[operation.inputs[1]].astype(int)
    amounts = amounts.reshape(2, -1).T if operation.kind == "Pad" else amounts
    mode = str(operation.attributes.get("mode", "constant")).lower()
    if mode == "constant":
        return np.pad(places, amounts, constant_values=NOWHERE)
    return np.pad(places, amounts, mode=mode)  # type: ignore[call-overload, no-any-return]


def _shape(
    operation: Operation, before: tuple[int, ...], constants: Mapping[str, np.ndarray]
) -> tuple[int, ...]:
    """What an ONNX Reshape, Flatten, Squeeze or Unsqueeze makes of a shape."""
    given = operation.inputs[1] if len(operation.inputs) > 1 else ""
    numbers = constants[given].reshape(-1).tolist() if given else list(operation.attributes.get("axes", ()))
    if operation.kind == "Reshape":
        keep = not operation.attributes.get("allowzero")
        return tuple(before[at] if size == 0 and keep else int(size) for at, size in enumerate(numbers))
    if operation.kind == "Flatten":
        axis = int(operation.attributes.get("axis", 1)) % (len(before) + 1)
        return int(np.prod(before[:axis])), int(np.prod(before[axis:]))
    if operation.kind == "Unsqueeze":
        places = {int(axis) % (len(before) + len(numbers)) for axis in numbers}
        rest = iter(before)
        return tuple(1 if at in places else next(rest) for at in range(len(before) + len(numbers)))
    gone = {int(axis) % len(before) for axis in numbers} or {at for at, size in enumerate(before) if size == 1}
    return tuple(size for at, size in enumerate(before) if at not in gone)
