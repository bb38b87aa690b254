from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgeship.core.errors import ExportError
from edgeship.core.integers import dequantize, quantize
from edgeship.export.proof.golden import specs_of
from edgeship.export.tflite.io import with_float_io
from edgeship.graph import read_graph
from edgeship.validate.subject.bundle import load_bundle


def run(content: bytes, image: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(entry["index"], image)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(result["index"]))


def test_the_same_integers_between_float_ends(tiny_bundle: Path) -> None:
    """On real images and on noise: float in, quantized, the int8 file's answer, dequantized. Not one bit more."""
    integer, real = ((tiny_bundle / name).read_bytes() for name in ("int8-qat.tflite", "int8-qat-float-io.tflite"))
    (entry,), (result,) = specs_of(integer, format="tflite")
    (golden,) = load_bundle(tiny_bundle).golden.inputs
    noise = np.random.default_rng(0).random(golden.shape, np.float32)
    for image in np.concatenate([golden, noise]):
        expected = dequantize(run(integer, quantize(image[None], entry)), result)
        assert np.array_equal(run(real, image[None]), expected)


def test_names_stay_and_only_two_conversions_are_added(tiny_bundle: Path) -> None:
    integer = read_graph(tiny_bundle / "int8-qat.tflite")
    real = read_graph(tiny_bundle / "int8-qat-float-io.tflite")
    assert (real.inputs, real.outputs) == (integer.inputs, integer.outputs) == (("image",), ("probabilities",))
    assert {real.tensors[name].dtype for name in (*real.inputs, *real.outputs)} == {"float32"}
    kinds = [operation.kind for operation in real.operations]
    assert kinds == ["QUANTIZE", *(operation.kind for operation in integer.operations), "DEQUANTIZE"]
    for name, tensor in integer.tensors.items():
        twin = real.tensors[f"{name}_quantized" if name in ("image", "probabilities") else name]
        assert twin.dtype == tensor.dtype and np.array_equal(twin.scales, tensor.scales)
        if tensor.data is not None:
            assert np.array_equal(twin.data, tensor.data)


def test_a_float_file_has_no_float_form(tiny_bundle: Path) -> None:
    with pytest.raises(ExportError, match="image: expected an integer input or output"):
        with_float_io((tiny_bundle / "float32.tflite").read_bytes())
