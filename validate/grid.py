"""Is the ONNX file on the TFLite file's integer grid? Tensor by tensor by name, then layer by layer."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeship.artifact import Artifact
from edgeship.errors import ArtifactError, RuntimeFailure
from edgeship.measurement import Grid
from validate.bundle import Bundle
from validate.inputs import InputKind, write_array
from validate.runtimes.client import Worker

if TYPE_CHECKING:
    from edgeship.graph import Graph, Tensor

LAYER_IMAGES = 4  # of the golden ones
NOT_MEASURED = "not measured: "
NEEDED = {"onnx": "onnx", "ai_edge_litert": "ai-edge-litert", "onnxruntime": "onnxruntime"}

# A uint8 tensor holds q + 128 where an int8 tensor holds q.
SHIFTS = {"uint8": 128}
# Of weights, TFLite -> ONNX: OHWI -> OIHW, 1HWC (depthwise) -> C1HW; in x out of a dense layer.
PERMUTATIONS: dict[int, tuple[tuple[int, ...], ...]] = {
    4: ((0, 1, 2, 3), (0, 3, 1, 2), (3, 0, 1, 2)), 2: ((0, 1), (1, 0)),
}
# What these make has its input's values and grid, so an exporter may do without the tensor.
MOVING_KINDS = frozenset({"PAD", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"})


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


def compare_tensors(tflite: Graph, onnx: Graph) -> tuple[int, tuple[str, ...]]:
    """How many quantized tensors of the TFLite file were compared, and one sentence per difference."""
    compared, mismatches = 0, []
    for tensor in tflite.tensors.values():
        if tensor.scales is None or not tensor.is_integer:
            continue
        other = onnx.tensors.get(tensor.name)
        if other is None and _is_moved(tflite, tensor):
            continue
        compared += 1
        mismatches += [f"{tensor.name}: {what}" for what in _tensor_differences(tensor, other)]
    return compared, tuple(mismatches)


def _measure_grid(
    bundle: Bundle, tflite: Artifact, onnx: Artifact, timeout_seconds: float, folder: Path
) -> Grid:
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        return _without(
            tflite, onnx, f"{NOT_MEASURED}install {' and '.join(missing)} to compare the two files"
        )
    # Imported here: the package `onnx` costs a third of a second, and a device may not have it.
    from edgeship.graph import read_graph

    try:
        compared, mismatches = compare_tensors(
            read_graph(bundle.path_of(tflite)), read_graph(bundle.path_of(onnx))
        )
    except ArtifactError as error:
        return _without(tflite, onnx, str(error))
    try:
        answer = _run_layers(bundle, tflite, onnx, timeout_seconds, folder)
    except RuntimeFailure as error:
        return Grid(
            tflite=tflite.name, onnx=onnx.name, tensors_compared=compared, mismatches=mismatches,
            layers_compared=None, layer_max_lsb=None, worst_layer=None, error=str(error),
        )
    layers, skipped = answer["layers"], answer["skipped"]
    worst = max(layers, key=lambda layer: layer["max_lsb"], default=None)
    return Grid(
        tflite=tflite.name,
        onnx=onnx.name,
        tensors_compared=compared,
        mismatches=mismatches,
        layers_compared=len(layers),
        layer_max_lsb=None if worst is None else worst["max_lsb"],
        worst_layer=None if worst is None else f"{worst['kind']} {worst['name']}",
        error=f"{len(skipped)} layers could not be run alone: {'; '.join(skipped)}" if skipped else None,
    )


def _run_layers(
    bundle: Bundle, tflite: Artifact, onnx: Artifact, timeout_seconds: float, folder: Path
) -> dict[str, Any]:
    inputs = write_array(
        folder / "layers-inputs.npy", bundle.golden.inputs[:LAYER_IMAGES], InputKind.of(tflite.inputs[0])
    )
    tensors = folder / "layers-tensors.npz"
    with Worker(f"{tflite.name} / litert, layer by layer", timeout_seconds=timeout_seconds) as worker:
        worker.ask("load", runtime="litert-tensors", path=str(bundle.path_of(tflite)), options={"threads": 1})
        names = worker.ask("tensors", inputs=str(inputs), outputs=str(tensors))["names"]
    with Worker(f"{onnx.name} / onnxruntime, layer by layer", timeout_seconds=timeout_seconds) as worker:
        worker.ask("load", runtime="onnx-layers", path=str(bundle.path_of(onnx)), options={"threads": 1})
        return worker.ask("layers", tensors=str(tensors), names=names)


def _tensor_differences(tensor: Tensor, other: Tensor | None) -> Iterator[str]:
    """What of an ONNX tensor is not as in the TFLite file, in words."""
    if other is None:
        yield "not in the ONNX file"
        return
    scales, other_scales = tensor.scales, other.scales
    if scales is None or other_scales is None:
        yield "no scale in the ONNX file"
        return
    if not np.array_equal(scales, other_scales):
        yield f"scale {_short(scales)} in the TFLite file, {_short(other_scales)} in the ONNX file"
    zero_points, other_zero_points = _zero_points_as_int8(tensor), _zero_points_as_int8(other)
    if not np.array_equal(zero_points, other_zero_points):
        yield (
            f"zero point {_short(zero_points)} in the TFLite file, {_short(other_zero_points)} in the ONNX "
            "file (both as int8)"
        )
    if tensor.data is not None and not _same_integers(tensor, other):
        yield "other integers in the ONNX file"


def _same_integers(tensor: Tensor, other: Tensor) -> bool:
    if tensor.data is None or other.data is None:
        return False
    wanted = tensor.data.astype(np.int64) - SHIFTS.get(tensor.dtype, 0)
    found = other.data.astype(np.int64) - SHIFTS.get(other.dtype, 0)
    permutations = PERMUTATIONS.get(wanted.ndim, (tuple(range(wanted.ndim)),))
    return any(np.array_equal(wanted.transpose(axes), found) for axes in permutations)


def _zero_points_as_int8(tensor: Tensor) -> np.ndarray:
    """The different zero points of a tensor: its channels share one, however often the file repeats it."""
    assert tensor.zero_points is not None
    return np.unique(tensor.zero_points - SHIFTS.get(tensor.dtype, 0))


def _is_moved(graph: Graph, tensor: Tensor) -> bool:
    producer = graph.producers.get(tensor.name)
    return producer is not None and producer.kind in MOVING_KINDS


def _short(numbers: np.ndarray) -> str:
    return f"{numbers[0]}" if numbers.size == 1 else f"[{numbers[0]}, ... {numbers.size} numbers]"


def _without(tflite: Artifact, onnx: Artifact, error: str) -> Grid:
    return Grid(
        tflite=tflite.name, onnx=onnx.name, tensors_compared=0, mismatches=(), layers_compared=None,
        layer_max_lsb=None, worst_layer=None, error=error,
    )
