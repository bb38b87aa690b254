"""What the outputs of a file end in."""

from __future__ import annotations

from edgeship.graph.kinds import CONVERSIONS, MOVES
from edgeship.graph.records import LONGEST_CHAIN, Graph

SIGMOIDS = frozenset({"LOGISTIC", "Sigmoid", "QLinearSigmoid"})


def ends_in_sigmoid(graph: Graph) -> tuple[bool, ...]:
    """Return for each output whether its values are a sigmoid's, which may have been moved or rounded."""
    return tuple(_is_a_sigmoids(graph, name) for name in graph.outputs)


def _is_a_sigmoids(graph: Graph, name: str) -> bool:
    for _ in range(LONGEST_CHAIN):
        operation = graph.producers.get(name)
        if operation is None:
            return False
        if operation.kind in SIGMOIDS:
            return True
        if operation.kind not in MOVES | CONVERSIONS:
            return False
        name = operation.inputs[0]
    return False
