from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.simplifying.rebuild import nodes_of
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, noise_for, randomize

SIZE, CHANNELS = 6, 4
SHAPES = [(CHANNELS,), (SIZE, CHANNELS), (SIZE, SIZE, CHANNELS)]


def model_of(*parts, shape=(SIZE, SIZE, CHANNELS)):
    x = image = layers.Input(shape, name="image")
    for part in parts:
        x = part(x)
    return randomize(tf_keras.Model(image, x, name="model"))


def kinds(model):
    return [type(node.layer) for node in nodes_of(model)]


def names(model):
    return [node.layer.name for node in nodes_of(model)]


# --- activations ---------------------------------------------------------------------------------------------------


SPLIT = {
    "linear": [],
    "relu": [layers.ReLU],
    "relu6": [layers.ReLU],
    "swish": [layers.Activation, layers.Multiply],
    "hard_sigmoid": [layers.DepthwiseConv2D, layers.ReLU],
    "sigmoid": [layers.Activation],
    "softmax": [layers.Activation],
    "tanh": [layers.Activation],
}
# hard_sigmoid's scaling goes into the weights before it.
FOLDED = {**SPLIT, "hard_sigmoid": [layers.ReLU]}


def function_of(activation):
    return tf.nn.relu6 if activation == "relu6" else activation


@pytest.mark.parametrize("activation", SPLIT)
@pytest.mark.parametrize("make", [
    lambda a: layers.Conv2D(5, 3, activation=a, name="own"),
    lambda a: layers.DepthwiseConv2D(3, depth_multiplier=2, activation=a, name="own"),
    lambda a: layers.Dense(5, activation=a, name="own"),
], ids=["conv", "depthwise", "dense"])
def test_an_activation_is_split_off_the_weights(make, activation):
    model = model_of(make(function_of(activation)))
    simple = simplify(model)
    assert kinds(simple) == [type(model.layers[1]), *FOLDED[activation]]
    assert names(simple)[0] == "own"
    # 0.2 and 0.5 of hard_sigmoid are two products more.
    assert_same_to_rounding(model, simple, products=9 * CHANNELS + 2)


@pytest.mark.parametrize("activation", SPLIT)
def test_an_activation_layer_of_its_own_keeps_its_name(activation):
    model = model_of(layers.MaxPooling2D(), layers.Activation(function_of(activation), name="own"))
    simple = simplify(model)
    assert kinds(simple) == [layers.MaxPooling2D, *SPLIT[activation]]
    assert names(simple)[-1] == ("own" if SPLIT[activation] else "max_pooling2d") or activation == "linear"
    assert_same_to_rounding(model, simple, products=CHANNELS)


def test_a_split_name_that_is_taken_gets_out_of_the_way():
    model = model_of(
        layers.Conv2D(4, 1, activation="relu", name="conv"), layers.Conv2D(4, 1, activation="relu", name="conv_relu")
    )
    simple = simplify(model)
    assert names(simple) == ["conv", "conv__relu", "conv_relu", "conv_relu_relu"]
    assert_same_to_rounding(model, simple, products=CHANNELS)


def test_a_leaky_relu_is_one_however_it_is_written():
    model = model_of(layers.ReLU(negative_slope=0.1, name="leaky"))
    simple = simplify(model)
    assert kinds(simple) == [layers.LeakyReLU] and names(simple) == ["leaky"]
    assert_same_to_rounding(model, simple, products=1)


@pytest.mark.parametrize("layer", [
    layers.ReLU(max_value=2.0, negative_slope=0.1), layers.ReLU(threshold=0.5), flat_layers.Clip(1.0, -1.0),
    layers.Activation("gelu"),
], ids=["leaky up to 2", "threshold", "clip from 1 to -1", "gelu"])
def test_what_has_no_simpler_form_is_left_as_it_is(layer):
    model = model_of(layer)
    simple = simplify(model)
    assert kinds(simple) == [type(layer)]
    assert_same_to_rounding(model, simple, products=1)


@pytest.mark.parametrize("high", [6.0, None])
def test_a_clip_from_zero_up_is_a_relu(high):
    model = model_of(flat_layers.Clip(0.0, high, name="clip"))
    simple = simplify(model)
    assert kinds(simple) == [layers.ReLU]
    assert_same_to_rounding(model, simple, products=1)


@pytest.mark.parametrize("ends", [(-1.0, 1.0), (None, 0.7), (None, -0.2), (0.3, None), (-2.0, -0.5), (0.1, 0.4)])
def test_a_clip_from_another_number_up_is_a_relu_between_two_shifts(ends):
    model = model_of(layers.Conv2D(CHANNELS, 1, name="conv"), flat_layers.Clip(*ends, name="clip"))
    simple = simplify(model)
    assert kinds(simple) == [layers.Conv2D, layers.ReLU, layers.DepthwiseConv2D] and names(simple)[-1] == "clip"
    assert_same_to_rounding(model, simple, products=CHANNELS)


def test_the_upper_end_of_what_is_not_negative_is_a_relu():
    """min(max(x, 0), 1), as hard sigmoids are written by hand."""
    model = model_of(layers.ReLU(name="from_zero"), flat_layers.Clip(None, 1.0, name="up_to_one"))
    simple = simplify(model)
    assert kinds(simple) == [layers.ReLU, layers.ReLU]
    assert_same_to_rounding(model, simple, products=1)


# --- other rewrites ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_a_separable_convolution_is_two(activation, use_bias):
    model = model_of(layers.SeparableConv2D(
        5, 3, strides=2, padding="same", depth_multiplier=2, activation=activation, use_bias=use_bias, name="separable"
    ))
    simple = simplify(model)
    assert names(simple)[:2] == ["separable_depthwise", "separable"]
    assert kinds(simple) == [layers.DepthwiseConv2D, layers.Conv2D, *SPLIT[activation]]
    assert_same_to_rounding(model, simple, products=9 * 2 * CHANNELS)


@pytest.mark.parametrize("layer", [
    layers.Dropout(0.5), layers.SpatialDropout2D(0.5), layers.GaussianDropout(0.5), layers.GaussianNoise(1.0),
    layers.AlphaDropout(0.5), layers.ActivityRegularization(1.0),
], ids=lambda layer: type(layer).__name__)
def test_what_does_nothing_in_inference_is_gone(layer):
    model = model_of(layer, layers.MaxPooling2D(), layer)
    simple = simplify(model)
    assert kinds(simple) == [layers.MaxPooling2D]
    assert simple.output_names == model.output_names
    noise = noise_for(model)
    np.testing.assert_array_equal(simple(noise, training=True), model(noise, training=False))


def branches(count):
    return [layers.Conv2D(3, 1, name=f"branch{index}") for index in range(count)]


def merged(layer, count):
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    return randomize(tf_keras.Model(image, layer([branch(image) for branch in branches(count)]), name="model"))


@pytest.mark.parametrize("kind", [layers.Add, layers.Multiply])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_an_operation_of_several_tensors_is_several_of_two(kind, count):
    model = merged(kind(name="all"), count)
    simple = simplify(model)
    assert [item for item in kinds(simple) if item is not layers.Conv2D] == [kind] * (count - 1)
    assert names(simple)[-1] == "all"
    assert_same_to_rounding(model, simple, products=count * CHANNELS)


@pytest.mark.parametrize("count", [2, 3])
def test_an_average_is_a_sum_and_a_product(count):
    model = merged(layers.Average(name="mean"), count)
    simple = simplify(model)
    merging = [item for item in kinds(simple) if item is not layers.Conv2D]
    assert merging == [layers.Add] * (count - 1) + [layers.DepthwiseConv2D]
    assert names(simple)[-1] == "mean"
    assert_same_to_rounding(model, simple, products=count * CHANNELS)


def test_a_difference_is_a_sum_whose_sign_is_in_the_weights():
    model = merged(layers.Subtract(name="difference"), 2)
    simple = simplify(model)
    assert kinds(simple) == [layers.Conv2D, layers.Conv2D, layers.Add]
    assert names(simple)[-1] == "difference"
    assert_same_to_rounding(model, simple, products=CHANNELS)


def test_the_difference_of_a_tensor_and_itself():
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    model = tf_keras.Model(image, layers.Subtract()([image, image]), name="model")
    np.testing.assert_array_equal(simplify(model)(noise_for(model)), np.zeros((4, SIZE, SIZE, CHANNELS)))


@pytest.mark.parametrize("keepdims", [True, False])
def test_a_global_maximum_is_a_max_pooling(keepdims):
    model = model_of(layers.GlobalMaxPooling2D(keepdims=keepdims, name="largest"))
    simple = simplify(model)
    assert kinds(simple) == [layers.MaxPooling2D] + [layers.Flatten] * (not keepdims)
    assert names(simple)[-1] == "largest"
    assert_same_to_rounding(model, simple, products=0)


@pytest.mark.parametrize("kind", ["mean", "sum"])
@pytest.mark.parametrize("keepdims", [True, False])
def test_the_mean_or_sum_over_channels_is_a_convolution(keepdims, kind):
    model = model_of(flat_layers.Reduce(kind, [-1], keepdims=keepdims, name="own"))
    simple = simplify(model)
    assert kinds(simple) == [layers.Conv2D] + [layers.Reshape] * (not keepdims)
    assert names(simple)[-1] == "own" and not simple.trainable_weights
    assert_same_to_rounding(model, simple, products=CHANNELS)


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize(("axes", "mean"), [
    ([1, 2], layers.GlobalAveragePooling2D), ([-2, 1], layers.GlobalAveragePooling2D), ([1], flat_layers.Reduce),
    ([2, 3], flat_layers.Reduce), ([1, 2, 3], flat_layers.Reduce),
])
def test_a_sum_is_a_mean_and_a_product(axes, mean, keepdims):
    model = model_of(flat_layers.Reduce("sum", axes, keepdims=keepdims, name="total"))
    simple = simplify(model)
    assert kinds(simple)[0] is mean and flat_layers.Reduce not in kinds(simple)[1:]
    assert names(simple)[-1] in ("total", "total_as_before")
    assert_same_to_rounding(model, simple, products=2 * SIZE * SIZE * CHANNELS)


# --- batch norm and its kind ---------------------------------------------------------------------------------------


WEIGHTED = {
    "conv": lambda bias: layers.Conv2D(5, 3, use_bias=bias, name="own"),
    "depthwise": lambda bias: layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=bias, name="own"),
    "dense": lambda bias: layers.Dense(5, use_bias=bias, name="own"),
    "transposed": lambda bias: layers.Conv2DTranspose(5, 3, strides=2, use_bias=bias, name="own"),
    "separable": lambda bias: layers.SeparableConv2D(5, 3, use_bias=bias, name="own"),
    "grouped": lambda bias: layers.Conv2D(6, 3, groups=2, use_bias=bias, name="own"),
}


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("kind", WEIGHTED)
def test_a_batch_norm_goes_into_the_weights_before_it(kind, use_bias):
    model = model_of(WEIGHTED[kind](use_bias), layers.BatchNormalization(name="norm"))
    simple = simplify(model)
    assert "norm" not in names(simple) and "own" in names(simple)
    assert layers.DepthwiseConv2D not in kinds(simple) or kind in ("depthwise", "separable")
    assert_same_to_rounding(model, simple, products=9 * 2 * CHANNELS)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"scale": False, "center": False}])
def test_a_batch_norm_without_gamma_or_beta(options):
    model = model_of(layers.Conv2D(5, 3), layers.BatchNormalization(**options))
    simple = simplify(model)
    assert kinds(simple) == [layers.Conv2D]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def test_a_channel_whose_gamma_is_zero_becomes_its_beta():
    norm = layers.BatchNormalization()
    model = model_of(layers.Conv2D(3, 3), norm)
    norm.gamma.assign([1.0, 0.0, 1.0])
    simple = simplify(model)
    np.testing.assert_array_equal(simple.layers[1].kernel[..., 1], 0)
    np.testing.assert_array_equal(simple(noise_for(model))[..., 1], np.full((4, 4, 4), norm.beta.numpy()[1]))
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


@pytest.mark.parametrize("shape", SHAPES, ids=["rank2", "rank3", "rank4"])
@pytest.mark.parametrize("make", [
    lambda: layers.BatchNormalization(name="own"),
    lambda: layers.Rescaling([1.0, 2.0, -3.0, 0.5], offset=[0.0, 1.0, 2.0, 3.0], name="own"),
    lambda: layers.Rescaling(2.0, offset=1.0, name="own"),
    lambda: layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[0.25, 1.0, 4.0, 0.0], name="own"),
    lambda: layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[0.25, 1.0, 4.0, 9.0], invert=True, name="own"),
    lambda: layers.Normalization(axis=None, mean=2.0, variance=4.0, name="own"),
    lambda: flat_layers.DivideBy([1.0, 2.0, 3.0, -4.0], name="own"),
    lambda: flat_layers.ChannelScale(values=[1.0, 2.0, 3.0, -4.0], name="own"),
    lambda: flat_layers.ChannelShift(values=[1.0, 2.0, 3.0, -4.0], negative=True, name="own"),
], ids=["norm", "vector", "scalar", "normalization", "inverted", "normalization of all", "divide", "scale", "shift"])
def test_a_scaling_that_stands_alone_is_a_product_of_its_own(make, shape):
    model = model_of(make(), shape=shape)
    simple = simplify(model)
    assert kinds(simple).count(layers.DepthwiseConv2D) == 1 and "own" in names(simple)
    # A variance of 0 counts as 1e-7 squared: magnitudes are as large as that.
    assert_same_to_rounding(model, simple, products=2)


@pytest.mark.parametrize("shape", SHAPES, ids=["rank2", "rank3", "rank4"])
def test_scalings_in_a_row_are_one_product_of_an_image(shape):
    model = model_of(
        layers.BatchNormalization(name="first"), layers.Rescaling(2.0, offset=1.0),
        layers.BatchNormalization(name="last"), shape=shape,
    )
    simple = simplify(model)
    # Between images of one pixel and vectors there is a reshape, which nothing is folded across.
    assert kinds(simple).count(layers.DepthwiseConv2D) == (1 if len(shape) == 3 else 3)
    assert_same_to_rounding(model, simple, products=6 * 4)


def test_scalings_in_a_row_all_go_into_the_weights_before_them():
    model = model_of(
        layers.Conv2D(5, 3, name="own"), layers.BatchNormalization(), layers.Rescaling(2.0, offset=1.0),
        layers.BatchNormalization(),
    )
    simple = simplify(model)
    assert names(simple) == ["own"]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS * 4)


def test_the_hard_swish_of_mobilenet_has_no_product_for_its_sixth():
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    x = layers.Conv2D(5, 1, name="conv")(image)
    gate = layers.ReLU(6.0, name="gate")(layers.Rescaling(1.0, offset=3.0, name="plus3")(x))
    gate = layers.Rescaling(1 / 6, name="sixth")(gate)
    model = randomize(tf_keras.Model(image, layers.Multiply(name="swish")([x, gate]), name="model"))
    simple = simplify(model)
    assert names(simple) == ["conv", "plus3", "gate", "swish"]
    assert simple.get_layer("gate").max_value == pytest.approx(1.0, abs=1e-6)
    assert_same_to_rounding(model, simple, products=CHANNELS * 4)


@pytest.mark.parametrize(("relu", "scale"), [
    (layers.ReLU(6.0), layers.Rescaling(-0.5)), (layers.ReLU(6.0), layers.Rescaling(0.5, offset=1.0)),
    (layers.ReLU(6.0), layers.Rescaling([0.5, 1.0, 1.0])), (layers.ReLU(threshold=1.0), layers.Rescaling(0.5)),
    (layers.ReLU(negative_slope=0.1, max_value=2.0), layers.Rescaling(0.5)),
], ids=["negative", "offset", "per channel", "threshold", "leaky up to 2"])
def test_what_does_not_commute_with_a_relu_stays_behind_it(relu, scale):
    model = model_of(layers.Conv2D(3, 1), relu, scale)
    simple = simplify(model)
    assert kinds(simple) == [layers.Conv2D, layers.ReLU, layers.DepthwiseConv2D]
    assert_same_to_rounding(model, simple, products=CHANNELS * 4)


# --- when not to fold ----------------------------------------------------------------------------------------------


def test_not_where_the_result_before_it_is_read_by_another():
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    x = layers.Conv2D(5, 3, name="conv")(image)
    y = layers.BatchNormalization(name="norm")(x)
    model = randomize(tf_keras.Model(image, layers.Add(name="sum")([x, y]), name="model"))
    simple = simplify(model)
    assert names(simple) == ["conv", "norm", "sum"] and type(simple.get_layer("norm")) is layers.DepthwiseConv2D
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def test_not_where_the_result_before_it_is_an_output():
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    x = layers.Conv2D(5, 3, name="conv")(image)
    model = randomize(tf_keras.Model(image, [x, layers.BatchNormalization(name="norm")(x)], name="model"))
    simple = simplify(model)
    assert names(simple) == ["conv", "norm"]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def shared(norms):
    """One convolution called twice, followed by `norms`."""
    image, other = (layers.Input((SIZE, SIZE, CHANNELS), name=name) for name in ("image", "other"))
    conv = layers.Conv2D(5, 3, name="conv")
    sides = [norm(conv(side)) for norm, side in zip(norms, (image, other), strict=True)]
    return randomize(tf_keras.Model([image, other], layers.Add(name="sum")(sides), name="model"))


def test_not_where_one_convolution_has_two_batch_norms():
    model = shared([layers.BatchNormalization(name="norm1"), layers.BatchNormalization(name="norm2")])
    simple = simplify(model)
    assert sorted(names(simple)) == ["conv", "conv", "norm1", "norm2", "sum"]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def test_not_where_only_one_call_of_a_convolution_is_followed_by_it():
    model = shared([layers.BatchNormalization(name="norm1"), layers.ReLU(name="relu")])
    simple = simplify(model)
    assert sorted(names(simple)) == ["conv", "conv", "norm1", "relu", "sum"]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def test_once_where_both_are_called_twice():
    norm = layers.BatchNormalization(name="norm")
    model = shared([norm, norm])
    simple = simplify(model)
    assert names(simple) == ["conv", "conv", "sum"] and len(simple.weights) == 2
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def test_not_where_the_axis_is_not_the_channels():
    model = model_of(layers.Conv2D(5, 3), layers.BatchNormalization(axis=1))
    simple = simplify(model)
    # A product of its own, between two transposes.
    assert kinds(simple) == [layers.Conv2D, layers.Permute, layers.DepthwiseConv2D, layers.Permute]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def test_not_behind_one_of_several_results_of_an_operator():
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    left, right = tf.split(image, 2, axis=-1)
    model = randomize(
        tf_keras.Model(image, layers.Concatenate()([left, layers.BatchNormalization(name="norm")(right)]), name="model")
    )
    simple = simplify(model)
    assert type(simple.get_layer("norm")) is layers.DepthwiseConv2D
    assert_same_to_rounding(model, simple, products=2)


def test_a_scaling_that_is_not_one_of_channels_is_left_as_it_is():
    scale = np.arange(1.0, SIZE * SIZE + 1).reshape(SIZE, SIZE, 1)
    model = model_of(layers.Conv2D(CHANNELS, 3, padding="same"), layers.Rescaling(scale, name="own"))
    simple = simplify(model)
    assert kinds(simple) == [layers.Conv2D, layers.Rescaling]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


@pytest.mark.parametrize("shape", [(2, 3, 4, CHANNELS), (None, CHANNELS)], ids=["volume", "row of any length"])
def test_a_scaling_of_what_is_no_image_is_left_as_it_is(shape):
    image = layers.Input(shape, name="image")
    model = tf_keras.Model(image, layers.BatchNormalization(name="norm")(image))
    assert kinds(simplify(model)) == [layers.BatchNormalization]


def test_a_batch_norm_does_not_move_across_padding():
    model = model_of(layers.BatchNormalization(name="norm"), layers.ZeroPadding2D(), layers.Conv2D(5, 3, name="conv"))
    simple = simplify(model)
    assert kinds(simple) == [layers.DepthwiseConv2D, layers.ZeroPadding2D, layers.Conv2D]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS * 4)


# --- concatenations ------------------------------------------------------------------------------------------------


def gated(*activations, between=None):
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    parts = [layers.Activation(activation, name=f"part{at}")(image) for at, activation in enumerate(activations)]
    parts = parts if between is None else [between(part) for part in parts]
    return tf_keras.Model(image, layers.Concatenate(name="both")([*parts]), name="model")


@pytest.mark.parametrize(("model", "products"), [
    (gated("sigmoid", "relu"), ["both_input1"]), (gated("relu", "tanh", "sigmoid"), ["both_input2", "both_input3"]),
    (gated("sigmoid", "relu", between=layers.MaxPooling2D()), ["both_input1"]),
    (gated("sigmoid", "relu", between=layers.GlobalMaxPooling2D()), ["both_input1"]),
    (gated("sigmoid", "sigmoid"), []), (gated("relu", "relu"), []),
    (gated("sigmoid", "relu", between=layers.GlobalAveragePooling2D()), []),
    (gated(tf.nn.relu6, "relu"), ["both_input1"]), (gated(tf.nn.relu6, tf.nn.relu6), []),
], ids=["sigmoid", "two kinds", "moved", "of vectors", "equal", "none", "computed", "upper end", "equal upper ends"])
def test_a_prescribed_range_meets_others_behind_a_product_with_one(model, products):
    simple = simplify(model)
    found = [layer for layer in simple.layers if isinstance(layer, layers.DepthwiseConv2D)]
    assert [layer.name for layer in found] == products
    assert not simple.trainable_weights
    np.testing.assert_array_equal(simple(noise_for(model)), model(noise_for(model)))


def test_prescribed_ranges_meet_others_in_nested_concatenations():
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    gates = [layers.Activation("sigmoid", name=name)(image) for name in ("one", "two")]
    both = layers.Concatenate(name="both")(gates)
    model = tf_keras.Model(image, layers.Concatenate(name="all")([image, both]), name="model")
    assert [name for name in names(simplify(model)) if "input" in name] == ["all_input2"]


# --- the original --------------------------------------------------------------------------------------------------


def test_the_original_is_left_as_it_was():
    model = model_of(
        layers.Conv2D(5, 3, activation="swish"), layers.BatchNormalization(), layers.SeparableConv2D(4, 1),
        layers.Conv2DTranspose(3, 3), layers.BatchNormalization(),
    )
    before, noise = [weight.numpy() for weight in model.weights], noise_for(model)
    expected = model(noise).numpy()
    simple = simplify(model)
    for weight in simple.weights:
        weight.assign(weight + 1)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(model(noise), expected)


@pytest.mark.parametrize("kind", WEIGHTED)
def test_what_does_not_train_does_not_train_after(kind):
    layer = WEIGHTED[kind](True)
    model = model_of(layer, layers.BatchNormalization())
    assert simplify(model).trainable_weights
    model.trainable = False
    assert not simplify(model).trainable_weights


def test_a_constraint_on_weights_does_not_outlive_what_is_folded_into_them():
    model = model_of(layers.Conv2D(5, 3, kernel_constraint="unit_norm"), layers.BatchNormalization())
    assert simplify(model).layers[1].kernel.constraint is None


def test_outputs_keep_their_names_and_order():
    image = layers.Input((SIZE, SIZE, CHANNELS), name="image")
    x = layers.Conv2D(5, 3, name="first", activation="swish")(image)
    y = layers.Dropout(0.5, name="second")(layers.BatchNormalization(name="third")(x))
    model = randomize(tf_keras.Model(image, [y, x], name="model"))
    simple = simplify(model)
    assert simple.output_names == ["second", "first"]
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def test_simplifying_twice_changes_nothing():
    model = model_of(
        layers.SeparableConv2D(5, 3, activation="hard_sigmoid"), layers.BatchNormalization(), layers.ReLU(6.0),
        layers.Conv2DTranspose(3, 3, strides=2, activation="swish"),
    )
    once = simplify(model)
    twice = simplify(once)
    assert (kinds(twice), names(twice)) == (kinds(once), names(once))
    np.testing.assert_array_equal(twice(noise_for(model)), once(noise_for(model)))
