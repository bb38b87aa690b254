"""What does it cost? Multiply-accumulates, parameters and activation memory of each file of a bundle, by its shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeship.core.errors import ArtifactError, RuntimeFailure
from edgeship.core.evidence import NetworkCost
from edgeship.graph import Graph, read_graph
from edgeship.graph.costs import Shape, multiply_accumulates
from edgeship.graph.layer_costs import kernels_arena_bytes, layer_costs
from edgeship.validate.process.client import Worker
from edgeship.validate.subject.bundle import Bundle

READABLE = ("tflite", "onnx")  # only ONNX Runtime itself can read an .ort file


def network_costs(bundle: Bundle, *, timeout_seconds: float) -> Iterator[NetworkCost]:
    """Yield the cost of each `.tflite` and `.onnx` file, in the bundle's order."""
    for artifact in bundle.manifest.artifacts:
        if artifact.format in READABLE:
            yield _cost(artifact.name, bundle.path_of(artifact), timeout_seconds)


def _cost(name: str, path: Path, timeout_seconds: float) -> NetworkCost:
    try:
        graph = read_graph(path)
    except ArtifactError as error:
        return NetworkCost(
            artifact=name, layers=(), multiply_accumulates=None, parameters=0, arena_bytes=None, error=str(error)
        )
    shapes = _shapes(name, path, graph, timeout_seconds)
    layers = layer_costs(graph, shapes)
    return NetworkCost(
        artifact=name, layers=layers, multiply_accumulates=multiply_accumulates(graph, shapes),
        parameters=sum(layer.parameters for layer in layers),
        arena_bytes=kernels_arena_bytes(graph, shapes),
    )


def _shapes(name: str, path: Path, graph: Graph, timeout_seconds: float) -> dict[str, Shape]:
    """Return the shapes that the file does not say, as ONNX's own inference finds them; in a process of its own."""
    if graph.format != "onnx":
        return {}
    try:
        with Worker(f"{name}, its shapes", timeout_seconds=timeout_seconds) as worker:
            found: dict[str, list[int | None]] = worker.ask("shapes", path=str(path))["shapes"]
    except RuntimeFailure:  # the figures that need shapes are not measured then
        return {}
    return {tensor: tuple(shape) for tensor, shape in found.items()}
