"""A maximum over axes and a block of pixels as channels are integer kernels in the ONNX file, with LiteRT's answers."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import tf_keras
from tf_keras import layers

from edgeship.export.checks import check_onnx
from edgeship.graph import read_onnx
from edgeship.graph.differences import compare
from edgeship.graph.matching import match
from edgeship.model import flat_layers
from tests.support.networks import convert, quantized_model
from tests.support.two_files import codes_of, largest_difference, onnx_answers, onnx_of, tflite_answers


def maxout(image):
    pieces = layers.Reshape((16, 2), name="pieces")(layers.Dense(32, name="dense")(layers.Flatten()(image)))
    return layers.Dense(3, name="out")(flat_layers.Reduce("max", [2], name="largest")(pieces))


@pytest.mark.parametrize("build", [
    maxout,
    lambda image: flat_layers.Reduce("max", [3], keepdims=True, name="largest")(layers.Conv2D(4, 3)(image)),
    lambda image: flat_layers.Reduce("max", [2], name="largest")(layers.Conv2D(4, 3, name="conv")(image)),
    lambda image: layers.GlobalMaxPooling2D(name="largest")(layers.Conv2D(4, 3, name="conv")(image)),
    lambda image: layers.Conv2D(2, 1, name="out")(flat_layers.DepthToSpace(2, inverse=True, name="blocks")(
        flat_layers.StridedSlice([(0, 6, None), (2, 8, None)], name="part")(layers.Conv2D(4, 1, name="conv")(image))
    )),
], ids=["maxout", "of channels, at the end", "of columns", "of an image", "blocks of a part"])
def test_it_is_an_integer_kernel(build, tmp_path):
    image = layers.Input((8, 8, 3), name="image")
    quantized, noise = quantized_model(tf_keras.Model(image, build(image), name="net"))
    content, graph = convert(quantized)
    codes = codes_of(content, {"image": noise})
    onnx = onnx_of(content)
    check_onnx(onnx, name="model.onnx", activations="uint8", weights="uint8")
    other = read_onnx(onnx, where=Path("model.onnx"))
    matching = match(graph, other)
    assert (compare(graph, other, matching).differences, matching.unmatched) == ((), ())
    assert largest_difference(onnx_answers(onnx, codes), tflite_answers(content, codes)) <= 1
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "planned.onnx")
    onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    planned = read_onnx((tmp_path / "planned.onnx").read_bytes(), where=tmp_path / "planned.onnx")
    assert not {operation.kind for operation in planned.operations} & {"DequantizeLinear", "QuantizeLinear"}
