"""A tanh of an integer ONNX file is an integer kernel, gives LiteRT's codes, and its tensors have their grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.export.checks import check_onnx
from edgeship.export.onnx.convert import convert_onnx
from edgeship.graph import read_onnx
from edgeship.graph.differences import compare
from edgeship.graph.matching import match
from tests.support.networks import convert, quantized_model
from tests.support.two_files import codes_of, largest_difference, onnx_answers, tflite_answers


def at_the_ends(image):
    return layers.Activation("tanh", name="own")(image)


def gated(image):
    """A gate of WaveNet's kind: both functions of one tensor."""
    x = layers.Conv2D(4, 3, name="conv")(image)
    gate = layers.Multiply(name="gate")([layers.Activation("tanh", name="own")(x), layers.Activation("sigmoid")(x)])
    return layers.Conv2D(2, 1, name="out")(gate)


def twice(image):
    x = layers.Activation("tanh", name="own")(layers.Conv2D(4, 3, name="conv")(image))
    y = layers.Activation("tanh", name="again")(layers.Conv2D(4, 1, name="between")(x))
    return layers.Concatenate(name="both")([x, y])


@pytest.mark.parametrize("build", [at_the_ends, gated, twice], ids=lambda build: build.__name__)
def test_a_tanh_is_an_integer_kernel_with_litert_s_codes(build):
    image = layers.Input((8, 8, 3), name="image")
    quantized, noise = quantized_model(tf_keras.Model(image, build(image), name="net"))
    content, graph = convert(quantized)
    codes = codes_of(content, {"image": noise})
    for variant, dtype in (("u8u8", "uint8"), ("s8s8", "int8")):
        onnx = convert_onnx(content, variant=variant)
        check_onnx(onnx, name="model.onnx", activations=dtype, weights=dtype)
        other = read_onnx(onnx, where=Path("model.onnx"))
        assert "Tanh" not in {operation.kind for operation in other.operations}
        matching = match(graph, other)
        assert (compare(graph, other, matching).differences, matching.unmatched) == ((), ())
        assert all(other.tensors[name].scales is not None for name in (*other.inputs, *other.outputs))
        if variant == "u8u8":
            # What lies within float32 rounding of a half may be rounded to the other side.
            assert largest_difference(onnx_answers(onnx, codes), tflite_answers(content, codes)) <= 1


def test_a_tanh_on_another_grid_stays():
    """Kept in float, its result has the range that was calibrated, if it is not the prescribed one."""
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Activation("tanh", name="own")(layers.Conv2D(4, 3, name="conv")(image))
    model = tf_keras.Model(image, layers.Conv2D(2, 1, name="out")(x), name="net")
    quantized, noise = quantized_model(model, keep_float=["own"])
    content, _ = convert(quantized)
    kept = convert_onnx(content, variant="u8u8", layers=["conv", "own", "out"], keep_float=["own"])
    found = onnx_answers(kept, codes := codes_of(content, {"image": noise}))
    wanted = tflite_answers(content, codes)
    assert largest_difference(found, wanted) <= 1
    assert float(np.std(next(iter(wanted.values())).astype(float))) > 1
