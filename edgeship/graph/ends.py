"""What the outputs of a file end in."""

from __future__ import annotations

from edgeship.graph.kinds import CONVERSIONS, MOVES
from edgeship.graph.records import Graph

SIGMOIDS = frozenset({"LOGISTIC", "Sigmoid", "QLinearSigmoid"})


def ends_in_sigmoid(graph: Graph) -> tuple[bool, ...]:
    """Return for each output whether its values are a sigmoid's, which may have been moved or rounded."""
    return tuple(_is_a_sigmoids(graph, name) for name in graph.outputs)


def _is_a_sigmoids(graph: Graph, name: str) -> bool:
    operation = graph.producers.get(graph.before(MOVES | CONVERSIONS, name))
    return operation is not None and operation.kind in SIGMOIDS
