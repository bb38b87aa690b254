from __future__ import annotations

import pytest

from export.tflite_names import _layer, layer_of

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
    assert _layer(name, "net", LAYERS, weighted=weighted) == layer
