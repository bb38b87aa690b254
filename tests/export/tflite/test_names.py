from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tf_keras import layers

from edgeship.core.errors import ExportError
from edgeship.export.tflite.convert import convert_tflite
from edgeship.export.tflite.names import _layer, layer_of
from edgeship.graph import read_tflite
from edgeship.model.flat_layers import DepthToSpace
from tests.support.networks import quantized_model

LAYERS = frozenset({"conv", "conv_bn", "block/expand", "block/expand/norm", "twice", "stage_1/conv_2"})


@pytest.mark.parametrize(("tensor", "layer"), [
    ("conv", "conv"), ("conv/kernel", "conv"), ("conv_bn/kernel", "conv_bn"), ("convolution", None),
    ("block/expand/kernel", "block/expand"), ("block/expand/norm/constant1", "block/expand/norm"), ("block", None),
])
def test_a_tensor_belongs_to_the_longest_layer_name_it_begins_with(tensor: str, layer: str | None) -> None:
    assert layer_of(tensor, LAYERS) == layer


@pytest.mark.parametrize(("name", "weighted", "layer"), [
    ("net/quant_conv/Relu;net/quant_conv/Conv2D", True, "conv"),
    # The product decides, wherever the converter lists it; else the bias of the same layer.
    ("net/conv_bn/FusedBatchNormV3;net/conv/Conv2D", True, "conv"),
    ("net/conv_bn/Relu;net/conv/BiasAdd;net/conv/MyConv", True, "conv"),
    ("net/conv_bn/Relu;net/conv/Conv2D", False, "conv_bn"),
    ("net/block/expand/Conv2D", True, "block/expand"),
    ("net/twice_1/MatMul", True, "twice"),  # the second use of a layer
    ("net/stage_1/conv_2_1/Conv2D", True, "stage_1/conv_2"),
    ("StatefulPartitionedCall:0", True, None),
])
def test_the_converters_name_leads_to_the_layer(name: str, weighted: bool, layer: str | None) -> None:
    assert _layer(name, "net", LAYERS, constants=[] if weighted else None) == layer


def test_a_product_that_took_up_a_reshape_belongs_to_the_layer_of_its_kernel() -> None:
    """The converter names the result of a dense layer after the reshape behind it, and its kernel after the product."""
    name = "net/scale_as_image/Reshape;net/dense_relu_range/FakeQuantWithMinMaxVars"
    kernel = "net/quant_dense/MatMul;net/quant_dense/FakeQuantWithMinMaxVars"
    found = ["dense", "dense_relu_range", "scale_as_image"]
    assert _layer(name, "net", found, constants=[kernel, "arith.constant"]) == "dense"
    assert _layer(name, "net", found, constants=["tfl.pseudo_qconst", "net/quant_dense/BiasAdd"]) == "dense"
    assert _layer(name, "net", found, constants=None) == "scale_as_image"


def test_an_integer_depth_to_space_runs_on_every_kernel_set() -> None:
    """The converter's version of it is not registered in the reference kernels."""
    image = tf_keras.layers.Input((4, 4, 8), name="image")
    x = DepthToSpace(2, name="larger")(tf_keras.layers.Conv2D(8, 1, name="conv")(image))
    quantized, _ = quantized_model(tf_keras.Model(image, x, name="net"))
    content = convert_tflite(quantized.model, scheme="int8-ptq")
    codes = np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 8), dtype=np.int8)
    answers = []
    for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF):
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], codes)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(int))
    assert np.abs(answers[0] - answers[1]).max() <= 1  # one product, rounded to one of two neighbours


@pytest.mark.parametrize("kind", ["an input", "another output"])
def test_an_output_that_is_another_tensor_already_is_refused_in_one_sentence(kind: str) -> None:
    given = layers.Input((4,), name="given")
    made = layers.Dense(2, name="made")(given)
    other = given if kind == "an input" else layers.Reshape((2,), name="again")(made)
    model = tf_keras.Model(given, [made, other], name="twins")
    with pytest.raises(ExportError, match=r"^twins: '(given|again)' and '(given|made)' are one tensor .* leave one"):
        convert_tflite(model)


@pytest.mark.parametrize(("given", "made"), [("in", "class"), ("lambda", "out"), ("given", "return"), ("a-b", "a.b")])
def test_inputs_and_outputs_may_have_names_that_python_does_not_allow(given: str, made: str) -> None:
    entry = layers.Input((4,), name=given)
    content = convert_tflite(tf_keras.Model(entry, layers.Dense(2, name=made)(entry), name="words"))
    runner = Interpreter(model_content=content).get_signature_runner()
    assert (list(runner.get_input_details()), list(runner.get_output_details())) == ([given], [made])
    graph = read_tflite(content, where=Path("words.tflite"))
    assert (graph.inputs, graph.outputs) == ((given,), (made,))
