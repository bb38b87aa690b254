"""Files of each form of the output: both formats give the same numbers, and say what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgeship
from edgeship.core.errors import ConfigError, ExportError
from edgeship.core.integers import dequantize
from edgeship.export.tflite.io import with_float_results
from edgeship.graph import graph_from_bytes
from edgeship.validate.subject.bundle import load_bundle
from tests.support.faint_classes import directions, faint_classes

CLASSES = 1000
FORMS = ("probabilities", "float-probabilities", "logits")


@pytest.fixture(scope="module")
def faint() -> edgeship.QuantizedModel:
    """A network of 1,000 classes; its largest probability is 0.0016, less than half a step of 1/256."""
    return edgeship.quantize_model(faint_classes(CLASSES, largest_logit=0.5), directions(CLASSES))


@pytest.fixture(scope="module")
def folders(faint, tmp_path_factory) -> dict[str, Path]:
    made = {}
    for form in FORMS:
        made[form] = tmp_path_factory.mktemp("forms") / form
        faint.export(made[form], formats=("tflite", "onnx"), output=form)
    return made


def values_of(folder: Path, name: str) -> np.ndarray:
    bundle = load_bundle(folder)
    artifact = next(item for item in bundle.manifest.artifacts if item.name == name)
    return dequantize(bundle.golden.expected[name][0], artifact.outputs[0])


def test_auto_is_told(faint):
    assert faint.output == "float-probabilities"
    assert edgeship.quantize_model(faint_classes(2, largest_logit=4.0), directions(2)).output == "probabilities"


@pytest.mark.parametrize("form", FORMS)
def test_both_formats_give_the_same(folders, form):
    one, other = (values_of(folders[form], f"int8-ptq.{kind}") for kind in ("tflite", "onnx"))
    if form == "float-probabilities":  # two float softmaxes of the same logits
        np.testing.assert_allclose(one, other, rtol=1e-5)
    else:
        np.testing.assert_array_equal(one, other)


def test_which_forms_tell_a_thousand_classes_apart(folders):
    """The golden examples are those of the classes 0 to 31, in this order."""
    right = {form: float(np.mean(values_of(folders[form], "int8-ptq.tflite").argmax(-1) == np.arange(32)))
             for form in FORMS}
    assert right == {"probabilities": 1 / 32, "float-probabilities": 1.0, "logits": 1.0}
    for form in FORMS:
        assert np.all(values_of(folders[form], "float32.tflite").argmax(-1) == np.arange(32))


@pytest.mark.parametrize(("form", "meaning"), [
    ("float-probabilities", "probabilities, which sum to 1"), ("logits", "logits over the last axis"),
])
def test_manifest_and_files_say_it(folders, form, meaning):
    manifest = edgeship.load_bundle(folders[form]).manifest
    assert manifest.output == form
    account = manifest.quantization["int8-ptq"]
    assert account.kept_float == () and account.weights_quantized == 1
    assert account.float_outputs == (("classes",) if form == "float-probabilities" else ())
    for name in ("int8-ptq.tflite", "int8-ptq.onnx", "float32.tflite"):
        metadata = edgeship.inspect_file(folders[form] / name).metadata
        assert json.loads(metadata["edgeship.tensors"])["outputs"][0]["meaning"].startswith(meaning)


def test_the_softmax_alone_is_float(folders):
    graph = graph_from_bytes((folders["float-probabilities"] / "int8-ptq.tflite").read_bytes(), where=Path("x.tflite"))
    assert [item.kind for item in graph.operations] == ["FULLY_CONNECTED", "DEQUANTIZE", "SOFTMAX"]
    graph = graph_from_bytes((folders["logits"] / "int8-ptq.tflite").read_bytes(), where=Path("x.tflite"))
    assert [item.kind for item in graph.operations] == ["FULLY_CONNECTED"]


def test_validated_with_all_that_is_asked_of_integers(folders):
    """No coverage is lost to the softmax that is float on purpose, and no answer to the form."""
    report = edgeship.load_bundle(folders["float-probabilities"]).validate(
        directions(CLASSES), np.arange(CLASSES), metric="top1", runtimes=("keras", "litert", "onnxruntime"),
    )
    rows = {(row.artifact, row.runtime): row for row in report.rows}
    for name, runtime in (("int8-ptq.tflite", "litert"), ("int8-ptq.onnx", "onnxruntime")):
        row = rows[name, runtime]
        assert row.coverage.float_ops == () and any("oftmax" in item.lower() for item in row.coverage.kept_float)
        assert row.accuracy.top1 > 0.99


def test_a_form_that_is_none(faint):
    with pytest.raises(ConfigError, match=r"export.output: expected one of auto, probabilities, .*; found 'codes'"):
        faint.convert(output="codes")


def test_only_a_softmax_becomes_float(folders):
    content = (folders["logits"] / "int8-ptq.tflite").read_bytes()
    with pytest.raises(ExportError, match="classes: expected a softmax"):
        with_float_results(content, ["classes"])
