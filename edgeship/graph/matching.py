"""Which tensors and operations of two files of one network belong together: by structure, with names as a help.

    match(tflite, onnx)                            what belongs together, and what could not be matched
    graph/differences.py                           what is matched and not the same, in sentences
    graph/layouts.py                               where the elements of one tensor lie in the other

From the inputs on, an operation is matched with the one of the same family that reads the same values; where several
do (two branches of one tensor), their names tell, then their kernels. Moves (Transpose, Reshape, Pad, conversions,
activations) are looked through. Where the structure differs (one operation in one file, three in the other), a name
that both files have is where the walk goes on. What is matched by neither is in `unmatched`: not compared, which is no
difference by itself.

Both files may be of either format; the sentences call them the TFLite and the ONNX file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edgeship.core.integers import SHIFTS
from edgeship.graph.kernels import kernel_differences, kernel_of
from edgeship.graph.kinds import WEIGHTED
from edgeship.graph.moves import Moves
from edgeship.graph.records import Graph, Operation, Tensor

# Kind -> family. Operations of one family compute the same; what is in none is matched by name alone.
FAMILIES: dict[str, str] = {
    kind: family for family, kinds in {
        "product": (
            "CONV_2D DEPTHWISE_CONV_2D CONV_3D FULLY_CONNECTED BATCH_MATMUL Conv FusedConv ConvInteger QLinearConv "
            "Gemm FusedGemm MatMul FusedMatMul MatMulInteger QLinearMatMul QGemm"
        ),
        "transposed product": "TRANSPOSE_CONV ConvTranspose",
        "sum": "ADD Add QLinearAdd", "difference": "SUB Sub", "multiplication": "MUL Mul QLinearMul",
        "division": "DIV Div", "smallest": "MINIMUM Min", "largest": "MAXIMUM Max",
        "concatenation": "CONCATENATION PACK Concat QLinearConcat",
        "mean": (
            "MEAN AVERAGE_POOL_2D ReduceMean GlobalAveragePool AveragePool QLinearGlobalAveragePool "
            "QLinearAveragePool QLinearReduceMean"
        ),
        "maximum": "MAX_POOL_2D REDUCE_MAX MaxPool GlobalMaxPool ReduceMax",
        "total": "SUM ReduceSum", "softmax": "SOFTMAX Softmax QLinearSoftmax",
        "sigmoid": "LOGISTIC Sigmoid QLinearSigmoid", "tanh": "TANH Tanh", "leaky": "LEAKY_RELU LeakyRelu",
        "prelu": "PRELU PRelu", "part": "STRIDED_SLICE SLICE SPLIT SPLIT_V Slice Split",
        "resize": "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR Resize",
        "depth to space": "DEPTH_TO_SPACE DepthToSpace", "space to depth": "SPACE_TO_DEPTH SpaceToDepth",
        "gather": "GATHER Gather",
    }.items() for kind in kinds.split()
}
IN_ORDER = frozenset({"difference", "division", "concatenation"})  # what they read may not change places
GRID_DTYPES = frozenset({"int8", "uint8", "int16", "uint16"})
# These have their channels first in ONNX and last in TFLite.
CHANNELS_FIRST = frozenset({
    "Conv", "FusedConv", "ConvInteger", "QLinearConv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool",
    "GlobalMaxPool", "QLinearAveragePool", "QLinearGlobalAveragePool", "Resize", "DepthToSpace", "SpaceToDepth",
})
MAX_ROUNDS = 8  # of walking through the file: each goes on from what the one before found


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorPair:
    """Two activations of one value on one grid, wherever it was moved in between."""

    tflite: Tensor
    onnx: Tensor
    same_integers: bool = True  # False: the ONNX file clips those of its tensor behind it


@dataclass(frozen=True, kw_only=True, eq=False)
class OperationPair:
    """Two operations that compute the same of the same values."""

    tflite: Operation
    onnx: Operation
    name: str  # of the TFLite operation's result, without what the converter appends: how it is called in a sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class Matching:
    """What belongs together in two files."""

    pairs: tuple[TensorPair, ...]  # in the TFLite file's order; a tensor may have several counterparts
    operations: tuple[OperationPair, ...]
    unmatched: tuple[str, ...]  # names of quantized tensors and of operations with weights, of the TFLite file
    values: dict[str, str] = field(default_factory=dict, repr=False)  # what one file computes -> what the other does


def match(tflite: Graph, onnx: Graph) -> Matching:
    """Find what belongs together; in time that grows with the files' size."""
    walk = _Walk(tflite, onnx)
    walk.run()
    pairs, lonely = _pairs(walk)
    operations = tuple(
        OperationPair(tflite=one, onnx=other, name=one.outputs[0]) for one, other in walk.operations()
    )
    matched = {id(pair.tflite) for pair in operations}
    weights = [
        operation.outputs[0] for operation in walk.first.computing()
        if id(operation) not in matched and _kernel_name(walk.first, operation)
    ]
    return Matching(
        pairs=pairs, operations=operations, unmatched=tuple(dict.fromkeys((*lonely, *weights))), values=walk.values,
    )


class _Walk:
    """Both graphs, and what is known to belong together so far."""

    def __init__(self, first: Graph, second: Graph) -> None:
        self.first, self.second = Moves(first), Moves(second)
        self.values: dict[str, str] = {}  # root -> root
        self.taken: dict[str, str] = {}  # the other way round
        self.found: dict[int, tuple[Operation, Operation]] = {}
        self.claimed: set[int] = set()
        self.readers: defaultdict[tuple[str, ...], list[Operation]] = defaultdict(list)
        for operation in self.second.computing():
            self.readers[self._roots(self.second, operation)].append(operation)

    def run(self) -> None:
        """Walk through the first file until nothing new is found."""
        for one, other in _ends(self.first.graph.inputs, self.second.graph.inputs):
            self.pair_values(one, other)
        for _ in range(MAX_ROUNDS):
            # The next only where the ones before lead no further: then the walk goes on by structure from there.
            if not any(self._sweep(step) for step in (self.by_structure, self.by_name, self.by_kernel)):
                break

    def operations(self) -> list[tuple[Operation, Operation]]:
        """What was matched, in the first file's order."""
        order = {id(operation): at for at, operation in enumerate(self.first.graph.operations)}
        return sorted(self.found.values(), key=lambda pair: order[id(pair[0])])

    def by_structure(self, operation: Operation) -> bool:
        """Match an operation all of whose operands are matched, with one that reads the same."""
        roots = [self.values.get(self.first.root(name)) for name in self.first.operands(operation)]
        if not roots or None in roots or FAMILIES.get(operation.kind) is None:
            return False
        candidates = [
            other for other in self.readers.get(tuple(sorted(filter(None, roots))), ())
            if id(other) not in self.claimed and FAMILIES.get(other.kind) == FAMILIES[operation.kind]
            and bool(_kernel_name(self.first, operation)) == bool(_kernel_name(self.second, other))
        ]
        other = self._choose(operation, candidates)
        return other is not None and self.pair_operations(operation, other)

    def by_name(self, operation: Operation) -> bool:
        """Match an operation by the name of its result, where the other file has that name."""
        if operation.outputs[0] in self.values:
            return False
        result = operation.outputs[0]
        if result not in self.second.roots or result in self.second.constants:
            return False
        root = self.second.roots[result]
        if root in self.taken:
            return False
        maker = self.second.graph.producers.get(root)
        if maker is not None and FAMILIES.get(maker.kind) == FAMILIES.get(operation.kind, "none"):
            return id(maker) not in self.claimed and self.pair_operations(operation, maker)
        return self.pair_values(result, root)

    def by_kernel(self, operation: Operation) -> bool:
        """Match a product by its kernel, where one product alone has that: parts of one tensor look alike."""
        if not _kernel_name(self.first, operation):
            return False
        candidates = [
            other for other in self.second.computing()
            if id(other) not in self.claimed and _kernel_name(self.second, other) and self._has_kernel(operation, other)
        ]
        return len(candidates) == 1 and self.pair_operations(operation, candidates[0])

    def pair_operations(self, one: Operation, other: Operation) -> bool:
        """Note two operations, their results, and what they read."""
        self.found[id(one)] = one, other
        self.claimed.add(id(other))
        for first, second in zip(one.outputs, other.outputs, strict=False):
            if first and second:
                self.pair_values(first, second)
        read = self.first.operands(one), self.second.operands(other)
        if len(read[0]) == len(read[1]) and (len(read[0]) == 1 or FAMILIES.get(one.kind) in IN_ORDER):
            for first, second in zip(*read, strict=True):
                self.pair_values(self.first.root(first), self.second.root(second))
        return True

    def pair_values(self, one: str, other: str) -> bool:
        """Note that two roots hold the same values, unless one of them is known to hold others'."""
        if one in self.values or other in self.taken:
            return False
        self.values[one], self.taken[other] = other, one
        return True

    def _sweep(self, step) -> bool:  # type: ignore[no-untyped-def]
        found = [step(operation) for operation in self.first.computing() if id(operation) not in self.found]
        return any(found)

    def _choose(self, operation: Operation, candidates: list[Operation]) -> Operation | None:
        """The one that alone has the name, or else the kernel, or else is alone; None where that is not told."""
        tests = (
            lambda other: self._has_name(operation, other),
            lambda other: self._has_kernel(operation, other),
            lambda other: True,
        )
        for test in tests:
            fit = [other for other in candidates if test(other)]
            if len(fit) == 1:
                return fit[0]
            candidates = fit or candidates
        return None

    def _has_name(self, one: Operation, other: Operation) -> bool:
        """Whether what comes of the one is called as what comes of the other, or begins so."""
        names = [name for name in one.outputs if name]
        results = [name for output in other.outputs for name in self._called(output)]
        return any(result == name or result.startswith(f"{name}/") for result in results for name in names)

    def _called(self, output: str) -> Iterator[str]:
        """A result's names, from its root to the integers made of it."""
        for _ in range(4):
            yield output
            readers = self.second.graph.consumers.get(output, ())
            if len(readers) != 1 or self.second.source(readers[0]) is None:
                return
            output = readers[0].outputs[0]

    def _has_kernel(self, one: Operation, other: Operation) -> bool:
        names = _kernel_name(self.first, one), _kernel_name(self.second, other)
        if not names[0] or not names[1]:
            return False
        kernels = kernel_of(self.first.graph, one, names[0]), kernel_of(self.second.graph, other, names[1])
        return kernels[0] is not None and kernels[1] is not None and not any(kernel_differences("", *kernels))  # type: ignore[arg-type]

    @staticmethod
    def _roots(side: Moves, operation: Operation) -> tuple[str, ...]:
        return tuple(sorted(side.root(name) for name in side.operands(operation)))


def _ends(first: tuple[str, ...], second: tuple[str, ...]) -> list[tuple[str, str]]:
    """Inputs or outputs that belong together: by name where both files have the same names, else by position."""
    if set(first) == set(second):
        return [(name, name) for name in first]
    return list(zip(first, second, strict=False))


def _kernel_name(side: Moves, operation: Operation) -> str:
    """The constant kernel that an operation reads; "" where it has none."""
    if operation.kind not in WEIGHTED:
        return ""
    weights = operation.inputs[WEIGHTED[operation.kind][1]]
    return weights if weights in side.constants else ""


def _pairs(walk: _Walk) -> tuple[tuple[TensorPair, ...], list[str]]:
    """Quantized activations of matched values, and the names of those in the first file that have no counterpart."""
    first, second = _by_root(walk.first), _by_root(walk.second)
    pairs: list[TensorPair] = []
    lonely: list[str] = []
    for root, tensors in first.items():
        others = second.get(walk.values.get(root, ""), [])
        found = [
            TensorPair(tflite=one, onnx=other, same_integers=not _is_clipped(walk.second.graph, other))
            for one, other in _pairs_of_value(tensors, others)
        ]
        paired = {id(pair.tflite) for pair in found}
        pairs += found
        lonely += [tensor.name for tensor in tensors if id(tensor) not in paired]
    return tuple(pairs), lonely


def _by_root(side: Moves) -> dict[str, list[Tensor]]:
    """Activations with a grid, by what computes their values, in the file's order."""
    found: defaultdict[str, list[Tensor]] = defaultdict(list)
    for name, root in side.roots.items():
        tensor = side.graph.tensors[name]
        if name not in side.constants and tensor.dtype in GRID_DTYPES and tensor.scales is not None:
            found[root].append(tensor)
    return found


def _is_clipped(graph: Graph, tensor: Tensor) -> bool:
    """Whether an operation on its integers cuts them off."""
    return any(reader.kind == "Clip" for reader in graph.consumers.get(tensor.name, ()))


def _pairs_of_value(tensors: list[Tensor], others: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair what holds one value: by name, else by grid, else what is left over where only one grid is left."""
    by_name = {other.name: other for other in others}
    used: set[int] = set()
    left: list[Tensor] = []
    for tensor in tensors:
        other = by_name.get(tensor.name) or next((item for item in others if same_grid(tensor, item)), None)
        if other is None:
            left.append(tensor)
        else:
            used.add(id(other))
            yield tensor, other
    for other in [item for item in others if id(item) not in used]:
        # What was moved once more in the ONNX file has a counterpart already; so has what is clipped.
        tensor_of_grid = next((item for item in tensors if same_grid(item, other)), None)
        if tensor_of_grid is not None:
            yield tensor_of_grid, other
        elif left and _one_grid(left):
            yield left[0], other
        elif _one_grid(tensors):
            yield tensors[0], other


def _one_grid(tensors: list[Tensor]) -> bool:
    return all(same_grid(tensors[0], tensor) for tensor in tensors)


def same_grid(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have equal scales, and zero points that are equal as int8."""
    return np.array_equal(one.scales, other.scales) and np.array_equal(as_int8(one), as_int8(other))  # type: ignore[arg-type]


def as_int8(tensor: Tensor) -> np.ndarray:
    """The different zero points of a tensor: its channels share one, however often the file repeats it."""
    assert tensor.zero_points is not None
    return np.unique(tensor.zero_points - SHIFTS.get(tensor.dtype, 0))
