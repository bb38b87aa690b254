"""Is the ONNX file on the TFLite file's integer grid? Tensor by tensor, matched by structure, then layer by layer.

What is matched must be equal: scales, zero points, the integers of kernels and biases. What cannot be matched, and a
layer that cannot be run alone, is not compared, is named, and is no failure: the files may say one thing in two ways.
Where nothing at all is compared, nothing is proven, which is a failure of tensors and inconclusive of layers
(`gate.py`).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeship.core.artifact import Artifact
from edgeship.core.errors import ArtifactError, RuntimeFailure
from edgeship.core.measurement import Grid
from edgeship.graph.kinds import MOVES
from edgeship.validate.process.client import Worker
from edgeship.validate.runner.table import LAYERS, RESULTS
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.inputs import InputKind, write_arrays
from edgeship.validate.subject.processors import saturates, this_processor

if TYPE_CHECKING:
    from edgeship.graph import Graph
    from edgeship.graph.matching import Matching

LAYER_EXAMPLES = 4  # of the golden ones
NOT_MEASURED = "not measured: "
NEEDED = {"onnx": "onnx", "ai_edge_litert": "ai-edge-litert", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Files:
    """Two files on one grid, read and matched."""

    bundle: Bundle
    tflite: Artifact
    onnx: Artifact
    first: Graph
    second: Graph
    matching: Matching


def measure_grids(bundle: Bundle, *, timeout_seconds: float, folder: Path) -> tuple[Grid, ...]:
    """One Grid for each ONNX artifact that says `same_grid_as` of a TFLite artifact."""
    artifacts = {artifact.name: artifact for artifact in bundle.manifest.artifacts}
    pairs = [
        (artifacts[artifact.same_grid_as], artifact) for artifact in artifacts.values()
        if artifact.same_grid_as is not None and artifact.format == "onnx"
    ]
    return tuple(
        _measure_grid(bundle, tflite, onnx, timeout_seconds, folder) for tflite, onnx in pairs
    )


def _measure_grid(
    bundle: Bundle, tflite: Artifact, onnx: Artifact, timeout_seconds: float, folder: Path
) -> Grid:
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        return _without(
            tflite, onnx, f"{NOT_MEASURED}install {' and '.join(missing)} to compare the two files"
        )
    # Imported here: the package `onnx` costs a third of a second, and a device may not have it.
    from edgeship.graph.differences import compare

    try:
        files = _matched(bundle, tflite, onnx)
        comparison = compare(files.first, files.second, files.matching)
    except ArtifactError as error:
        return _without(tflite, onnx, str(error))
    layers, failed = None, None
    if saturates(onnx, bundle.manifest, this_processor()):
        failed = f"{NOT_MEASURED}its products saturate on this processor, which it is not made for"
    else:
        try:
            layers = _run_layers(files, timeout_seconds, folder)
        except RuntimeFailure as error:
            failed = str(error)
    worst = None if layers is None else max(layers["layers"], key=lambda layer: layer["max_lsb"], default=None)
    return Grid(
        tflite=tflite.name,
        onnx=onnx.name,
        tensors_compared=comparison.compared,
        mismatches=comparison.differences,
        layers_compared=None if layers is None else len(layers["layers"]),
        layer_max_lsb=None if worst is None else worst["max_lsb"],
        worst_layer=None if worst is None else f"{worst['kind']} {worst['name']}",
        error=failed,
        layers_total=None if layers is None else layers["total"],
        not_compared=(*comparison.not_compared, *(() if layers is None else layers["not_compared"])),
    )


def _matched(bundle: Bundle, tflite: Artifact, onnx: Artifact) -> _Files:
    """Both files and what belongs together in them. Raises ArtifactError."""
    from edgeship.graph import read_graph
    from edgeship.graph.columns import with_plain_columns
    from edgeship.graph.matching import match
    from edgeship.graph.records import BROKEN_CONTENT

    first, second = read_graph(bundle.path_of(tflite)), with_plain_columns(read_graph(bundle.path_of(onnx)))
    try:
        matching = match(first, second)
    except BROKEN_CONTENT as error:
        raise ArtifactError(
            f"{onnx.name} against {tflite.name}: expected two files of one network, found graphs that cannot be "
            f"matched ({type(error).__name__}: {error}); export the bundle again"
        ) from error
    return _Files(bundle=bundle, tflite=tflite, onnx=onnx, first=first, second=second, matching=matching)


def _run_layers(files: _Files, timeout_seconds: float, folder: Path) -> dict[str, Any]:
    """The layers that were run, how many there are, and why others were not: `{"layers", "total", "not_compared"}`."""
    tflite, onnx = files.tflite, files.onnx
    golden = [values[:LAYER_EXAMPLES] for values in files.bundle.golden.inputs]
    inputs = write_arrays(folder, "layers-inputs", golden, [InputKind.of(spec) for spec in tflite.inputs])
    tensors, layouts = folder / "layers-tensors.npz", folder / "layers-layouts.npz"
    with Worker(f"{tflite.name} / litert, layer by layer", timeout_seconds=timeout_seconds) as worker:
        path = str(files.bundle.path_of(tflite))
        worker.ask("probe", runtime="litert", probe=RESULTS, path=path, options={"threads": 1})
        names = worker.ask("tensors", inputs=[str(path) for path in inputs], outputs=str(tensors))["names"]
    places, orders, untold = _places(files, {name: str(index) for index, name in enumerate(names)})
    np.savez(layouts, **orders)  # type: ignore[arg-type]
    with Worker(f"{onnx.name} / onnxruntime, layer by layer", timeout_seconds=timeout_seconds) as worker:
        path = str(files.bundle.path_of(onnx))
        worker.ask("probe", runtime="onnxruntime", probe=LAYERS, path=path, options={"threads": 1})
        answer: dict[str, Any] = worker.ask("layers", tensors=str(tensors), layouts=str(layouts), places=places)
    skipped = [f"{name} ({why})" for name, why in answer["skipped"]]
    return {
        "layers": answer["layers"],
        "total": len(answer["layers"]) + len(skipped) + len(untold),
        "not_compared": [*skipped, *untold],
    }


def _places(
    files: _Files, kept: dict[str, str]
) -> tuple[dict[str, str], dict[str, np.ndarray], list[str]]:
    """Which of the `kept` LiteRT tensors each ONNX tensor is, the orders of their elements, and who has none."""
    from edgeship.graph.layouts import Layouts

    layouts = Layouts(files.first, files.second, files.matching)
    places: dict[str, str] = {}
    orders: dict[str, np.ndarray] = {}
    untold: dict[str, None] = {}
    for pair in files.matching.pairs:
        maker = files.second.producers.get(pair.onnx.name)
        moved = maker is not None and maker.kind in MOVES  # then a piece of the next layer
        if moved or not pair.same_integers or pair.onnx.name in places or pair.tflite.name not in kept:
            continue
        order = layouts.order(pair)
        if order is None:
            untold[pair.onnx.name] = None
        else:
            orders[str(len(places))] = order.astype(np.int32)
            places[pair.onnx.name] = kept[pair.tflite.name]
    why = "its layout does not follow from the files"
    return places, orders, [f"{name} ({why})" for name in untold if name not in places]


def _without(tflite: Artifact, onnx: Artifact, error: str) -> Grid:
    return Grid(
        tflite=tflite.name, onnx=onnx.name, tensors_compared=0, mismatches=(), layers_compared=None,
        layer_max_lsb=None, worst_layer=None, error=error,
    )
