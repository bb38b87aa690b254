from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeship.core.errors import ExportError
from edgeship.core.integers import quantize
from edgeship.export.onnx.ort import convert_ort
from edgeship.validate.subject.bundle import load_bundle


def test_it_answers_with_the_bits_of_the_onnx_file_and_keeps_its_metadata(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    artifacts = {artifact.name: artifact for artifact in bundle.manifest.artifacts}
    ort, onnx = artifacts["int8-qat.ort"], artifacts["int8-qat.onnx"]
    assert (ort.inputs, ort.outputs, ort.same_grid_as) == (onnx.inputs, onnx.outputs, "int8-qat.tflite")
    sessions = [onnxruntime.InferenceSession(str(bundle.path_of(artifact))) for artifact in (ort, onnx)]
    (golden,) = bundle.golden.inputs
    noise = np.random.default_rng(0).random(golden.shape, np.float32)
    for image in np.concatenate([golden, noise]):
        first, second = (
            session.run(None, {"image": quantize(image[None], ort.inputs[0])})[0] for session in sessions
        )
        assert np.array_equal(first, second)
    properties = sessions[0].get_modelmeta().custom_metadata_map
    assert json.loads(properties["edgeship.labels"]) == list(bundle.manifest.labels)


def test_the_operators_a_reduced_build_needs_are_beside_it(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    ort = next(artifact for artifact in bundle.manifest.artifacts if artifact.name == "int8-qat.ort")
    assert ort.operators_config is not None
    text = (tiny_bundle / ort.operators_config).read_text()
    assert "QLinearConv" in text and "uint8_t" in text
    # No float convolution is left, so the build needs none; and nothing of the folder it was made in.
    assert "ai.onnx;11;Conv" not in text and "#" not in text and "/tmp" not in text


def test_the_same_bytes_every_time(tiny_bundle: Path) -> None:
    content = (tiny_bundle / "int8-qat.onnx").read_bytes()
    assert convert_ort(content) == convert_ort(content)
    assert convert_ort(content).content == (tiny_bundle / "int8-qat.ort").read_bytes()


def test_a_file_that_is_no_onnx() -> None:
    with pytest.raises(ExportError, match=r"the converter to \.ort refused the file"):
        convert_ort(b"not a model at all")


def test_the_same_bytes_whatever_the_environment_is(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter writes in the order of its objects' addresses, and a larger environment moves them."""
    onnx = (tiny_bundle / "float32.onnx").read_bytes()
    monkeypatch.setenv("A_LONG_VARIABLE", "x" * 5000)
    monkeypatch.setenv("PYTHONPATH", "/a/folder/that/is/not/there")
    assert convert_ort(onnx).content == (tiny_bundle / "float32.ort").read_bytes()
