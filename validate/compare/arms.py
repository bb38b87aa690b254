"""The two arms: files or bundles, matched by name and found fit to be compared, before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.artifact import MANIFEST_FILE, TensorSpec
from edgeship.core.comparison import Arm
from edgeship.core.errors import ArtifactError, InputError, RefusedError
from edgeship.core.files import sha256_of_file
from edgeship.core.integers import SHIFTS, quantize
from edgeship.graph import Graph, read_graph
from edgeship.validate.compare.baseline import Baseline, StoredArtifact
from edgeship.validate.subject.bundle import load_bundle

FORMATS = {".tflite": "tflite", ".onnx": "onnx", ".ort": "ort"}
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two artifacts to be compared. Specs are None where the format cannot be read without its runtime (.ort)."""

    name: str
    format: str
    baseline: Path
    candidate: Path
    input: TensorSpec | None
    output: TensorSpec | None
    image: np.ndarray | None  # float32 (1, ...), preprocessed; None: noise is used
    interface: str | None = None  # how the candidate's inputs and outputs differ, where an application must follow
    shift: int = 0  # what is added to the baseline's input integers for the candidate

    def arm(self, path: Path) -> Arm:
        """What a report says of one of the two files."""
        return Arm(file=str(path), sha256=sha256_of_file(path), size_bytes=path.stat().st_size)

    def inputs_like(self, spec: TensorSpec) -> np.ndarray:
        """One image as the artifact takes it: the bundle's first golden input, or noise over the range of the type."""
        if self.image is not None:
            return quantize(self.image, spec) if spec.dtype != "float32" else self.image
        generator = np.random.default_rng(SEED)
        if np.issubdtype(spec.dtype, np.integer):
            limits = np.iinfo(spec.dtype)
            return generator.integers(limits.min, limits.max, spec.shape, spec.dtype, endpoint=True)
        return generator.random(spec.shape).astype(spec.dtype)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """All pairs, and what had no counterpart."""

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def shifted(inputs: np.ndarray, shift: int) -> np.ndarray:
    """The same points of the grid in the other 8-bit type: uint8 for int8 and +128, int8 for uint8 and -128."""
    if not shift:
        return inputs
    return (inputs.astype(np.int16) + shift).astype(np.uint8 if shift > 0 else np.int8)


def pair_arms(baseline: Path, candidate: Path, *, names: tuple[str, ...] = ()) -> Pairs:
    """Two files, or two bundle folders whose artifacts are matched by name; `names` chooses some of these.

    Raises:
        InputError: missing or broken files, a file beside a folder, no such name.
        RefusedError: other formats, inputs or outputs: a ratio of their times would mean nothing.
    """
    folders = [path.is_dir() for path in (baseline, candidate)]
    if all(folders):
        return _bundles(baseline, candidate, names)
    for path in (baseline, candidate):
        if not path.exists():
            raise ArtifactError(f"{path}: expected a file or a bundle folder, found none")
    if any(folders):
        raise InputError(
            f"expected two files or two bundle folders, found {baseline} "
            f"({'a folder' if folders[0] else 'a file'}) and {candidate} ({'a folder' if folders[1] else 'a file'})"
        )
    if names:
        raise InputError("--artifact chooses among the artifacts of two bundles; two files are compared as they are")
    same = baseline.name == candidate.name
    name = candidate.name if same else f"{baseline.name} -> {candidate.name}"
    return Pairs(pairs=(_pair(name, baseline, candidate),), notes=())


def pair_with_baseline(baseline: Baseline, folder: Path, candidate: Path) -> Pairs:
    """A stored baseline's artifacts in `folder`, and a file or a bundle folder.

    A file is held against the only artifact, or the one of its name.

    Raises:
        InputError, RefusedError: as `pair_arms`.
    """
    stored = {artifact.name: artifact for artifact in baseline.artifacts}
    if candidate.is_dir():
        bundle = load_bundle(candidate)
        files = {artifact.name: bundle.path_of(artifact) for artifact in bundle.manifest.artifacts}
    else:
        files = {candidate.name if len(stored) > 1 else next(iter(stored)): candidate}
    common = [name for name in stored if name in files]
    if not common:
        raise InputError(
            f"{candidate}: expected an artifact of the baseline {folder.name} ({', '.join(stored)}), found "
            f"{', '.join(files)}"
        )
    notes = [f"{name}: the candidate has none, so it was not compared" for name in stored if name not in files]
    return Pairs(
        pairs=tuple(_stored_pair(stored[name], folder, files[name]) for name in common), notes=tuple(notes)
    )


def _stored_pair(artifact: StoredArtifact, folder: Path, candidate: Path) -> Pair:
    """What the baseline knows of its input and output is more than an .onnx file tells: their quantization."""
    pair = _pair(artifact.name, folder / artifact.file, candidate)
    if len(artifact.inputs) != 1 or len(artifact.outputs) != 1:
        return pair
    return dataclasses.replace(pair, input=artifact.inputs[0], output=artifact.outputs[0])


def _bundles(baseline: Path, candidate: Path, names: tuple[str, ...]) -> Pairs:
    bundles = [load_bundle(path) for path in (baseline, candidate)]
    artifacts = [{artifact.name: artifact for artifact in bundle.manifest.artifacts} for bundle in bundles]
    common = [name for name in artifacts[0] if name in artifacts[1]]
    for name in names:
        if name not in common:
            raise InputError(f"--artifact {name}: expected one that both bundles have: {', '.join(common) or 'none'}")
    if not common:
        raise InputError(
            f"{baseline} and {candidate}: expected artifacts of the same names, found {', '.join(artifacts[0])} and "
            f"{', '.join(artifacts[1])}"
        )
    pairs = []
    for name in names or common:
        first, second = (own[name] for own in artifacts)
        files = [bundle.path_of(item) for bundle, item in zip(bundles, (first, second), strict=True)]
        interface = _require_same(*files, ends=[(item.inputs[0], item.outputs[0]) for item in (first, second)])
        pairs.append(Pair(
            name=name, format=first.format, baseline=files[0], candidate=files[1], input=first.inputs[0],
            output=first.outputs[0], image=bundles[0].golden.inputs[:1], **interface,
        ))
    notes = [
        f"{name}: only in {folder}, so it was not compared"
        for folder, own, other in ((baseline, artifacts[0], artifacts[1]), (candidate, artifacts[1], artifacts[0]))
        for name in own if name not in other
    ]
    return Pairs(pairs=tuple(pairs), notes=tuple(notes))


def _pair(name: str, baseline: Path, candidate: Path) -> Pair:
    formats = [_format(path) for path in (baseline, candidate)]
    if formats[0] != formats[1]:
        raise RefusedError(
            f"{baseline} and {candidate}: expected two artifacts of one format, found {formats[0]} and {formats[1]}; "
            "their runtimes differ, so compare each with its own predecessor"
        )
    if formats[0] == "ort":  # which only its runtime can read
        return Pair(
            name=name, format="ort", baseline=baseline, candidate=candidate, input=None, output=None, image=None
        )
    ends = [_specs(path) for path in (baseline, candidate)]
    interface = _require_same(baseline, candidate, ends=ends)
    return Pair(
        name=name, format=formats[0], baseline=baseline, candidate=candidate, input=ends[0][0], output=ends[0][1],
        image=None, **interface,
    )


def _require_same(
    baseline: Path, candidate: Path, *, ends: Sequence[tuple[TensorSpec, TensorSpec]]
) -> dict[str, Any]:
    """The fields of Pair that tell how inputs and outputs differ: by int8 for uint8 at most."""
    told = []
    for what, first, second in zip(("input", "output"), *ends, strict=True):
        dtypes = {first.dtype, second.dtype}
        if first.shape != second.shape or (len(dtypes) > 1 and dtypes != set(SHIFTS)):
            raise RefusedError(
                f"{baseline} and {candidate}: expected the same {what}, found {first.dtype} {list(first.shape)} and "
                f"{second.dtype} {list(second.shape)}; only artifacts that an application can exchange are compared"
            )
        if len(dtypes) > 1:
            told.append(f"{what}: {first.dtype} before, {second.dtype} now")
    (before, _), (now, _) = ends
    return {
        "interface": "; ".join(told) or None,
        "shift": SHIFTS[now.dtype] - SHIFTS[before.dtype] if before.dtype != now.dtype else 0,
    }


def _format(path: Path) -> str:
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise ArtifactError(
            f"{path}: expected a .tflite, .onnx or .ort file, or a bundle (a folder with {MANIFEST_FILE})"
        )
    return found


def _specs(path: Path) -> tuple[TensorSpec, TensorSpec]:
    graph = read_graph(path)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise RefusedError(
            f"{path}: expected one input and one output, found {len(graph.inputs)} and {len(graph.outputs)}"
        )
    if graph.tensors[graph.inputs[0]].shape == ():
        raise RefusedError(f"{path}: {graph.inputs[0]}: expected an input of one axis or more, found a scalar")
    return _spec(graph, graph.inputs[0], path), _spec(graph, graph.outputs[0], path)


def _spec(graph: Graph, name: str, path: Path) -> TensorSpec:
    tensor = graph.tensors[name]
    # A batch that the file leaves open is 1 here, as everywhere in edgeship. A scalar (a loss) has no axis at all.
    shape = None if tensor.shape is None else tuple(size or 1 for size in tensor.shape[:1]) + tensor.shape[1:]
    if shape is None or not all(shape):
        raise RefusedError(
            f"{path}: {name}: expected a fixed shape (the batch may be open), found {tensor.shape}; export it fixed"
        )
    scale = None if tensor.scales is None or tensor.zero_points is None else float(tensor.scales[0])
    zero_point = None if scale is None or tensor.zero_points is None else int(tensor.zero_points[0])
    return TensorSpec(
        name=name, shape=tuple(int(size or 1) for size in shape), dtype=tensor.dtype, scale=scale,
        zero_point=zero_point,
    )
