from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model import flat_layers
from edgeship.model.resnet import RESNET34_STAGES, build_resnet
from edgeship.quantize.insert import insert_fake_quantization, weighted_layers
from edgeship.quantize.keep_float import kept_layers
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.prepare import calibrate
from edgeship.quantize.ranges import Mode, Range
from tests.support.networks import convert, noise_for, quantized_model, randomize, run_tflite

SHAPE = (8, 8, 4)


def image(name="image"):
    return layers.Input(SHAPE, name=name)


def inserted(model, **options):
    return insert_fake_quantization(model, input_ranges=[(-4.0, 4.0)] * len(model.inputs), **options)


def dtypes(graph):
    """Operation -> the dtypes of the real numbers it works on; shapes and axes are int32 in every file."""
    return {
        operation.name: {
            graph.tensors[name].dtype for name in (*operation.inputs[:1], *operation.outputs)
        } for operation in graph.operations
    }


def float_operations(graph):
    return [
        (operation.kind, operation.name) for operation in graph.operations
        if "float32" in dtypes(graph)[operation.name] and operation.kind not in ("QUANTIZE", "DEQUANTIZE")
    ]


# --- the account ---------------------------------------------------------------------------------------------------


def test_a_model_of_37_weighted_layers_sees_37():
    model = build_resnet(input_shape=(32, 32, 1), classes=10, stage_sizes=RESNET34_STAGES, width=2)
    flat = lower(model)
    account = inserted(flat).account
    kernels = [layer.name for layer in flat.layers if isinstance(layer, layers.Conv2D | layers.Dense)]
    assert len(kernels) == 37 and list(account.quantized) == kernels
    assert account.sentence.startswith("kernels of 37 of 37 weighted layers quantized; ")
    assert account.sentence.endswith(" operations, 0 refused")
    assert not account.added and not account.kept_float


def test_the_account_tells_scalings_and_what_is_kept_apart():
    x = image()
    y = layers.BatchNormalization(name="norm")(layers.MaxPooling2D()(layers.Conv2D(4, 1, name="a")(x)))
    model = randomize(tf_keras.Model(x, layers.SeparableConv2D(4, 1, name="s")(layers.Conv2D(4, 1, name="b")(y))))
    account = inserted(model, keep_float=["b"]).account
    assert (account.quantized, account.added) == (("a", "s_depthwise", "s"), ("norm",))
    assert account.kept_float == account.kept_weights == ("b",)
    assert account.expected == ("a", "s_depthwise", "s", "norm")
    assert account.sentence == (
        "kernels of 3 of 4 weighted layers (and 1 of constants) quantized; 6 operations, 1 kept in float (b), 0 refused"
    )


def test_every_kernel_has_its_quantizer_and_every_call_its_input_range():
    x = image()
    conv = layers.Conv2D(4, 1, name="shared")
    model = randomize(tf_keras.Model(x, layers.Dense(3, name="dense")(layers.Flatten()(conv(conv(x))))))
    quantized = inserted(model)
    assert list(quantized.weights) == ["shared", "dense"]
    names = {layer: [item.name for item in ranges] for layer, ranges in quantized.inputs.items()}
    assert names == {"shared": ["image_range", "shared_range"], "dense": ["shared_call2_range"]}
    assert {layer for layer in quantized.model.layers if isinstance(layer, Range)} == set(quantized.ranges)


def test_the_range_of_a_concatenation_follows_the_largest_of_its_members():
    x = image()
    small, large = (
        layers.Conv2D(4, 1, kernel_initializer=tf_keras.initializers.Constant(value), name=name)(x)
        for name, value in (("small", 0.1), ("large", 1.0))
    )
    both = layers.AveragePooling2D(8, name="pool")(layers.Concatenate(name="both")([small, large]))
    model = tf_keras.Model(x, layers.Conv2D(4, 1, name="last")(both))
    quantized, noise = inserted(model, ema_decay=0.5), noise_for(model)
    calibrate(quantized, [noise], method="min-max")
    shared = quantized.results["small"]
    seeded = float(shared.minimum), float(shared.maximum)
    for _ in range(20):  # 0.5^20 of the seed is left
        quantized.model(noise / 2, training=True)
    assert shared is quantized.results["large"] and shared.members == 2
    # Half as large images give half the range, to the steps that the rounded input moves its ends by.
    followed = float(shared.minimum), float(shared.maximum)
    assert followed == pytest.approx([end / 2 for end in seeded], abs=4 * shared.scale)


def test_the_original_is_left_as_it_was():
    x = image()
    model = randomize(tf_keras.Model(x, layers.Conv2D(4, 1, activation="swish")(x)))
    before = [weight.numpy() for weight in model.weights]
    quantized, _ = quantized_model(model)
    for weight in quantized.model.trainable_weights:
        weight.assign_add(tf.ones_like(weight))
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_switched_off_it_is_the_simplified_network():
    x = image()
    y = layers.ReLU(0.5)(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
    model = randomize(tf_keras.Model(x, layers.Dense(3, activation="sigmoid")(layers.Flatten()(y))))
    quantized = inserted(model)
    for item in quantized.ranges:
        item.mode = Mode.OFF
    for weights in quantized.weights.values():
        weights.enabled = False
    noise = noise_for(model)
    np.testing.assert_allclose(quantized.model(noise), model(noise), rtol=0, atol=1e-5)


# --- int8 files ----------------------------------------------------------------------------------------------------


def every_operation(x, y):
    """name -> a tensor: each operation on exact inputs."""
    gate = layers.Activation("sigmoid")
    vector = layers.GlobalAveragePooling2D(keepdims=True)
    one = {  # the result is rounded once
        "conv": layers.Conv2D(5, 3, strides=2)(x), "dilated": layers.Conv2D(5, 3, dilation_rate=2)(x),
        "grouped": layers.Conv2D(6, 3, groups=2)(x), "conv_relu": layers.Conv2D(5, 3, activation="relu")(x),
        "depthwise": layers.DepthwiseConv2D(3, depth_multiplier=2)(x), "dense": layers.Dense(5)(layers.Flatten()(x)),
        "dense_of_pixels": layers.Dense(5)(x), "transposed": layers.Conv2DTranspose(5, 3, strides=2)(x),
        "relu": layers.ReLU()(x), "relu6": layers.ReLU(2.0)(y), "leaky": layers.LeakyReLU(0.1)(x),
        "sigmoid": gate(x), "softmax": layers.Softmax()(layers.Flatten()(x)), "tanh": layers.Activation("tanh")(x),
        "norm": layers.BatchNormalization()(x), "norm_of_rows": layers.BatchNormalization()(layers.Reshape((64, 4))(x)),
        "add": layers.Add()([x, y]), "multiply": layers.Multiply()([x, y]), "mean": layers.GlobalAveragePooling2D()(x),
        "mean_of_channels": flat_layers.Reduce("mean", [3])(x), "mean_of_rows": flat_layers.Reduce("mean", [1])(x),
        "average": layers.AveragePooling2D(2)(x), "average_same": layers.AveragePooling2D(3, 1, "same")(x),
        "resized": layers.UpSampling2D(interpolation="bilinear")(x), "resized_to": layers.Resizing(5, 11)(x),
        "sum_of_channels": flat_layers.Reduce("sum", [3])(x),
    }
    moved = {
        "largest": layers.GlobalMaxPooling2D()(x), "max": layers.MaxPooling2D()(x), "up": layers.UpSampling2D()(x),
        "pad": layers.ZeroPadding2D()(x), "crop": layers.Cropping2D()(x), "permute": layers.Permute((2, 1, 3))(x),
        "reshape": layers.Reshape((4, 16, 4))(x), "slice": flat_layers.StridedSlice([(0, 4, 2), 3])(x),
        "pad_channels": flat_layers.Pad([[0, 0], [0, 0], [0, 0], [1, 2]])(x),
        "depth_to_space": flat_layers.DepthToSpace(2)(x),
        "space_to_depth": flat_layers.DepthToSpace(2, inverse=True)(x),
        "largest_of_channels": flat_layers.Reduce("max", [3], keepdims=True)(x), "both": layers.Concatenate()([x, y]),
    }
    several = {
        "swish": layers.Activation("swish")(x), "hard_sigmoid": layers.Conv2D(4, 1, activation="hard_sigmoid")(x),
        "separable": layers.SeparableConv2D(5, 3)(x), "add3": layers.Add()([x, y, gate(y)]),
        "subtract": layers.Subtract()([x, y]), "average2": layers.Average()([x, y]),
        "excite": layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(vector(x))]),
        "gated": layers.Concatenate()([x, gate(y)]),
        "clipped": layers.Concatenate()([x, layers.Activation("hard_sigmoid")(y), layers.ReLU(2.0)(y)]),
        "sum_of_rows": flat_layers.Reduce("sum", [1])(x), "sum_of_image": flat_layers.Reduce("sum", [1, 2])(x),
        "norm_of_vector": layers.BatchNormalization()(layers.Flatten()(vector(y))),
    }
    return one, moved, several


@pytest.fixture(scope="module")
def every_operation_quantized():
    x, y = image("x"), image("y")
    groups = every_operation(x, y)
    named = [
        layers.Activation("linear", name=f"{name}_out")(tensor) for group in groups for name, tensor in group.items()
    ]
    quantized, noise = quantized_model(randomize(tf_keras.Model([x, y], named, name="every_operation")))
    content, graph = convert(quantized)
    return [list(group) for group in groups], quantized, noise, content, graph


def test_every_operation_is_integer_in_the_file(every_operation_quantized):
    _, quantized, _, _, graph = every_operation_quantized
    assert {dtype for found in dtypes(graph).values() for dtype in found} == {"int8"}
    assert not {"QUANTIZE", "DEQUANTIZE"} & {operation.kind for operation in graph.operations}
    assert [graph.tensors[name].dtype for name in graph.outputs] == ["int8"] * len(quantized.model.outputs)


def test_inputs_and_outputs_keep_their_names_and_order(every_operation_quantized):
    groups, quantized, _, _, graph = every_operation_quantized
    names = [f"{name}_out" for group in groups for name in group]
    assert quantized.model.output_names == list(graph.outputs) == names
    assert quantized.model.input_names == list(graph.inputs) == ["x", "y"]


def test_the_file_computes_what_the_keras_model_computes(every_operation_quantized):
    (one, moved, _), quantized, noise, content, _ = every_operation_quantized
    found, lsb = run_tflite(content, noise)
    expected = tf.nest.flatten(quantized.model(noise))
    for name, values, reference, step in zip(quantized.model.output_names, found, expected, lsb, strict=True):
        off = np.abs(values - reference.numpy()) / step
        name = name.removesuffix("_out")
        # Integers are on integers up to float32 rounding of the real numbers, some 1e-5 of a step.
        if name in moved:
            assert off.max() < 0.01, name
        elif name in one:
            # Kernels multiply by integers of 31 bits where Keras divides: they part where a result is half-way,
            # as half of the means of four integers are.
            assert off.max() < 1.01 and (name == "average" or np.mean(off > 0.5) < 0.05), name
        else:
            # One step of what is between is several of the result.
            assert np.mean(off > 1.01) < 0.02, name


# --- layers called twice, several inputs and outputs ---------------------------------------------------------------


def test_a_layer_called_twice_is_one_kernel_on_two_grids():
    x, y = image("x"), image("y")
    conv = layers.Conv2D(4, 3, name="shared")
    model = randomize(tf_keras.Model([x, y], layers.Add(name="sum")([conv(x), layers.ReLU()(conv(y))])))
    quantized, noise = quantized_model(model)
    assert sum(weight.shape.rank == 4 for weight in quantized.model.weights) == 1
    content, graph = convert(quantized)
    kernels = [item.weights for item in graph.weighted_operations()]
    assert len(kernels) == 2
    np.testing.assert_array_equal(kernels[0].data, kernels[1].data)
    np.testing.assert_array_equal(kernels[0].scales, kernels[1].scales)
    found, (step,) = run_tflite(content, noise)
    assert np.mean(np.abs(found[0] - quantized.model(noise).numpy()) > 1.01 * step) < 0.02


# --- layers kept in float ------------------------------------------------------------------------------------------


class Block(layers.Layer):
    """conv, BN, relu, conv: a composite."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = (layers.Conv2D(4, 3, padding="same", name=name) for name in ("first", "second"))
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, inputs):
        return inputs + self.second(tf.nn.relu(self.norm(self.first(inputs))))


def chain():
    x = image()
    y = layers.Conv2D(4, 1, name="stem")(x)
    for index in range(3):
        y = Block(name=f"block_{index}" if index else "block")(y)
    model = tf_keras.Model(x, layers.Dense(3, name="head")(layers.Flatten(name="flat")(y)), name="chain")
    return lower(randomize(model))


KEPT = {
    "block_first": {"block_first", "block_relu"}, "block_second": {"block_second"}, "head": {"head"},
    "block_1_add": {"block_1_add"}, "block": {"block_first", "block_relu", "block_second", "block_add"},
    "block_2": {"block_2_first", "block_2_relu", "block_2_second", "block_2_add"},
}


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_layer_takes_what_is_part_of_it_along_and_nothing_else(name):
    account = inserted(chain(), keep_float=[name]).account
    assert set(account.kept_float) == KEPT[name]
    assert len(account.quantized) + len(account.kept_weights) == 8


@pytest.mark.parametrize("name", ["block_first", "block_1_add", "block_2"])
def test_the_named_layers_are_float_in_the_file_and_nothing_else(name):
    kept = KEPT[name]
    quantized, noise = quantized_model(chain(), keep_float=[name])
    content, graph = convert(quantized)
    # A fused ReLU is no operation of its own.
    assert len(float_operations(graph)) == len([layer for layer in kept if "relu" not in layer])
    assert Counter(item.weights.dtype for item in graph.weighted_operations()) == {
        "int8": len(quantized.account.quantized), **Counter(["float32"] * len(quantized.account.kept_weights)),
    }
    found, (step,) = run_tflite(content, noise)
    assert np.mean(np.abs(found[0] - quantized.model(noise).numpy()) > 2.01 * step) < 0.1


def test_a_refused_operation_is_kept_under_the_name_the_refusal_gives():
    x = image()
    model = randomize(tf_keras.Model(x, layers.Conv2D(4, 1, name="b")(
        layers.Conv2D(4, 1, activation="gelu", name="a")(x)
    )))
    with pytest.raises(LoweringError, match=r'compute a_gelu \(activation gelu\).*keep_float = \["a_gelu"\]'):
        inserted(model)
    quantized, _ = quantized_model(model, keep_float=["a_gelu"])
    assert quantized.account.kept_float == ("a_gelu",) and quantized.account.quantized == ("a", "b")
    assert kept_layers(model, ["a_gelu"]) == ()


def test_a_name_is_not_the_beginning_of_a_counted_one():
    """Keras counts: conv2d, conv2d_1 ..."""
    x = image()
    y = layers.Conv2D(4, 1, activation="sigmoid", name="conv2d")(x)
    model = randomize(tf_keras.Model(x, layers.Conv2D(4, 1, activation="sigmoid", name="conv2d_1")(y)))
    assert inserted(model, keep_float=["conv2d"]).account.kept_float == ("conv2d", "conv2d_sigmoid")
    assert inserted(model, keep_float=["conv2d_1"]).account.kept_float == ("conv2d_1", "conv2d_1_sigmoid")


def test_a_separable_convolution_is_kept_whole_or_in_part():
    x = image()
    model = randomize(tf_keras.Model(x, layers.SeparableConv2D(4, 3, name="s", activation="relu")(x)))
    assert inserted(model, keep_float=["s"]).account.kept_float == ("s_depthwise", "s", "s_relu")
    assert inserted(model, keep_float=["s_depthwise"]).account.kept_float == ("s_depthwise",)


def test_a_name_that_no_layer_has_is_refused():
    flat = chain()
    message = "keep_float: no layer is called 'blok'; the layers are stem, block_first, block_norm, "
    with pytest.raises(LoweringError, match=message):
        inserted(flat, keep_float=["stem", "blok"])
    with pytest.raises(LoweringError, match=message):
        kept_layers(flat, ["blok"])


def test_a_layer_that_is_folded_away_cannot_be_kept():
    with pytest.raises(LoweringError, match=(
        r"^keep_float: 'block_norm' is no operation of its own: it does nothing in inference, or is folded "
        "into the weights of the layer before it; name that layer"
    )):
        inserted(chain(), keep_float=["block_norm"])


def test_a_composite_means_all_its_layers():
    flat = chain()
    assert kept_layers(flat, ["block_1"]) == (
        "block_1_first", "block_1_norm", "block_1_relu", "block_1_second", "block_1_add"
    )
    assert kept_layers(flat, ["head", "block"]) == (
        "head", "block_first", "block_norm", "block_relu", "block_second", "block_add"
    )
    assert weighted_layers(flat)[:3] == ("stem", "block_first", "block_second")


@pytest.mark.parametrize("kept", [["join"], ["join", "left"]])
def test_a_concatenation_that_is_kept_in_float_has_one_grid_too(kept):
    image = layers.Input((8, 8, 3), name="image")
    left = layers.Conv2D(4, 3, padding="same", activation="relu", name="left")(image)
    right = layers.Conv2D(4, 1, name="right")(image)
    x = layers.Concatenate(name="join")([left, right, image])
    model = randomize(tf_keras.Model(image, layers.Conv2D(4, 3, name="last")(x), name="model"))
    quantized, noise = quantized_model(model, keep_float=kept)
    content, _ = convert(quantized)
    (found,), (lsb,) = run_tflite(content, noise)
    np.testing.assert_allclose(found, quantized.model(noise), rtol=0, atol=1.01 * lsb)
