"""A bundle on disk, checked before anything is run: every file there, every hash as the manifest says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.artifact import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    Artifact,
    Manifest,
    TensorSpec,
    manifest_from_json,
)
from edgeship.core.errors import BundleError
from edgeship.core.files import read_text, sha256_of_file
from edgeship.core.golden import EXPECTED_PREFIX, FLOAT_OUTPUTS, INPUTS, TEST_FLOAT_TOP1, count_of, name_of
from edgeship.data.examples import Batch


@dataclass(frozen=True, eq=False, kw_only=True)
class Golden:
    """A few inputs and what each model answered on them when the bundle was written: one array per input or output."""

    inputs: Batch  # (n, ...) as float Keras takes them
    float_outputs: Batch  # (n, ...) by float Keras
    test_float_top1: np.ndarray | None  # int64 (n_test,), float Keras on the test split of a classifier
    expected: dict[str, Batch]  # artifact name -> (n, ...) in the artifact's own dtypes


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A folder whose files match its manifest (`load_bundle` makes it)."""

    folder: Path
    manifest: Manifest

    def path_of(self, artifact: Artifact) -> Path:
        """Where the artifact's file is."""
        return self.folder / artifact.file

    @property
    def reference_path(self) -> Path:
        """Where the float Keras model is."""
        return self.folder / self.manifest.reference.file

    @cached_property
    def golden(self) -> Golden:
        """`golden.npz`, read when it is first asked for. Raises BundleError."""
        return _read_golden(self.folder / GOLDEN_FILE, self.manifest)


def load_bundle(folder: Path) -> Bundle:
    """Read `folder/manifest.json` and check every file it names.

    Raises:
        BundleError: no bundle there; a file that is missing, unreadable or not the one that was exported.
    """
    path = folder / MANIFEST_FILE
    text = read_text(
        path, expected="a bundle's manifest", advice="name the folder that `edgeship export` wrote", error=BundleError
    )
    manifest = manifest_from_json(text, where=path)
    _check_names(manifest, path)
    _check_file(folder / GOLDEN_FILE, manifest.golden_sha256)
    _check_file(folder / manifest.reference.file, manifest.reference.sha256)
    for artifact in manifest.artifacts:
        _check_file(folder / artifact.file, artifact.sha256)
    return Bundle(folder=folder, manifest=manifest)


def _check_names(manifest: Manifest, path: Path) -> None:
    """Names are keys of the report, and `same_grid_as` points at one of them."""
    names = [artifact.name for artifact in manifest.artifacts]
    if len(set(names)) != len(names):
        raise BundleError(
            f"{path}: expected artifacts of different names, found {names}; export the bundle again"
        )
    for artifact in manifest.artifacts:
        if artifact.same_grid_as is not None and artifact.same_grid_as not in names:
            raise BundleError(
                f"{path}: {artifact.name}: same_grid_as: expected one of {', '.join(names)}; "
                f"found {artifact.same_grid_as!r}; export the bundle again"
            )
        if not artifact.inputs or not artifact.outputs:
            raise BundleError(
                f"{path}: {artifact.name}: expected inputs and outputs, found {len(artifact.inputs)} and "
                f"{len(artifact.outputs)}; export the bundle again"
            )


def _check_file(path: Path, expected_sha256: str) -> None:
    try:
        found = sha256_of_file(path)
    except OSError as error:
        raise BundleError(
            f"{path}: expected a file with SHA-256 {expected_sha256}, found none that can be read "
            f"({error.strerror or error}); export the bundle again"
        ) from error
    if found != expected_sha256:
        raise BundleError(
            f"{path}: altered since the export: expected SHA-256 {expected_sha256}, found {found}; "
            "export the bundle again"
        )


def _read_golden(path: Path, manifest: Manifest) -> Golden:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            golden = Golden(
                inputs=_tensors(arrays, INPUTS),
                float_outputs=_tensors(arrays, FLOAT_OUTPUTS),
                test_float_top1=arrays[TEST_FLOAT_TOP1] if TEST_FLOAT_TOP1 in arrays.files else None,
                expected={item.name: _tensors(arrays, EXPECTED_PREFIX + item.name) for item in manifest.artifacts},
            )
    # Damaged bytes make zipfile, zlib and NumPy raise nearly anything.
    except Exception as error:
        raise BundleError(
            f"{path}: expected arrays `inputs`, `float_outputs` and `expected/<artifact>`, found a file that cannot be "
            f"read so ({error}); export the bundle again"
        ) from error
    _check_golden(golden, path, manifest)
    return golden


def _tensors(arrays: Any, key: str) -> Batch:
    return tuple(arrays[name_of(key, place)] for place in range(count_of(key, arrays.files)))


def _check_golden(golden: Golden, path: Path, manifest: Manifest) -> None:
    """Check that each artifact has expected outputs of its own shapes, and all arrays the same number of examples."""
    sides = {INPUTS: golden.inputs, FLOAT_OUTPUTS: golden.float_outputs}
    count = len(golden.inputs[0]) if golden.inputs and golden.inputs[0].ndim else 0
    for artifact in manifest.artifacts:
        for side, specs in ((INPUTS, artifact.inputs), (FLOAT_OUTPUTS, artifact.outputs)):
            _check_shapes(path, side, sides[side], specs, count)
        _check_shapes(path, EXPECTED_PREFIX + artifact.name, golden.expected[artifact.name], artifact.outputs, count)
    test, top1 = manifest.splits.get("test"), golden.test_float_top1
    if test is not None and manifest.labels and (top1 is None or top1.shape != (test["images"],)):
        found = None if top1 is None else top1.shape
        raise _wrong_array(path, TEST_FLOAT_TOP1, (test["images"],), found)


def _check_shapes(path: Path, key: str, arrays: Batch, specs: Sequence[TensorSpec], count: int) -> None:
    expected = [(count, *spec.shape[1:]) for spec in specs]
    found = [array.shape for array in arrays]
    for place, shape in enumerate(expected):
        if place >= len(found) or found[place] != shape or not count:
            raise _wrong_array(path, name_of(key, place), shape, found[place] if place < len(found) else None)


def _wrong_array(path: Path, key: str, shape: tuple[int, ...], found: tuple[int, ...] | None) -> BundleError:
    return BundleError(
        f"{path}: {key}: expected an array of shape {shape} with at least one example, found {found}; "
        "export the bundle again"
    )
