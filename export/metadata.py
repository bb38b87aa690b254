"""What an app must know travels inside the artifact: preprocessing, labels, tensors.

docs/metadata.md is for those who read it.
"""

from __future__ import annotations

import json
from typing import Any

import onnx

from edgeship.core.artifact import Preprocessing, TensorSpec
from edgeship.core.errors import ExportError
from edgeship.data.preprocess import INTERPOLATION
from edgeship.export.meanings import LOGITS
from edgeship.export.tflite.metadata import with_tflite_metadata, with_tflite_tensors
from edgeship.inspect.inspection import LABELS_KEY, PREPROCESSING_KEY, TENSORS_KEY

INPUT_MEANING = "values as the model was trained with"
LAYOUT = "NHWC"  # of both formats: the ONNX files keep the TFLite files' inputs


def with_metadata(
    content: bytes,
    *,
    format: str,
    preprocessing: Preprocessing | None,
    labels: tuple[str, ...],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    meanings: tuple[str, ...] = (),
) -> bytes:
    """The same model with what an app must know inside; the same arguments give the same bytes.

    Args:
        content: a "tflite" or an "onnx" file, as `format` says; metadata of an earlier call is replaced.
        preprocessing, labels: of an image classifier, which takes one image (1, S, S, C) and answers with one vector
            of classes. Without a preprocessing each tensor's shape, type, grid and meaning are said.
        inputs, outputs: what `specs_of` found.
        meanings: what each output is, in words (export/meanings.py).

    Raises:
        ExportError: tensors that do not fit the preprocessing; a label that cannot be a line of UTF-8 text.
    """
    _check_labels(labels)
    if preprocessing is None:
        return _with_tensors(content, format, labels, inputs, outputs, meanings)
    source, result = _only("input", inputs), _only("output", outputs)
    expected = (1, preprocessing.image_size, preprocessing.image_size, preprocessing.channels)
    if source.shape != expected:
        raise ExportError(f"metadata: expected the input {source.name} of shape {expected}, found {source.shape}")
    values = "logits" if LOGITS in meanings else "probabilities"
    entries = {
        PREPROCESSING_KEY: json.dumps(_preprocessing(preprocessing, source, result, values), allow_nan=False),
        LABELS_KEY: json.dumps(labels),
    }
    if format == "onnx":
        return _with_onnx_metadata(content, entries)
    return with_tflite_metadata(
        content, entries, preprocessing=preprocessing, labels=labels, input=source, output=result, values=values
    )


def _with_tensors(
    content: bytes, format: str, labels: tuple[str, ...], inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...], meanings: tuple[str, ...],
) -> bytes:
    """Of a model that takes arrays as they are."""
    document = {
        "inputs": [_described(spec, INPUT_MEANING) for spec in inputs],
        "outputs": [_described(spec, meaning) for spec, meaning in zip(outputs, meanings, strict=True)],
    }
    entries = {TENSORS_KEY: json.dumps(document, allow_nan=False)}
    if labels:
        entries[LABELS_KEY] = json.dumps(labels)
    if format == "onnx":
        return _with_onnx_metadata(content, entries)
    return with_tflite_tensors(
        content, entries, inputs={spec.name: INPUT_MEANING for spec in inputs},
        outputs={spec.name: meaning for spec, meaning in zip(outputs, meanings, strict=True)},
    )


def _described(spec: TensorSpec, meaning: str) -> dict[str, Any]:
    return {**_tensor(spec), "shape": spec.shape, "meaning": meaning}


def _preprocessing(spec: Preprocessing, source: TensorSpec, result: TensorSpec, values: str) -> dict[str, Any]:
    """The JSON object that docs/metadata.md describes."""
    if spec.interpolation != INTERPOLATION:
        raise ExportError(f"metadata: expected the interpolation {INTERPOLATION}, found {spec.interpolation!r}")
    return {
        "image_size": spec.image_size,
        "channels": spec.channels,
        "channel_order": spec.channel_order,
        "layout": LAYOUT,
        "resize": spec.resize,
        "fit": spec.fit,
        "antialias": spec.antialias,
        "mean": spec.mean,
        "std": spec.std,
        "input": _tensor(source),
        "output": {**_tensor(result), "values": values},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "scale": spec.scale, "zero_point": spec.zero_point}


def _with_onnx_metadata(content: bytes, entries: dict[str, str]) -> bytes:
    """Entries as `metadata_props`, sorted by key; other keys are kept."""
    model = onnx.ModelProto.FromString(content)
    properties = {item.key: item.value for item in model.metadata_props} | entries
    del model.metadata_props[:]
    for key in sorted(properties):
        model.metadata_props.add(key=key, value=properties[key])
    return bytes(model.SerializeToString(deterministic=True))


def _only(kind: str, tensors: tuple[TensorSpec, ...]) -> TensorSpec:
    if len(tensors) != 1:
        raise ExportError(f"metadata: expected one {kind}, found {len(tensors)}")
    return tensors[0]


def _check_labels(labels: tuple[str, ...]) -> None:
    """Labels end up as lines of a UTF-8 file."""
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError as error:
            raise ExportError(f"metadata: the label {label!r} is not valid Unicode; rename its folder") from error
        if "\n" in label or "\r" in label:
            raise ExportError(f"metadata: the label {label!r} has a line break; rename it")
