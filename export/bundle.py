"""The bundle: artifacts, golden outputs and manifest in one folder, whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from edgeship import __version__
from edgeship.artifact import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    Artifact,
    Manifest,
    Preprocessing,
    Reference,
    manifest_to_json,
)
from edgeship.config import Config, config_to_dict
from edgeship.cpu import processor_identity
from edgeship.data import Splits, preprocess, preprocessed_batches, require_calibration, splits_record
from edgeship.errors import StorageError
from edgeship.files import sha256_of_bytes, sha256_of_file, sha256_of_json, write_atomically
from edgeship.progress import say
from export.checks import check_onnx, check_tflite
from export.golden import Specs, float_probabilities, golden_bytes, specs_and_outputs, specs_of
from export.metadata import with_metadata
from export.onnx import convert_onnx
from export.ort import convert_ort
from export.tflite import convert_tflite
from export.tflite_io import SUFFIX as FLOAT_IO
from export.tflite_io import with_float_io

REFERENCE_FILE = "float.keras"
TOOLS = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "tf2onnx", "onnx", "onnxruntime",
         "ai-edge-litert", "numpy")
INTEGER_TYPES = {"u": "uint8", "s": "int8"}
CALIBRATION_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """One artifact in memory."""

    name: str  # also the file name
    format: str
    scheme: str
    content: bytes
    same_grid_as: str | None = None
    operators_config: str | None = None  # the text that belongs to an .ort file

    @property
    def operators_file(self) -> str | None:
        """Where that text goes."""
        return None if self.operators_config is None else f"{self.name}.operators.config"


def export_files(
    *, flat: tf_keras.Model, quantized: tf_keras.Model | None, splits: Splits, spec: Preprocessing, config: Config
) -> list[ExportedFile]:
    """Convert to every scheme and format the configuration asks for, and check each file's promises.

    Args:
        flat: the lowered float model.
        quantized: the fake-quantized one, needed for "int8-qat".

    Raises:
        ExportError: a converter refused, or a file breaks a promise.
    """
    files: list[ExportedFile] = []

    def calibration() -> Iterator[np.ndarray]:
        require_calibration(splits)
        return preprocessed_batches(splits.calibration, spec, size=CALIBRATION_BATCH)

    for scheme in config.quantize.schemes:
        source = quantized if scheme == "int8-qat" else flat
        assert source is not None
        say(f"export: {scheme} to TFLite")
        tflite = ExportedFile(
            name=f"{scheme}.tflite", format="tflite", scheme=scheme,
            content=convert_tflite(source, scheme=scheme, calibration=calibration),
        )
        if scheme != "float32":
            check_tflite(tflite.content, name=tflite.name, relu_starts_at_zero=scheme == "int8-qat")
        if "tflite" in config.export.formats:
            files.append(tflite)
            if scheme != "float32" and "float32" in config.export.tflite_io:
                files.append(ExportedFile(
                    name=f"{scheme}{FLOAT_IO}.tflite", format="tflite", scheme=scheme,
                    content=with_float_io(tflite.content), same_grid_as=tflite.name,
                ))
        if "onnx" in config.export.formats and scheme != "int8-ptq":
            files += _onnx_files(tflite, config)
    finished = [_with_metadata(file, spec=spec, labels=splits.labels) for file in files]
    if "ort" in config.export.formats:
        finished += [_ort_file(file) for file in finished if file.name == f"{file.scheme}.onnx"]
    return finished


def _onnx_files(tflite: ExportedFile, config: Config) -> Iterator[ExportedFile]:
    say(f"export: {tflite.scheme} to ONNX")
    if tflite.scheme == "float32":
        content = convert_onnx(tflite.content, variant=None)
        yield ExportedFile(name="float32.onnx", format="onnx", scheme="float32", content=content)
        return
    sibling = tflite.name if "tflite" in config.export.formats else None
    for variant in config.export.onnx_variants:
        name = f"{tflite.scheme}.onnx" if variant == "u8u8" else f"{tflite.scheme}-{variant}.onnx"
        content = convert_onnx(tflite.content, variant=variant)
        check_onnx(
            content, name=name, activations=INTEGER_TYPES[variant[0]], weights=INTEGER_TYPES[variant[2]]
        )
        yield ExportedFile(
            name=name, format="onnx", scheme=tflite.scheme, content=content, same_grid_as=sibling
        )


def _with_metadata(file: ExportedFile, *, spec: Preprocessing, labels: tuple[str, ...]) -> ExportedFile:
    """What the app needs travels inside the file."""
    inputs, outputs = specs_of(file.content, format=file.format)
    content = with_metadata(
        file.content, format=file.format, preprocessing=spec, labels=labels, inputs=inputs, outputs=outputs
    )
    return dataclasses.replace(file, content=content)


def _ort_file(onnx: ExportedFile) -> ExportedFile:
    """The default ONNX file of a scheme in ONNX Runtime's own format; its metadata goes with it."""
    say(f"export: {onnx.scheme} to ORT format")
    converted = convert_ort(onnx.content)
    return dataclasses.replace(
        onnx, name=onnx.name.removesuffix(".onnx") + ".ort", format="ort", content=converted.content,
        operators_config=converted.operators_config,
    )


def write_bundle(
    folder: Path,
    files: list[ExportedFile],
    *,
    model: tf_keras.Model,
    weights_sha256: str,
    splits: Splits,
    spec: Preprocessing,
    config: Config,
) -> Manifest:
    """Write the bundle folder: made beside it under a temporary name, then renamed.

    Args:
        model: the original float model, composite layers and all; saved as the reference.

    Raises:
        StorageError: the disk is full or the folder cannot be written; an older bundle stays as it was.
    """
    probabilities = float_probabilities(model, splits.test, spec=spec)
    golden = splits.test.select(np.arange(min(config.export.golden_images, len(splits.test.labels))))
    inputs = preprocess(golden.images[:], spec)
    artifacts, expected = [], {}
    specs: dict[str, Specs] = {}
    for file in files:
        # An .ort file tells no scales; it has those of the .onnx file it was made from.
        known = specs.get(file.name.removesuffix(".ort") + ".onnx") if file.format == "ort" else None
        ins, outs, expected[file.name] = specs_and_outputs(
            file.content, format=file.format, inputs=inputs, specs=known
        )
        specs[file.name] = ins, outs
        artifacts.append(Artifact(
            name=file.name, file=file.name, format=file.format, scheme=file.scheme,
            sha256=sha256_of_bytes(file.content), size_bytes=len(file.content), inputs=ins, outputs=outs,
            same_grid_as=file.same_grid_as, operators_config=file.operators_file,
        ))
    golden_content = golden_bytes(
        inputs=inputs, float_outputs=probabilities[: len(inputs)],
        test_float_top1=probabilities.argmax(-1), expected=expected,
    )
    with _temporary_folder(folder) as temporary:
        model.save(temporary / REFERENCE_FILE)
        for file in files:
            write_atomically(temporary / file.name, file.content)
            if file.operators_config is not None and file.operators_file is not None:
                write_atomically(temporary / file.operators_file, file.operators_config.encode())
        write_atomically(temporary / GOLDEN_FILE, golden_content)
        manifest = Manifest(
            schema=MANIFEST_SCHEMA,
            created_by=f"edgeship {__version__}",
            source={"config_sha256": sha256_of_json(_portable(config)), "weights_sha256": weights_sha256},
            data=config_to_dict(config.data),
            splits=splits_record(splits),
            preprocessing=spec,
            labels=splits.labels,
            reference=Reference(
                file=REFERENCE_FILE, sha256=sha256_of_file(temporary / REFERENCE_FILE),
                custom_objects=("edgeship.model.layers", *config.model.custom_objects),
            ),
            golden_sha256=sha256_of_bytes(golden_content),
            artifacts=tuple(artifacts),
            exported_on=processor_identity(),
            tools={name: importlib.metadata.version(name) for name in TOOLS},
        )
        write_atomically(temporary / MANIFEST_FILE, manifest_to_json(manifest).encode())
    return manifest


def _portable(config: Config) -> dict[str, Any]:
    """The configuration without what does not change the artifacts."""
    document = config_to_dict(config)
    del document["validate"]
    document["data"].pop("path")
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
