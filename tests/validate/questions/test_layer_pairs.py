"""Names of one value in two files, on graphs of a few operations: each has one way in which the files differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.graph import Graph, Operation, Tensor
from edgeship.validate.questions.layer_pairs import pair_results

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "Conv")
Line = tuple[str, tuple[str, ...], str]  # kind, inputs, output


def graph(*lines: Line, integer: bool, floats: tuple[str, ...] = (), output: str = "") -> Graph:
    """Operations in order, one output each, products with a kernel; all tensors are int8 on one grid, or float32."""
    grid: dict[str, Any] = {"scales": np.ones(1, np.float32), "zero_points": np.zeros(1, np.int64)}
    names = dict.fromkeys(("image", *(line[2] for line in lines)))
    tensors = {
        name: Tensor(name=name, dtype="int8", shape=None, **grid) if integer and name not in floats
        else Tensor(name=name, dtype="float32", shape=None)
        for name in names
    }
    kernels = {made: f"{made}/kernel" for kind, _, made in lines if kind in WEIGHTED}
    for name in kernels.values():
        tensors[name] = Tensor(name=name, dtype="int8", shape=(1,), data=np.ones(1, np.int8))
    operations = tuple(
        Operation(
            kind=kind, name=made, inputs=(*inputs, *filter(None, [kernels.get(made)])), outputs=(made,), attributes={}
        )
        for kind, inputs, made in lines
    )
    return Graph(
        format="tflite", inputs=("image",), outputs=(output or lines[-1][2],), tensors=tensors, operations=operations,
        versions={}, metadata={},
    )


def pairs_of(integer: Graph, floats: Graph) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    pairs, missing = pair_results(integer, floats)
    return {pair.tensor.name: pair.twins for pair in pairs}, missing


def test_what_is_folded_away_leaves_its_value_to_the_layer_before_it() -> None:
    """A batch norm and its ReLU became one depthwise convolution; a swish is one layer in both, of two operations."""
    integer = graph(
        ("CONV_2D", ("image",), "conv"), ("DEPTHWISE_CONV_2D", ("conv",), "norm"),
        ("LOGISTIC", ("norm",), "act_sigmoid"), ("MUL", ("norm", "act_sigmoid"), "act"),
        integer=True,
    )
    floats = graph(
        ("CONV_2D", ("image",), "conv"), ("MUL", ("conv",), "norm"), ("ADD", ("norm",), "relu"),
        ("LOGISTIC", ("relu",), "act"), ("MUL", ("relu", "act"), "act/mul"),
        integer=False,
    )
    twins, missing = pairs_of(integer, floats)
    assert twins == {"conv": ("conv",), "norm": ("norm", "relu"), "act": ("act", "act/mul")}
    assert missing == ("act_sigmoid",)
    # What reads the missing one reads what that is made of.
    reads = {pair.tensor.name: pair.reads for pair in pair_results(integer, floats)[0]}
    assert reads == {"conv": ("image",), "norm": ("conv",), "act": ("norm",)}


def test_names_that_tf2onnx_made_longer() -> None:
    integer = graph(
        ("Conv", ("image",), "a"), ("Conv", ("image",), "b"), ("Concat", ("a", "b"), "both/Concat"),
        ("Other", ("both/Concat",), "new/Other"),
        integer=True,
    )
    floats = graph(
        ("Conv", ("image",), "a"), ("Relu", ("a",), "a/Relu"), ("Conv", ("image",), "b"),
        ("Concat", ("a/Relu", "b"), "both"), integer=False,
    )
    twins, missing = pairs_of(integer, floats)
    assert twins == {"a": ("a", "a/Relu"), "b": ("b",), "both/Concat": ("both",)}
    assert missing == ("new/Other",)


def test_what_stands_behind_moved_values_is_a_candidate_too() -> None:
    """A separable convolution on 1x1 pixels: its second product is called "separable" here and "act" there."""
    integer = graph(
        ("Conv", ("image",), "separable_depthwise"), ("Conv", ("separable_depthwise",), "separable"),
        ("Reshape", ("separable",), "separable/Reshape"), ("Conv", ("separable/Reshape",), "next"), integer=True,
    )
    floats = graph(
        ("Conv", ("image",), "separable"), ("Reshape", ("separable",), "separable/Reshape"),
        ("Conv", ("separable/Reshape",), "act"), ("Conv", ("act",), "next"), integer=False,
    )
    twins, missing = pairs_of(integer, floats)
    assert twins == {"separable": ("separable", "separable/Reshape", "act"), "next": ("next",)}
    assert missing == ("separable_depthwise",)


def test_moved_values_and_conversions_are_no_results_of_their_own() -> None:
    integer = graph(
        ("QUANTIZE", ("image",), "image_quantized"), ("RESHAPE", ("image_quantized",), "image_flat"),
        ("MEAN", ("image_flat",), "mean/kept"), ("SQUEEZE", ("mean/kept",), "mean"),
        ("SOFTMAX", ("mean",), "y_quantized"), ("DEQUANTIZE", ("y_quantized",), "y"),
        integer=True, floats=("image", "y"),
    )
    floats = graph(
        ("RESHAPE", ("image",), "image_flat"), ("MEAN", ("image_flat",), "mean"), ("SOFTMAX", ("mean",), "y"),
        integer=False,
    )
    pairs, missing = pair_results(integer, floats)
    assert [(pair.tensor.name, pair.twins, pair.kind, pair.reads) for pair in pairs] == [
        ("mean", ("mean",), "MEAN", ("image",)), ("y_quantized", ("y",), "SOFTMAX", ("mean",)),
    ]
    assert missing == ()
