"""Keras models in, the bundle's model files out: every scheme in every format, each held against its promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import tf_keras

from edgeship.core.artifact import Preprocessing, Quantization
from edgeship.core.config import FULL, PER_CHANNEL, Config
from edgeship.core.errors import ExportError
from edgeship.core.progress import doing, fact, track
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES, Scheme
from edgeship.core.variants import PORTABLE, file_of
from edgeship.export.checks import check_onnx, check_tflite, float_weighted, quantized_layers
from edgeship.export.meanings import meanings_of
from edgeship.export.metadata import with_metadata
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.onnx.ort import convert_ort
from edgeship.export.proof.account import hold_to_account
from edgeship.export.proof.exported import Exported, ExportedFile
from edgeship.export.proof.golden import specs_of
from edgeship.export.proof.proof import prove
from edgeship.export.samples import Samples
from edgeship.export.tflite.convert import convert_tflite, layer_names, rounded_layers
from edgeship.export.tflite.float_layers import with_float_layers
from edgeship.export.tflite.io import SUFFIX as FLOAT_IO
from edgeship.export.tflite.io import with_float_io, with_float_results
from edgeship.export.tflite.names import layer_of
from edgeship.export.weights import onnx as onnx_weights
from edgeship.export.weights import tflite as tflite_weights
from edgeship.export.weights.rounded_weights import check_against_floats, check_against_keras
from edgeship.graph import read_tflite
from edgeship.model.prepared import Prepared

INTEGER_TYPES = {"u": "uint8", "s": "int8"}
CONVERTED = 0.7  # where the bar of the stage stands when all files are made: asking them takes the rest


def export_files(
    prepared: Sequence[Prepared], *, samples: Samples, config: Config, spec: Preprocessing | None = None,
    labels: tuple[str, ...] = (), meanings: tuple[str, ...] | None = None,
) -> Exported:
    """Convert to every format the configuration asks for, check each file's promises, and run each file.

    Args:
        prepared: the network of each scheme; the files come in this order.
        samples: what is calibrated with, and what the files are asked.
        config: of the sections `[quantize]` and `[export]`.
        spec, labels: of an image classifier, what its files say of their input and output.
        meanings: what each output is, in words; None: what the first network's layers say.

    Raises:
        ExportError: a converter refused, a file breaks a promise, a kernel that is expected as int8 is not, or a file
            answers otherwise than the model it was made from.
    """
    files: list[ExportedFile] = []
    accounts: dict[str, Quantization] = {}
    floats = _FloatFiles()

    for item in track(prepared, label="schemes", total=len(prepared), share=CONVERTED):
        name, model, kept = item.scheme, item.model, item.kept_float
        scheme = SCHEMES[name]
        layers = layer_names(model)
        doing(f"{name} to TFLite")
        if scheme.activations == "float32":
            content = _small_tflite(floats.tflite(model), scheme, layers=layers, kept=kept)
        else:
            content = convert_tflite(model, scheme=name, calibration=samples.calibration)
            if kept:
                content = with_float_layers(
                    content, floats.tflite(model), layers=layers, keep_float=kept, rounded=rounded_layers(model)
                )
            if item.float_outputs:
                content = with_float_results(content, item.float_outputs)
        tflite = ExportedFile(name=f"{name}.tflite", format="tflite", scheme=name, content=content)
        codes = _codes(scheme, config)
        check_tflite(
            content, name=tflite.name, scheme=name, layers=layers, kept_float=kept, float_outputs=item.float_outputs,
            **codes,
        )
        if scheme.source == FAKE_QUANTIZED:
            check_against_keras(content, model, name=tflite.name, layers=layers)
        elif not scheme.integer:
            check_against_floats(content, floats.tflite(model), name=tflite.name)
        if scheme.quantizes_weights:
            accounts[name] = _account(tflite, item, layers=layers, codes=codes)
        formats = config.export.formats_of(name)
        if "tflite" in formats:
            files += _tflite_files(tflite, config)
        if "onnx" in formats and scheme.source == FAKE_QUANTIZED:
            files += _integer_onnx_files(
                tflite, config, layers=layers, kept=kept, codes=codes, float_outputs=item.float_outputs
            )
        elif "onnx" in formats:
            doing(f"{name} to ONNX")
            small = _small_onnx(floats, model, scheme, layers=layers, kept=kept)
            files.append(ExportedFile(name=f"{name}.onnx", format="onnx", scheme=name, content=small))
    if meanings is None:
        meanings = meanings_of(prepared[0].model)
    finished = [_with_metadata(file, spec=spec, labels=labels, meanings=meanings) for file in files]
    finished += [
        _ort_file(file) for file in finished
        if file.name == file_of(file.scheme, PORTABLE) and "ort" in config.export.formats_of(file.scheme)
    ]
    fact(", ".join(f"{file.name} {len(file.content) / 1e6:.2f} MB" for file in finished))
    doing(f"asking {len(finished)} files and their Keras models the same")
    answers = prove(finished, models={item.scheme: item.model for item in prepared}, samples=samples)
    proven = tuple(dataclasses.replace(file, golden_outputs=answers[file.name]) for file in finished)
    fact(f"{len(proven)} files answer as the Keras models they were made from")
    return Exported(files=proven, golden_inputs=samples.golden, quantization=accounts)


def _codes(scheme: Scheme, config: Config) -> dict[str, Any]:
    """What is asked of a scheme's weights, which is the user's choice in the int8 schemes: bits, range, scales."""
    if scheme.source != FAKE_QUANTIZED:
        return {"weight_bits": 8, "weight_range": FULL, "weight_scales": PER_CHANNEL}
    return {key: getattr(config.quantize, key) for key in ("weight_bits", "weight_range", "weight_scales")}


class _FloatFiles:
    """The float32 files of a model, which several schemes are made from: converted once."""

    def __init__(self) -> None:
        self._tflite: dict[int, bytes] = {}
        self._onnx: dict[int, bytes] = {}

    def tflite(self, model: tf_keras.Model) -> bytes:
        if id(model) not in self._tflite:
            self._tflite[id(model)] = convert_tflite(model)
        return self._tflite[id(model)]

    def onnx(self, model: tf_keras.Model) -> bytes:
        if id(model) not in self._onnx:
            self._onnx[id(model)] = convert_onnx(self.tflite(model), variant=None)
        return self._onnx[id(model)]


def _small_tflite(content: bytes, scheme: Scheme, *, layers: Collection[str], kept: Collection[str]) -> bytes:
    """A float32 file in the form of a scheme that computes in float or quantizes activations when it runs."""
    if scheme.weights == "float16":
        return tflite_weights.with_float16_weights(content, layers=layers)
    if scheme.weights == "int8":
        return tflite_weights.with_int8_weights(content, layers=layers, keep_float=kept, dynamic=scheme.dynamic)
    return content


def _small_onnx(
    floats: _FloatFiles, model: tf_keras.Model, scheme: Scheme, *, layers: Collection[str], kept: Collection[str]
) -> bytes:
    """The same in ONNX, from the same float32 numbers, so on the same integers."""
    content = floats.onnx(model)
    if scheme.weights == "float16":
        return onnx_weights.with_float16_weights(content)
    if scheme.weights == "int8":
        graph = read_tflite(floats.tflite(model), where=Path("float32.tflite"))
        numbers = [
            onnx_weights.same_numbers(item.weights.data) for item in graph.weighted_operations()
            if item.weights.data is not None and layer_of(item.weights.name, layers) in kept
        ]
        return onnx_weights.with_int8_weights(content, dynamic=scheme.dynamic, kept=numbers)
    return content


def _account(
    tflite: ExportedFile, item: Prepared, *, layers: Collection[str], codes: dict[str, Any]
) -> Quantization:
    """Hold the int8 kernels of a file against those that should be. Raises ExportError naming the missing ones."""
    kept = item.kept_float
    found = quantized_layers(tflite.content, name=tflite.name, layers=layers)
    wanted = dict.fromkeys(layer_of(name, layers) or name for name in item.expected)
    missing = [name for name in wanted if name not in found and name not in kept]
    if missing:
        raise ExportError(
            f"{tflite.name}: expected int8 kernels of {len(wanted)} layers, found {len(found)}; not int8: "
            f"{', '.join(missing)}"
        )
    fact(
        f"{tflite.scheme}: kernels of {len(found)} layers in int8"
        + (f", kept in float: {', '.join(kept)}" if kept else "")
        + (f", float softmax: {', '.join(item.float_outputs)}" if item.float_outputs else "")
    )
    return Quantization(
        kept_float=kept, weights_expected=sum(name not in kept for name in wanted), weights_quantized=len(found),
        float_outputs=item.float_outputs, found=dict(item.notes), **codes,
    )


def _tflite_files(tflite: ExportedFile, config: Config) -> Iterator[ExportedFile]:
    yield tflite
    if SCHEMES[tflite.scheme].integer and "float32" in config.export.tflite_io:
        yield dataclasses.replace(
            tflite, name=f"{tflite.scheme}{FLOAT_IO}.tflite", content=with_float_io(tflite.content),
            same_grid_as=tflite.name,
        )


def _integer_onnx_files(
    tflite: ExportedFile, config: Config, *, layers: Collection[str], kept: Collection[str], codes: dict[str, Any],
    float_outputs: Collection[str],
) -> Iterator[ExportedFile]:
    doing(f"{tflite.scheme} to ONNX")
    sibling = tflite.name if "tflite" in config.export.formats_of(tflite.scheme) else None
    for variant in config.export.onnx_variants:
        name = file_of(tflite.scheme, variant)
        content = convert_onnx(tflite.content, variant=variant, layers=layers, keep_float=kept)
        check_onnx(
            content, name=name, activations=INTEGER_TYPES[variant[0]], weights=INTEGER_TYPES[variant[2]],
            float_weights=float_weighted(tflite.content, name=tflite.name), layers=layers, kept_float=kept,
            float_outputs=float_outputs, **codes,
        )
        hold_to_account(content, tflite.content, name=name, source=tflite.name)
        yield ExportedFile(name=name, format="onnx", scheme=tflite.scheme, content=content, same_grid_as=sibling)


def _with_metadata(
    file: ExportedFile, *, spec: Preprocessing | None, labels: tuple[str, ...], meanings: tuple[str, ...]
) -> ExportedFile:
    """What the app needs travels inside the file."""
    inputs, outputs = specs_of(file.content, format=file.format)
    content = with_metadata(
        file.content, format=file.format, preprocessing=spec, labels=labels, inputs=inputs, outputs=outputs,
        meanings=meanings,
    )
    return dataclasses.replace(file, content=content)


def _ort_file(onnx: ExportedFile) -> ExportedFile:
    """The default ONNX file of a scheme in ONNX Runtime's own format; its metadata goes with it."""
    doing(f"{onnx.scheme} to ORT format")
    converted = convert_ort(onnx.content)
    return dataclasses.replace(
        onnx, name=onnx.name.removesuffix(".onnx") + ".ort", format="ort", content=converted.content,
        operators_config=converted.operators_config,
    )
