"""The certificate of 16-bit sums: by hand, against saturating arithmetic, and on every form of a file."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeship.core.saturation import Saturation
from edgeship.graph import read_onnx
from edgeship.graph.saturation import DEPTHWISE, SAFE_PAIRS, SIGNED, UNSIGNED, saturation_of, unsafe_layers
from tests.support import integer_products as files

RANDOM = np.random.default_rng(0)


def certificate(content: bytes) -> Saturation:
    return saturation_of(read_onnx(content, where=Path("m.onnx")))


def test_the_sums_of_a_matrix_by_hand() -> None:
    # Columns: pairs (0, 1), (2, 3), and the fifth row alone.
    weights = np.array([
        [64, 65, -64, -65, 127],
        [64, 64, -64, -64, -127],
        [127, 127, 1, 2, 100],
        [1, 2, 127, 127, 100],
        [127, 127, -128, -128, 127],
    ], np.int8)
    found = certificate(files.matmul_integer(weights))
    (layer,) = found.layers
    assert (layer.operation, layer.kind, layer.pairs, found.pairs) == ("product", "MatMulInteger", 15, 15)
    # Column 1: 129 in both pairs; column 3: -129 and 129; column 4: 200. Columns 0 and 2 are at 128 exactly, or safe.
    assert layer.unsafe_pairs == 2 + 2 + 1
    # The largest: 200 x 255 = 51000, 18233 above 32767; column 1 has 2 x (129 x 255 - 32767) = 256.
    assert layer.largest_error == 51_000 - 32_767
    assert layer.largest_error_steps is None  # no scale in the file
    assert found.cannot_saturate is False
    assert found.sentence == (
        "can saturate on x86 processors without VNNI: 5 of 15 pairs of weights, in 1 of 1 products; the largest "
        "possible error is 18,233 products of codes of product"
    )


@pytest.mark.parametrize(("pair", "unsafe", "error"), [
    ((64, 64), 0, 0), ((65, 64), 1, 129 * 255 - 32_767), ((-64, -64), 0, 0), ((-65, -64), 1, 129 * 255 - 32_768),
    ((127, -128), 0, 0), ((127, 1), 0, 0), ((127, 2), 1, 128), ((-128, 0), 0, 0), ((-128, -1), 1, 127),
    ((127, 127), 1, 254 * 255 - 32_767), ((-128, -128), 1, 256 * 255 - 32_768),
])
def test_one_pair(pair: tuple[int, int], unsafe: int, error: int) -> None:
    found = certificate(files.qlinear_matmul(np.array(pair, np.int8)[:, None]))
    assert sum(layer.unsafe_pairs for layer in found.layers) == unsafe
    if unsafe:
        assert found.layers[0].largest_error == error
        # In steps of the output: scale of x times scale of w, by the scale of y.
        assert found.layers[0].largest_error_steps == error * 0.5 * 0.25 / 2
    else:
        assert found.exact == {SAFE_PAIRS: 1} and found.cannot_saturate is True


def test_the_rule_is_exact_for_every_pair() -> None:
    """Necessary and sufficient: arithmetic that saturates differs for some input exactly where the rule says so."""
    values = [-128, -127, -100, -65, -64, -63, -1, 0, 1, 2, 28, 63, 64, 65, 100, 127]
    weights = np.array(list(itertools.product(values, values)), np.int8).T
    exact = files.worst_inputs(weights).astype(np.int64) @ weights.astype(np.int64)
    saturated = files.saturating_products(files.worst_inputs(weights), weights)
    found = certificate(files.matmul_integer(weights))
    differs = np.abs(exact - saturated).max(axis=0)
    assert found.layers[0].unsafe_pairs == np.count_nonzero(differs)
    assert found.layers[0].largest_error == differs.max()


@pytest.mark.parametrize("rows", [1, 2, 7, 32])
def test_the_largest_error_is_reached_and_never_passed(rows: int) -> None:
    weights = RANDOM.integers(-128, 128, (rows, 6)).astype(np.int8)
    inputs = np.concatenate([files.worst_inputs(weights), RANDOM.integers(0, 256, (500, rows)).astype(np.uint8)])
    errors = np.abs(inputs.astype(np.int64) @ weights - files.saturating_products(inputs, weights))
    found = certificate(files.matmul_integer(weights))
    assert max((layer.largest_error for layer in found.layers), default=0) == errors.max()


def test_the_channels_of_a_convolution_are_the_neighbours() -> None:
    """(rows, columns, channels) flattened: two channels of one tap, and with an odd number of them two taps."""
    weights = np.zeros((1, 2, 1, 2), np.int8)
    weights[0, :, 0, 0] = 100  # two channels of one tap
    assert certificate(files.qlinear_conv(weights)).layers[0].unsafe_pairs == 1
    weights = np.zeros((1, 2, 1, 2), np.int8)
    weights[0, 0, 0, :] = 100  # one channel of two taps
    assert certificate(files.qlinear_conv(weights)).cannot_saturate is True
    weights = np.zeros((1, 3, 1, 2), np.int8)
    weights[0, 2, 0, 0] = weights[0, 0, 0, 1] = 100  # the last channel of a tap and the first of the next
    assert certificate(files.qlinear_conv(weights)).layers[0].unsafe_pairs == 1
    weights = np.zeros((1, 3, 1, 2), np.int8)
    weights[0, 1:, 0, 0] = 100  # channels 1 and 2 are in two pairs
    assert certificate(files.qlinear_conv(weights)).cannot_saturate is True


def test_groups_have_pairs_of_their_own() -> None:
    weights = np.zeros((4, 3, 1, 1), np.int8)
    weights[:, :2] = 100
    (layer,) = certificate(files.qlinear_conv(weights, group=2)).layers
    assert (layer.pairs, layer.unsafe_pairs) == (8, 4)
    # One input channel per group: with one output channel it is depthwise, with two a product over the taps.
    taps = np.full((4, 1, 3, 3), 127, np.int8)
    assert certificate(files.qlinear_conv(taps, group=4)).exact == {DEPTHWISE: 1}
    assert certificate(files.qlinear_conv(taps, group=2)).layers[0].unsafe_pairs == 4 * 4


def test_what_is_exact_by_its_kernels() -> None:
    weights = np.full((2, 2, 1, 1), 255, np.uint8)
    assert certificate(files.qlinear_conv(weights)).exact == {UNSIGNED: 1}
    signed = np.full((2, 2, 1, 1), 127, np.int8)
    assert certificate(files.qlinear_conv(signed, activations=np.int8)).exact == {SIGNED: 1}
    assert "1 product with uint8 weights" in certificate(files.qlinear_conv(weights)).sentence


@pytest.mark.parametrize("zero", [np.uint8(0), np.int8(-128)])
def test_between_dequantize_and_quantize_signed_activations_become_unsigned(zero: np.generic) -> None:
    weights = np.full((2, 2, 1, 1), 127, np.int8)
    (layer,) = certificate(files.qdq_conv(weights, x_zero=zero)).layers
    assert (layer.unsafe_pairs, layer.largest_error) == (2, 254 * 255 - 32_767)
    assert layer.largest_error_steps == layer.largest_error * 0.5 * 0.25 / 2


@pytest.mark.parametrize(("clip", "largest"), [(60.0, 120), (64.0, 128), (64.5, 129), (1000.0, 255)])
def test_a_clip_in_front_bounds_the_codes(clip: float, largest: int) -> None:
    # Codes are halves: the clip at 60 gives 120. 254 x 128 = 32512 fits, 254 x 129 = 32766 too, 254 x 130 does not.
    weights = np.full((1, 2, 1, 1), 127, np.int8)
    found = certificate(files.qdq_conv(weights, clip=clip))
    assert sum(layer.largest_error for layer in found.layers) == max(0, 254 * largest - 32_767)
    # Padding has the code of zero, which may be above the clip's.
    padded = certificate(files.qdq_conv(weights, clip=clip, x_zero=np.uint8(200)))
    assert padded.layers[0].largest_error == 254 * min(255, max(200, 200 + largest)) - 32_767


def test_a_kernel_behind_a_transpose_is_read_as_the_product_reads_it() -> None:
    weights = np.zeros((2, 4), np.int8)  # (outputs, inputs)
    weights[0, 1:3] = 100  # inputs 1 and 2: no pair; transposed the other way they would be
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "xs", "wz"], ["wf"]),
        helper.make_node("Gemm", ["xf", "wf"], ["g"], name="dense", transB=1),
        helper.make_node("QuantizeLinear", ["g", "xs", "xz"], ["y"]),
    ]
    constants = {"xs": np.float32(0.5), "xz": np.uint8(0), "w": weights, "wz": np.int8(0)}
    found = certificate(files.model(nodes, constants, x=(1, 4)))
    assert (found.cannot_saturate, found.pairs) == (True, 4)
    nodes[1:3] = [
        helper.make_node("DequantizeLinear", ["w", "xs", "wz"], ["wd"]),
        helper.make_node("Transpose", ["wd"], ["wf"], perm=[1, 0]),
        helper.make_node("MatMul", ["xf", "wf"], ["g"], name="dense"),
    ]
    assert certificate(files.model(nodes, constants, x=(1, 4))) == found


def test_products_inside_larger_operations_and_what_is_not_known() -> None:
    weights = np.full((4, 3), 127, np.int8)
    dynamic = helper.make_node(
        "DynamicQuantizeMatMul", ["x", "w", "s"], ["y"], name="dynamic", domain=files.MICROSOFT
    )
    constants = {"w": weights, "s": np.float32(1)}
    found = certificate(files.model(
        [dynamic], constants, x=(1, 4), y=TensorProto.FLOAT, x_type=TensorProto.FLOAT
    ))
    assert (found.layers[0].pairs, found.layers[0].unsafe_pairs) == (6, 6)
    nodes = [helper.make_node("ConvInteger", ["x", "w"], ["y"], name="odd")]
    strange = certificate(files.model(
        nodes, {"w": np.ones((1, 1, 1, 1), np.int8)}, x=(1, 1, 4, 4), y=TensorProto.INT32
    ))
    assert strange.cannot_saturate is None
    assert strange.sentence == "not known whether sums can saturate on x86 processors without VNNI: ConvInteger odd"


def test_files_that_compute_in_float_have_nothing_to_saturate() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wf"]), helper.make_node("MatMul", ["x", "wf"], ["y"]),
    ]
    found = certificate(files.model(
        nodes, {"w": np.full((4, 3), 127, np.int8), "s": np.float32(1)}, x=(1, 4), y=TensorProto.FLOAT,
        x_type=TensorProto.FLOAT,
    ))
    assert found == Saturation(cannot_saturate=True)
    assert found.sentence == "cannot saturate: the file has no product of integers"


def test_the_same_weights_are_unsafe_in_every_form() -> None:
    weights = RANDOM.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8)
    unsigned = (weights.astype(np.int16) + 128).astype(np.uint8)
    layers = [unsafe_layers(read_onnx(content, where=Path("m.onnx"))) for content in (
        files.qlinear_conv(weights), files.qlinear_conv(unsigned), files.qdq_conv(weights),
    )]
    (first,), (second,), (third,) = layers
    assert first == second == dataclasses.replace(third, kind="QLinearConv") and first.unsafe_pairs > 0
