"""Each pass on the smallest graph that needs it: the same answers before and after."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.core.errors import ExportError
from edgeship.export.onnx_passes.canonical import canonical
from edgeship.export.onnx_passes.channels_first_scaling import channels_first_scaling
from edgeship.export.onnx_passes.fold_pad import fold_pad
from edgeship.export.onnx_passes.integer_bias import integer_bias
from edgeship.export.onnx_passes.integer_clip import integer_clip
from edgeship.export.onnx_passes.integer_pad import integer_pad
from edgeship.export.onnx_passes.mean_as_pool import mean_as_pool
from edgeship.export.onnx_passes.requantize import requantize
from edgeship.export.onnx_passes.standard_resize import standard_resize
from edgeship.export.onnx_passes.unshare import unshare
from edgeship.export.onnx_passes.unsigned import unsigned_activations, unsigned_weights

generator = np.random.default_rng(0)


def model_of(nodes, constants, *, inputs, output):
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(*output)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model, **inputs):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def kinds(model):
    return [node.op_type for node in model.graph.node]


def dequantize(name, inputs, **attributes):
    """As tf2onnx names it: the TFLite tensor x becomes "x_dequant"."""
    return helper.make_node("DequantizeLinear", inputs, [f"{name}_dequant"], name=f"{name}_dequant", **attributes)


def integer_conv(*, pad=False, bias_scale=0.1 * 0.02):
    """int8 image -> DQ -> (Pad -> Q -> DQ) -> Conv -> Q, one zero point shared by everything, as tf2onnx does."""
    constants = {
        "scale": np.float32(0.1), "zero": np.int8(-128), "kernel_zero": np.zeros(2, np.int8),
        "kernel": generator.integers(-127, 128, (2, 1, 3, 3), dtype=np.int8),
        "kernel_scale": np.full(2, 0.02, np.float32), "bias": np.array([7, -9], np.int32),
        "bias_scale": np.full(2, bias_scale, np.float32), "bias_zero": np.zeros(2, np.int32),
        "out_scale": np.float32(0.3), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    }
    nodes = [dequantize("image", ["image", "scale", "zero"])]
    data = "image_dequant"
    if pad:
        nodes += [
            helper.make_node("Pad", [data, "pads"], ["padded_prequant"], name="pad"),
            helper.make_node("QuantizeLinear", ["padded_prequant", "scale", "zero"], ["padded"], name="q"),
            dequantize("padded", ["padded", "scale", "zero"]),
        ]
        data = "padded_dequant"
    nodes += [
        dequantize("k", ["kernel", "kernel_scale", "kernel_zero"], axis=0),
        dequantize("b", ["bias", "bias_scale", "bias_zero"], axis=0),
        helper.make_node("Conv", [data, "k_dequant", "b_dequant"], ["y"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("QuantizeLinear", ["y", "out_scale", "zero"], ["out"], name="out_quantize"),
    ]
    size = 8 if pad else 6
    return model_of(
        nodes, constants, inputs=[("image", TensorProto.INT8, [1, 1, 8, 8])],
        output=("out", TensorProto.INT8, [1, 2, size, size]),
    )


IMAGE = generator.integers(-128, 128, (1, 1, 8, 8), dtype=np.int8)


def test_padding_moves_into_the_convolution():
    model = integer_conv(pad=True)
    expected = run(model, image=IMAGE)
    fold_pad(model)
    assert "Pad" not in kinds(model) and kinds(model).count("QuantizeLinear") == 1
    np.testing.assert_array_equal(run(model, image=IMAGE), expected)


def test_padding_of_values_that_may_be_negative_is_not_moved_into_a_max_pool():
    """MaxPool pads with the lowest value, not with zero."""
    model = model_of(
        [
            helper.make_node("Pad", ["image", "pads"], ["padded"], name="pad"),
            helper.make_node("MaxPool", ["padded"], ["out"], kernel_shape=[3, 3]),
        ],
        {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)},
        inputs=[("image", TensorProto.FLOAT, [1, 1, 4, 4])], output=("out", TensorProto.FLOAT, [1, 1, 4, 4]),
    )
    fold_pad(model)
    assert kinds(model) == ["Pad", "MaxPool"]


def test_padding_that_depends_on_the_input_is_refused():
    model = model_of(
        [helper.make_node("Pad", ["image", "pads"], ["out"], name="pad")], {},
        inputs=[("image", TensorProto.FLOAT, [1, 1, 4, 4]), ("pads", TensorProto.INT64, [8])],
        output=("out", TensorProto.FLOAT, None),
    )
    with pytest.raises(ExportError, match="pad: its pads are not constant"):
        fold_pad(model)


def between_grids(node, *, constants=None, zero=3, out_zero=3, output_shape=None, dtype=np.uint8):
    """uint8 image -> DQ -> the node -> Q; both grids have the scale 0.1."""
    kind = TensorProto.UINT8 if dtype == np.uint8 else TensorProto.INT8
    return model_of(
        [
            dequantize("image", ["image", "scale", "zero"]), node,
            helper.make_node("QuantizeLinear", ["y", "scale", "out_zero"], ["out"], name="out_quantize"),
        ],
        {"scale": np.float32(0.1), "zero": dtype(zero), "out_zero": dtype(out_zero), **(constants or {})},
        inputs=[("image", kind, [1, 4, 6, 2])], output=("out", kind, output_shape),
    )


CODES = generator.integers(0, 256, (1, 4, 6, 2), dtype=np.uint8)


def test_padding_no_convolution_takes_works_on_integers():
    pads = {"pads": np.array([0, 1, 0, 0, 0, 0, 2, 5], np.int64)}
    model = between_grids(helper.make_node("Pad", ["image_dequant", "pads"], ["y"], name="pad"), constants=pads)
    expected = run(model, image=CODES)
    fold_pad(model)  # pads channels too, and nothing reads it that could pad
    unshare(model)
    integer_pad(model)
    canonical(model)
    assert kinds(model) == ["Pad"]
    assert expected.min() == 0 and (expected == 3).sum() >= 5 * 8 * 5  # the zero point, not 0
    np.testing.assert_array_equal(run(model, image=CODES), expected)


def test_padding_that_is_not_the_same_on_integers_stays():
    constants = {"pads": np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64), "value": np.float32(0)}
    pad = helper.make_node("Pad", ["image_dequant", "pads", "value"], ["y"], name="pad")
    model = between_grids(pad, constants=constants, out_zero=4)  # another grid: the integers change
    integer_pad(model)
    assert kinds(model) == ["DequantizeLinear", "Pad", "QuantizeLinear"]


@pytest.mark.parametrize(("mode", "value"), [
    ("reflect", None), ("edge", None), ("constant", 1.0), ("constant", -0.23), ("constant", 99.0),
])
def test_other_padding_between_two_equal_grids_works_on_integers_too(mode, value):
    pads = {"pads": np.array([0, 1, 2, 0, 0, 2, 1, 0], np.int64)}
    names = ["image_dequant", "pads"]
    if value is not None:
        pads["value"] = np.float32(value)
        names.append("value")
    model = between_grids(helper.make_node("Pad", names, ["y"], name="pad", mode=mode), constants=pads)
    expected = run(model, image=CODES)
    integer_pad(model)
    canonical(model)
    assert kinds(model) == ["Pad"]
    np.testing.assert_array_equal(run(model, image=CODES), expected)


def padded_conv(*, mode="constant", value=None, **attributes):
    constants = {
        "pads": np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64),
        "kernel": generator.normal(size=(2, 1, 3, 3)).astype(np.float32),
    }
    names = ["image", "pads"]
    if value is not None:
        constants["value"] = np.float32(value)
        names.append("value")
    nodes = [
        helper.make_node("Pad", names, ["padded"], name="pad", mode=mode),
        helper.make_node("Conv", ["padded", "kernel"], ["out"], name="conv", kernel_shape=[3, 3], **attributes),
    ]
    return model_of(
        nodes, constants, inputs=[("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        output=("out", TensorProto.FLOAT, [1, 2, None, None]),
    )


FLOATS = generator.normal(size=(1, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("options", [
    {"mode": "reflect"}, {"mode": "edge"}, {"value": 1.0}, {"value": float("-inf")}, {"auto_pad": "SAME_UPPER"},
])
def test_padding_that_a_convolution_does_not_do_stays(options):
    model = padded_conv(**options)
    expected = run(model, image=FLOATS)
    fold_pad(model)
    assert kinds(model) == ["Pad", "Conv"]
    np.testing.assert_array_equal(run(model, image=FLOATS), expected)


@pytest.mark.parametrize("options", [{}, {"value": 0.0}, {"auto_pad": "VALID"}, {"auto_pad": "NOTSET"}])
def test_padding_with_zeros_moves_into_the_convolution_however_it_says_so(options):
    model = padded_conv(**options)
    expected = run(model, image=FLOATS)
    fold_pad(model)
    assert kinds(model) == ["Conv"]
    np.testing.assert_allclose(run(model, image=FLOATS), expected, rtol=0, atol=1e-5)  # nine products below 8


def test_padding_onto_another_grid_is_not_moved_into_the_convolution():
    model = integer_conv(pad=True)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.2), "coarse"))
    for node in model.graph.node:
        if node.name == "q" or node.output[0] == "padded_dequant":
            node.input[1] = "coarse"
    expected = run(model, image=IMAGE)
    fold_pad(model)
    assert "Pad" in kinds(model)
    np.testing.assert_array_equal(run(model, image=IMAGE), expected)


@pytest.mark.parametrize(
    ("node", "constants", "left"),
    [
        # On a grid from -10 on: what is below 0 is cut off.
        (helper.make_node("Relu", ["image_dequant"], ["y"], name="relu"), {}, ["Clip"]),
        (helper.make_node("Clip", ["image_dequant", "low", "high"], ["y"], name="clip"),
         {"low": np.float32(-1.23), "high": np.float32(6)}, ["Clip"]),
        (helper.make_node("Clip", ["image_dequant", "", "high"], ["y"], name="clip"),
         {"high": np.float32(6)}, ["Clip"]),
        # The grid ends at -10 and 15.5: such ends cut nothing off.
        (helper.make_node("Clip", ["image_dequant", "low", "high"], ["y"], name="clip"),
         {"low": np.float32(-20), "high": np.float32(20)}, []),
    ],
)
def test_a_relu_inside_a_grid_works_on_integers(node, constants, left):
    model = between_grids(node, constants=constants, zero=100, out_zero=100, output_shape=[1, 4, 6, 2])
    expected = run(model, image=CODES)
    unshare(model)
    integer_clip(model)
    canonical(model)
    assert kinds(model) == ["DequantizeLinear", "QuantizeLinear", *left]
    np.testing.assert_array_equal(run(model, image=CODES), expected)


def regridded(*, out_scale, out_zero):
    """int8 image -> DQ -> Q on another grid -> DQ -> Relu -> Q, as an addition read twice and a ReLU leave it."""
    return model_of(
        [
            dequantize("image", ["image", "scale", "zero"]),
            helper.make_node("QuantizeLinear", ["image_dequant", "out_scale", "out_zero"], ["middle"], name="q"),
            dequantize("middle", ["middle", "out_scale", "out_zero"]),
            helper.make_node("Relu", ["middle_dequant"], ["y"], name="relu"),
            helper.make_node("QuantizeLinear", ["y", "scale", "lowest"], ["out"], name="out_quantize"),
        ],
        {"scale": np.float32(0.1), "zero": np.int8(3), "out_scale": np.float32(out_scale),
         "out_zero": np.int8(out_zero), "lowest": np.int8(-128)},
        inputs=[("image", TensorProto.INT8, [1, 1, 8, 8])], output=("out", TensorProto.INT8, [1, 1, 8, 8]),
    )


@pytest.mark.parametrize("grid", [(0.17, -5), (0.1, 3)], ids=["another grid", "the same grid"])
def test_a_change_of_grids_is_a_lookup(grid):
    model = regridded(out_scale=grid[0], out_zero=grid[1])
    codes = np.arange(-128, 128, dtype=np.int8)[:64].reshape(1, 1, 8, 8) + np.int8(50)
    expected = run(model, image=codes)
    unshare(model)
    integer_clip(model)
    requantize(model)
    canonical(model)
    assert kinds(model).count("LeakyRelu") == (2 if grid == (0.17, -5) else 1)
    np.testing.assert_array_equal(run(model, image=codes), expected)
    unsigned_activations(model)
    # All as integers, and by ONNX Runtime's own optimized graph too.
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": (codes.astype(int) + 128).astype(np.uint8)})[0]
    np.testing.assert_array_equal(found.astype(int) - 128, expected)


@pytest.mark.parametrize("size", [(8, 12), (7, 15), (3, 5), (4, 6), (17, 2)])
def test_nearest_neighbours_are_tensorflows_own(size):
    model = model_of(
        [helper.make_node(
            "Resize", ["image", "", "", "size"], ["out"], name="resize", mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="tf_half_pixel_for_nn", exclude_outside=0,
        )],
        {"size": np.array([1, 2, *size], np.int64)},
        inputs=[("image", TensorProto.FLOAT, [1, 2, 4, 6])], output=("out", TensorProto.FLOAT, [1, 2, *size]),
    )
    image = np.arange(48, dtype=np.float32).reshape(1, 2, 4, 6)
    expected = run(model, image=image)
    standard_resize(model)
    assert {item.name: item.s for item in model.graph.node[0].attribute if item.s}["nearest_mode"] != b"floor"
    np.testing.assert_array_equal(run(model, image=image), expected)


@pytest.mark.parametrize(("axes", "keepdims"), [([1, 2], 1), ([1, 2], 0), ([-1], 0), ([2], 1), ([1, 3], 0)])
def test_a_mean_is_a_pool(axes, keepdims):
    node = helper.make_node("ReduceMean", ["image_dequant"], ["y"], name="mean", axes=axes, keepdims=keepdims)
    model = between_grids(node)
    expected = run(model, image=CODES)
    mean_as_pool(model)
    unshare(model)
    canonical(model)
    assert "ReduceMean" not in kinds(model) and kinds(model).count("GlobalAveragePool") == 1
    found = run(model, image=CODES)
    assert found.shape == expected.shape
    # Both add up in float32, in another order: a mean at the middle between two integers may go either way.
    np.testing.assert_allclose(found.astype(int), expected, rtol=0, atol=1)
    assert np.mean(found != expected) < 0.1


def test_every_use_of_a_constant_gets_its_own():
    model = integer_conv()
    expected = run(model, image=IMAGE)
    unshare(model)
    used = [name for node in model.graph.node for name in node.input]
    assert all(used.count(constant.name) == 1 for constant in model.graph.initializer)
    np.testing.assert_array_equal(run(model, image=IMAGE), expected)


def test_a_bias_on_another_scale_is_refused():
    integer_bias(integer_conv())
    with pytest.raises(ExportError, match="conv: its bias scale is not input scale x weight scale"):
        integer_bias(integer_conv(bias_scale=0.003))


def test_unsigned_integers_are_the_signed_ones_plus_128():
    model = integer_conv()
    expected = run(model, image=IMAGE).astype(int) + 128
    unshare(model)
    unsigned_activations(model)
    image = (IMAGE.astype(int) + 128).astype(np.uint8)
    np.testing.assert_array_equal(run(model, image=image), expected)
    unsigned_weights(model)
    np.testing.assert_array_equal(run(model, image=image), expected)
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert TensorProto.INT8 not in types
    # A zero point that became a vector of one would keep Add and Mul in float in ONNX Runtime.
    zero = next(tensor for tensor in model.graph.initializer if tensor.name == "out/input2")
    assert list(zero.dims) == []


def test_one_network_has_one_form():
    original = integer_conv()
    unshare(original)

    def shuffled(seed):
        model = onnx.ModelProto()
        model.CopyFrom(original)
        nodes = list(model.graph.node)
        dead = helper.make_node("Relu", ["y"], ["nobody_reads_this"])
        order = np.random.default_rng(seed).permutation(len(nodes))
        del model.graph.node[:]
        model.graph.node.extend([nodes[index] for index in order] + [dead])
        for node in model.graph.node:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == "y":
                        names[position] = f"{name}__{seed}:0"
        canonical(model)
        return model

    first, second = shuffled(1), shuffled(2)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert "Relu" not in kinds(first)
    onnx.checker.check_model(first, full_check=True)


def test_channel_scaling_runs_without_transposes():
    model = model_of(
        [
            helper.make_node("Transpose", ["image"], ["last"], perm=[0, 2, 3, 1], name="t1"),
            helper.make_node("Sigmoid", ["factors"], ["s"], name="s"),
            helper.make_node("Mul", ["last", "s"], ["scaled"], name="mul"),
            helper.make_node("Transpose", ["scaled"], ["first"], perm=[0, 3, 1, 2], name="t2"),
            helper.make_node("Relu", ["first"], ["out"], name="relu"),
        ],
        {}, inputs=[("image", TensorProto.FLOAT, [1, 3, 4, 5]), ("factors", TensorProto.FLOAT, [1, 3])],
        output=("out", TensorProto.FLOAT, [1, 3, 4, 5]),
    )
    inputs = {
        "image": generator.normal(size=(1, 3, 4, 5)).astype(np.float32),
        "factors": generator.normal(size=(1, 3)).astype(np.float32),
    }
    expected = run(model, **inputs)
    channels_first_scaling(model)
    canonical(model)
    assert "Transpose" not in kinds(model)
    np.testing.assert_array_equal(run(model, **inputs), expected)
