"""A bundle on disk, checked before anything is run: every file there, every hash as the manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeship.core.artifact import GOLDEN_FILE, MANIFEST_FILE, Artifact, Manifest, manifest_from_json
from edgeship.core.errors import BundleError
from edgeship.core.files import read_text, sha256_of_file

EXPECTED_PREFIX = "expected/"


@dataclass(frozen=True, eq=False, kw_only=True)
class Golden:
    """A few preprocessed inputs and what each model answered on them when the bundle was written."""

    inputs: np.ndarray  # float32 (n, S, S, C)
    float_outputs: np.ndarray  # float32 (n, classes), by float Keras
    test_float_top1: np.ndarray  # int64 (n_test,), float Keras on the whole test split
    expected: dict[str, np.ndarray]  # artifact name -> (n, classes) in the artifact's own dtype


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
        if len(artifact.inputs) != 1 or len(artifact.outputs) != 1:
            raise BundleError(
                f"{path}: {artifact.name}: expected one input and one output, found {len(artifact.inputs)} "
                f"and {len(artifact.outputs)}; only image classifiers can be validated"
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
                inputs=arrays["inputs"],
                float_outputs=arrays["float_outputs"],
                test_float_top1=arrays["test_float_top1"],
                expected={
                    key.removeprefix(EXPECTED_PREFIX): arrays[key]
                    for key in arrays.files if key.startswith(EXPECTED_PREFIX)
                },
            )
    # Damaged bytes make zipfile, zlib and NumPy raise nearly anything.
    except Exception as error:
        raise BundleError(
            f"{path}: expected arrays `inputs`, `float_outputs`, `test_float_top1` and `expected/<artifact>`"
            f", found a file that cannot be read so ({error}); export the bundle again"
        ) from error
    _check_golden(golden, path, manifest)
    return golden


def _check_golden(golden: Golden, path: Path, manifest: Manifest) -> None:
    count, classes = len(golden.inputs), len(manifest.labels)
    size, channels = manifest.preprocessing.image_size, manifest.preprocessing.channels
    expected: dict[str, tuple[int, ...]] = {
        "inputs": (count, size, size, channels),
        "float_outputs": (count, classes),
        "test_float_top1": (manifest.splits["test"]["images"],),
        **{EXPECTED_PREFIX + artifact.name: (count, classes) for artifact in manifest.artifacts},
    }
    arrays = {
        "inputs": golden.inputs, "float_outputs": golden.float_outputs,
        "test_float_top1": golden.test_float_top1,
        **{EXPECTED_PREFIX + name: array for name, array in golden.expected.items()},
    }
    for key, shape in expected.items():
        found = arrays[key].shape if key in arrays else None
        if found != shape or not count:
            raise BundleError(
                f"{path}: {key}: expected an array of shape {shape} with at least one image, found {found}; "
                "export the bundle again"
            )
