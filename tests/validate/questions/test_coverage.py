from __future__ import annotations

import dataclasses
from typing import Any

from edgeship.core.artifact import Quantization
from edgeship.core.measurement import Coverage
from edgeship.validate.questions.coverage import (
    PlannedOperation,
    PlannedTensor,
    as_promised,
    coverage_of_plan,
    coverage_of_profile,
    delegated,
    with_kept_float,
)


def kernel(kind: str, name: str, inputs: list[dict[str, list[int]]], outputs: list[dict[str, list[int]]]) -> Any:
    return {
        "cat": "Node", "name": f"{name}_kernel_time",
        "args": {"op_name": kind, "input_type_shape": inputs, "output_type_shape": outputs},
    }


def qlinear_conv(name: str, weight_scale: list[int], channels: int = 16) -> Any:
    """As ONNX Runtime 1.32 writes it: the packed weights are missing."""
    return kernel("QLinearConv", name, [
        {"uint8": [1, 8, 8, 16]}, {"float": []}, {"uint8": []}, {"float": weight_scale}, {"uint8": weight_scale},
        {"float": []}, {"uint8": []}, {"int32": [channels]},
    ], [{"uint8": [1, 8, 8, channels]}])


def test_integer_kernels_of_onnx_runtime() -> None:
    coverage, notes = coverage_of_profile([
        {"cat": "Session", "name": "model_run", "args": {}},
        {"cat": "Node", "name": "conv_fence_before", "args": {"op_name": "QLinearConv"}},
        qlinear_conv("conv1", [16]),
        qlinear_conv("conv2", []),
        qlinear_conv("conv3", [1], channels=1),
        qlinear_conv("conv4", [1]),
        kernel("MaxPool", "pool", [{"uint8": [1, 8, 8, 16]}], [{"uint8": [1, 4, 4, 16]}]),
        kernel("Reshape", "flat", [{"uint8": [1, 16, 1, 1]}, {"int64": [2]}], [{"uint8": [1, 16]}]),
        kernel("Resize", "up", [{"uint8": [1, 1, 4, 4]}, {"float": [0]}, {"float": [4]}], [{"uint8": [1, 1, 8, 8]}]),
    ])
    assert (coverage.integer, coverage.total, coverage.float_ops, notes) == (7, 7, (), ())
    assert (coverage.per_channel, coverage.weighted) == (2, 4)


def test_float_kernels_of_onnx_runtime_are_named() -> None:
    image, float_image = {"uint8": [1, 8, 8, 3]}, {"float": [1, 8, 8, 3]}
    coverage, _ = coverage_of_profile([
        kernel("DequantizeLinear", "x/dequantize", [image, {"float": []}, {"uint8": []}], [float_image]),
        kernel("FusedConv", "stem", [float_image, {"float": [16, 3, 7, 7]}], [float_image]),
        kernel("QuantizeLinear", "x/quantize", [float_image, {"float": []}, {"uint8": []}], [image]),
        # A QGemm without an output scale answers floats.
        kernel("QGemm", "dense", [{"uint8": [1, 8]}, {"float": []}, {"float": [10]}], [{"float": [1, 10]}]),
        kernel("Transpose", "t", [image], [image]),
    ])
    assert (coverage.integer, coverage.total) == (1, 5)
    assert coverage.float_ops == (
        "DequantizeLinear x/dequantize", "FusedConv stem", "QuantizeLinear x/quantize", "QGemm dense",
    )
    assert (coverage.per_channel, coverage.weighted) == (0, 0)


def test_a_trace_without_the_weight_scale_is_not_guessed() -> None:
    coverage, _ = coverage_of_profile([
        kernel("QLinearConv", "conv", [{"uint8": [1, 8, 8, 3]}], [{"uint8": [1, 8, 8, 3]}])
    ])
    assert (coverage.per_channel, coverage.weighted) == (None, 1)


def test_an_empty_trace_covers_nothing() -> None:
    assert coverage_of_profile([])[0].share == 0.0


TENSORS = {
    0: PlannedTensor(name="image", dtype="int8", scales=1, channels=1),
    1: PlannedTensor(name="kernel", dtype="int8", scales=16, channels=16),
    2: PlannedTensor(name="bias", dtype="int32", scales=16, channels=16),
    3: PlannedTensor(name="conv", dtype="int8", scales=1, channels=1),
    4: PlannedTensor(name="float", dtype="float32", scales=0, channels=None),
    5: PlannedTensor(name="probabilities", dtype="int8", scales=1, channels=1),
}
CONV = PlannedOperation(kind="CONV_2D", inputs=(0, 1, -1), outputs=(3,))
BACK = PlannedOperation(kind="DEQUANTIZE", inputs=(3,), outputs=(4,))
SOFTMAX = PlannedOperation(kind="SOFTMAX", inputs=(3,), outputs=(5,))
DELEGATE = PlannedOperation(kind="DELEGATE", inputs=(0, 1, 2), outputs=(3,))


def test_the_plan_of_litert() -> None:
    coverage, notes = coverage_of_plan([CONV, BACK, SOFTMAX, DELEGATE], TENSORS)
    assert (coverage.integer, coverage.total, coverage.float_ops) == (2, 3, ("DEQUANTIZE float",))
    assert (coverage.per_channel, coverage.weighted) == (1, 1)
    assert notes == (
        "the delegate executes 1 of 3 operations; built-in kernels execute DEQUANTIZE, SOFTMAX",
    )


def test_weights_with_one_scale_are_counted() -> None:
    one = TENSORS | {1: PlannedTensor(name="kernel", dtype="int8", scales=1, channels=16)}
    assert coverage_of_plan([CONV], one)[0].per_channel == 0


def test_no_delegate_no_note() -> None:
    assert coverage_of_plan([CONV, SOFTMAX], TENSORS)[1] == ()


def test_what_a_delegate_took_ends_at_its_inputs() -> None:
    second = PlannedOperation(kind="ADD", inputs=(3, 3), outputs=(6,))
    partial = PlannedOperation(kind="DELEGATE", inputs=(3,), outputs=(6,))
    assert delegated([CONV, second, partial]) == [second]


def test_float_operations_of_kept_layers_are_told_apart() -> None:
    floats = (
        "DequantizeLinear a/DequantizeLinear", "ReorderOutput ReorderOutput", "Conv b/float_nchwc", "Softmax c_token_3",
        "Gemm b/Gemm", "Conv b_1", "Conv d", "Mul b/float/input0/Mul",
    )
    coverage = Coverage(integer=2, total=10, float_ops=floats, per_channel=0, weighted=0)
    assert with_kept_float(coverage, ()) == coverage
    told = with_kept_float(coverage, ("b", "c"))
    assert told.float_ops == ("Conv b_1", "Conv d")
    assert told.kept_float == tuple(name for name in floats if name not in told.float_ops)
    assert (told.promised, told.promised_share, told.share) == (4, 0.5, 0.2)


def test_a_manifest_says_what_is_kept_in_float_and_how_many_scales_there_are() -> None:
    coverage = Coverage(integer=2, total=3, float_ops=("Conv b",), per_channel=0, weighted=2)
    assert as_promised(coverage, None) == coverage and coverage.lost_scales == 2
    account = Quantization(
        kept_float=("b",), weights_expected=2, weights_quantized=2, weight_bits=8, weight_scales="per-tensor"
    )
    told = as_promised(coverage, account)
    assert (told.float_ops, told.kept_float, told.lost_scales) == ((), ("Conv b",), 0)


def test_axes_that_the_runtime_adds_to_float_operations_follow_them() -> None:
    floats = ("Conv b", "Unsqueeze Unsqueeze", "Unsqueeze Unsqueeze_token_9", "Unsqueeze d")
    coverage = Coverage(integer=2, total=6, float_ops=floats, per_channel=0, weighted=0)
    told = with_kept_float(coverage, ("b",))
    assert told.kept_float == floats[:3] and told.float_ops == floats[3:]
    assert with_kept_float(coverage, ()).float_ops == floats


def test_a_resize_in_float_is_told_apart_with_its_two_conversions_and_nothing_else() -> None:
    floats = (
        "DequantizeLinear a", "Resize b", "QuantizeLinear b/q", "Conv c", "DequantizeLinear d", "QuantizeLinear e",
    )
    coverage = Coverage(integer=2, total=8, float_ops=floats, per_channel=0, weighted=0)
    told = with_kept_float(coverage, ())
    assert told.kept_float == floats[:3] and told.float_ops == floats[3:]
    without = dataclasses.replace(coverage, float_ops=("Conv c", "DequantizeLinear d", "Softmax e"))
    assert with_kept_float(without, ()) == without
