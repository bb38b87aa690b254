"""The bundle: artifacts, golden outputs and manifest in one folder, whole or not at all."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from edgeship.core.artifact import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    Artifact,
    Manifest,
    Preprocessing,
    Reference,
    manifest_to_json,
)
from edgeship.core.config import Config
from edgeship.core.config_file import config_to_dict
from edgeship.core.cpu import processor_identity
from edgeship.core.errors import StorageError
from edgeship.core.files import sha256_of_bytes, sha256_of_file, sha256_of_json, write_atomically
from edgeship.core.parts import how_to_install
from edgeship.core.progress import say
from edgeship.core.saturation import Saturation
from edgeship.core.version import __version__
from edgeship.data import Splits, splits_record
from edgeship.data.examples import Batch, examples_of_images
from edgeship.export.proof.exported import Exported
from edgeship.export.proof.golden import Specs, float_outputs, golden_bytes, specs_of
from edgeship.graph import graph_from_bytes
from edgeship.graph.saturation import saturation_of

REFERENCE_FILE = "float.keras"
SBOM_FILE = "sbom.spdx.json"  # the name that tools look for
TOOLS = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "tf2onnx", "onnx", "onnxruntime",
         "ai-edge-litert", "numpy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What the files of a bundle were made from, as its manifest and its golden answers say it."""

    config_sha256: str
    weights_sha256: str
    data: dict[str, Any]  # the [data] section; none: arrays from Python
    splits: dict[str, dict[str, Any]]
    preprocessing: Preprocessing | None
    labels: tuple[str, ...]
    metric: str | None
    float_outputs: Batch  # of the golden examples
    output: str | None = None  # the form of a classifier's output (edgeship/core/output_forms.py)
    test_float_top1: np.ndarray | None = None  # int64 (n_test,), of a classifier with a test split


def require_free(folder: Path) -> None:
    """Raise StorageError where a bundle must not take a folder's place: there is a file, or something else in it."""
    if folder.is_dir():
        names = sorted(item.name for item in folder.iterdir())
        if names and not {MANIFEST_FILE, GOLDEN_FILE} <= set(names):
            raise StorageError(
                f"{folder}: expected a new folder, an empty one, or an earlier bundle, which is replaced whole; found "
                f"a folder with {names[0]!r} in it; choose another"
            )
    elif folder.exists() or folder.is_symlink():
        raise StorageError(f"{folder}: expected a folder for the bundle, found a file; choose another")


def write_bundle(
    folder: Path,
    exported: Exported,
    *,
    model: tf_keras.Model,
    source: Source,
) -> Manifest:
    """Write the bundle folder: made beside it under a temporary name, then renamed.

    Args:
        model: the lowered float model, of the output that the files give; it is saved as the reference, and loading it
            needs none of the user's code.
        source: what the files were made from.

    Raises:
        StorageError: the disk is full or the folder cannot be written; an older bundle stays as it was.
    """
    artifacts, expected = [], {}
    specs: dict[str, Specs] = {}
    certificates: dict[str, Saturation] = {}
    for file in exported.files:
        # An .ort file tells no scales and no weights; it has those of the .onnx file it was made from.
        onnx = file.name.removesuffix(".ort") + ".onnx"
        specs[file.name] = specs[onnx] if file.format == "ort" else specs_of(file.content, format=file.format)
        certificates[file.name] = certificates[onnx] if file.format == "ort" else saturation_of(
            graph_from_bytes(file.content, where=Path(file.name))
        )
        ins, outs = specs[file.name]
        assert file.golden_outputs is not None
        expected[file.name] = file.golden_outputs
        artifacts.append(Artifact(
            name=file.name, file=file.name, format=file.format, scheme=file.scheme,
            sha256=sha256_of_bytes(file.content), size_bytes=len(file.content), inputs=ins, outputs=outs,
            same_grid_as=file.same_grid_as, operators_config=file.operators_file, saturation=certificates[file.name],
        ))
    inputs = exported.golden_inputs
    golden_content = golden_bytes(
        inputs=inputs, float_outputs=source.float_outputs, expected=expected, test_float_top1=source.test_float_top1
    )
    with _temporary_folder(folder) as temporary:
        model.save(temporary / REFERENCE_FILE)
        for file in exported.files:
            write_atomically(temporary / file.name, file.content)
            if file.operators_config is not None and file.operators_file is not None:
                write_atomically(temporary / file.operators_file, file.operators_config.encode())
        write_atomically(temporary / GOLDEN_FILE, golden_content)
        manifest = Manifest(
            schema=MANIFEST_SCHEMA,
            created_by=f"edgeship {__version__}",
            source={"config_sha256": source.config_sha256, "weights_sha256": source.weights_sha256},
            data=source.data,
            splits=source.splits,
            preprocessing=source.preprocessing,
            labels=source.labels,
            metric=source.metric,
            output=source.output,
            reference=Reference(
                file=REFERENCE_FILE, sha256=sha256_of_file(temporary / REFERENCE_FILE),
                custom_objects=("edgeship.model.flat_layers",),
            ),
            golden_sha256=sha256_of_bytes(golden_content),
            artifacts=tuple(artifacts),
            quantization=exported.quantization,
            exported_on=processor_identity(),
            tools={name: importlib.metadata.version(name) for name in TOOLS},
        )
        content = manifest_to_json(manifest).encode()
        write_atomically(temporary / MANIFEST_FILE, content)
        _write_sbom(temporary, manifest, sha256_of_bytes(content))
    return manifest


def _write_sbom(folder: Path, manifest: Manifest, manifest_sha256: str) -> None:
    """Write the list of the software that made the bundle; where its package is missing, say so."""
    try:
        from edgeship.export.sbom import sbom_bytes
    except ModuleNotFoundError as error:
        if how_to_install(error.name) is None:
            raise
        say(f"{SBOM_FILE} is not written: {how_to_install(error.name)}")
        return
    write_atomically(folder / SBOM_FILE, sbom_bytes(manifest.tools, manifest_sha256=manifest_sha256))


def source_of_images(
    model: tf_keras.Model, *, weights_sha256: str, splits: Splits, spec: Preprocessing, config: Config,
    output: str | None = None,
) -> Source:
    """Return the source of a bundle that was made by a configuration: the float model answers the whole test split."""
    test = examples_of_images(splits.test, spec)
    (answers,) = float_outputs(model, test, label="float Keras on the test split")
    golden = min(config.export.golden_images, len(test))
    return Source(
        config_sha256=sha256_of_json(_portable(config)), weights_sha256=weights_sha256,
        data=config_to_dict(config.data), splits=splits_record(splits), preprocessing=spec, labels=splits.labels,
        metric="top1", float_outputs=(answers[:golden],), test_float_top1=answers.argmax(-1),
        output=output,
    )


def _portable(config: Config) -> dict[str, Any]:
    """The configuration without what does not change the artifacts."""
    document = config_to_dict(config)
    del document["validate"]
    document["data"].pop("path")
    for key in ("path", "weights"):
        document["model"].pop(key)
    return document


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place when all went well, and is removed when not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise StorageError(f"{target}: the bundle folder could not be made ({error.strerror})") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    except OSError as error:
        raise StorageError(
            f"{target}: the bundle could not be written ({error.strerror or error}); free some space or choose "
            "another --out folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
