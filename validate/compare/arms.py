"""The two arms: files or bundles, matched by name and found fit to be compared, before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
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
QUANTIZED = (*SHIFTS, "int16")
Ends = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]  # inputs and outputs, each in the file's order


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two artifacts to be compared. Specs are None where the format cannot be read without its runtime (.ort)."""

    name: str
    format: str
    baseline: Path
    candidate: Path
    inputs: tuple[TensorSpec, ...] | None
    outputs: tuple[TensorSpec, ...] | None
    golden: tuple[np.ndarray, ...] | None  # one example, an array (1, ...) per input; None: noise is used
    interface: str | None = None  # how the candidate's inputs and outputs differ, where an application must follow
    shifts: tuple[int, ...] = ()  # what is added to the integers of the baseline's inputs for the candidate; none: 0

    def arm(self, path: Path) -> Arm:
        """What a report says of one of the two files."""
        return Arm(file=str(path), sha256=sha256_of_file(path), size_bytes=path.stat().st_size)

    def example(self, inputs: Sequence[TensorSpec]) -> tuple[np.ndarray, ...]:
        """Return one example as the artifact takes it, an array (1, ...) per input: the bundle's first, or noise."""
        if self.golden is not None:
            return tuple(quantize(values, spec) for values, spec in zip(self.golden, inputs, strict=True))
        generator = np.random.default_rng(SEED)
        noise = [_noise(spec, generator) for spec in inputs]
        return tuple(
            values if spec.shape[:1] == (1,) else values[None] for values, spec in zip(noise, inputs, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """All pairs, and what had no counterpart."""

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def _noise(spec: TensorSpec, generator: np.random.Generator) -> np.ndarray:
    """Return noise over the range of the type; zeros for integers that may be numbers of classes or tokens."""
    if spec.dtype in QUANTIZED:
        limits = np.iinfo(spec.dtype)
        return generator.integers(limits.min, limits.max, spec.shape, spec.dtype, endpoint=True)
    if np.issubdtype(spec.dtype, np.floating):
        return np.asarray(generator.random(spec.shape)).astype(spec.dtype)
    return np.zeros(spec.shape, spec.dtype)


def shifted(inputs: np.ndarray, shift: int) -> np.ndarray:
    """The same points of the grid in the other 8-bit type: uint8 for int8 and +128, int8 for uint8 and -128."""
    if not shift:
        return inputs
    return (inputs.astype(np.int16) + shift).astype(np.uint8 if shift > 0 else np.int8)


def save_example(folder: Path, name: str, example: Sequence[np.ndarray]) -> tuple[Path, ...]:
    """Write one .npy file per input, `name-0.npy` ...; return their paths."""
    paths = tuple(folder / f"{name}-{number}.npy" for number in range(len(example)))
    for path, values in zip(paths, example, strict=True):
        np.save(path, values, allow_pickle=False)
    return paths


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
    """What the baseline knows of its inputs and outputs is more than an .onnx file tells: their quantization."""
    pair = _pair(artifact.name, folder / artifact.file, candidate)
    if not artifact.inputs or not artifact.outputs:
        return pair
    return dataclasses.replace(pair, inputs=artifact.inputs, outputs=artifact.outputs)


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
        interface = _require_same(*files, ends=[(item.inputs, item.outputs) for item in (first, second)])
        golden = tuple(values[:1] for values in bundles[0].golden.inputs)
        pairs.append(Pair(
            name=name, format=first.format, baseline=files[0], candidate=files[1], inputs=first.inputs,
            outputs=first.outputs, golden=golden, **interface,
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
            name=name, format="ort", baseline=baseline, candidate=candidate, inputs=None, outputs=None, golden=None
        )
    ends = [_ends(path) for path in (baseline, candidate)]
    interface = _require_same(baseline, candidate, ends=ends)
    return Pair(
        name=name, format=formats[0], baseline=baseline, candidate=candidate, inputs=ends[0][0], outputs=ends[0][1],
        golden=None, **interface,
    )


def _require_same(baseline: Path, candidate: Path, *, ends: Sequence[Ends]) -> dict[str, Any]:
    """Return the fields of Pair that tell how inputs and outputs differ: by int8 for uint8 at most."""
    told: list[str] = []
    for what, before, now in zip(("input", "output"), *ends, strict=True):
        if (difference := _difference(what, before, now)) is not None:
            raise RefusedError(
                f"{baseline} and {candidate}: expected the same {difference}; only artifacts that an application can "
                "exchange are compared"
            )
        told += _changed(what, before, now)
    (before, _), (now, _) = ends
    return {
        "interface": "; ".join(told) or None,
        "shifts": tuple(
            SHIFTS[second.dtype] - SHIFTS[first.dtype] if first.dtype != second.dtype else 0
            for first, second in zip(before, now, strict=True)
        ),
    }


def _difference(what: str, before: Sequence[TensorSpec], now: Sequence[TensorSpec]) -> str | None:
    """Return what keeps an application from exchanging the files, as "input, found one and another"; else None."""
    if len(before) != len(now):
        return f"number of {what}s, found {len(before)} and {len(now)}"
    for first, second in zip(before, now, strict=True):
        dtypes = {first.dtype, second.dtype}
        if first.shape != second.shape or (len(dtypes) > 1 and dtypes != set(SHIFTS)):
            if _reordered(before, now):
                return f"order of {what}s, found {_names(before)} and {_names(now)}"
            which = what if len(before) == 1 else f"{what} {first.name}"
            return f"{which}, found {first.dtype} {list(first.shape)} and {second.dtype} {list(second.shape)}"
    return None


def _reordered(before: Sequence[TensorSpec], now: Sequence[TensorSpec]) -> bool:
    names = [[spec.name for spec in specs] for specs in (before, now)]
    return names[0] != names[1] and sorted(names[0]) == sorted(names[1])


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name for spec in specs)


def _changed(what: str, before: Sequence[TensorSpec], now: Sequence[TensorSpec]) -> Iterator[str]:
    """Yield what an application that exchanges the files must follow."""
    if _reordered(before, now):
        yield f"{what}s: {_names(before)} before, in the order {_names(now)} now"
    for first, second in zip(before, now, strict=True):
        if first.dtype != second.dtype:
            which = what if len(before) == 1 else f"{what} {first.name}"
            yield f"{which}: {first.dtype} before, {second.dtype} now"


def _format(path: Path) -> str:
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise ArtifactError(
            f"{path}: expected a .tflite, .onnx or .ort file, or a bundle (a folder with {MANIFEST_FILE})"
        )
    return found


def _ends(path: Path) -> Ends:
    graph = read_graph(path)
    if not graph.inputs:
        raise RefusedError(f"{path}: expected a model with inputs, found none; compare files that an application feeds")
    inputs, outputs = (
        tuple(_spec(graph, name, path) for name in names) for names in (graph.inputs, graph.outputs)
    )
    return inputs, outputs


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
