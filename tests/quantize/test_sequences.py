"""Networks of sequences, vectors and pictures of any shape: from a float Keras model to two files of integers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers as L

from benchmarks.networks.sequences import SEQUENCES, build
from edgeship.core.errors import LoweringError
from edgeship.quantize.insert import insert_fake_quantization, weighted_layers
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import (
    assert_same_to_rounding,
    convert,
    noise_for,
    quantized_model,
    randomize,
    run_tflite,
)
from tests.support.two_files import (
    codes_of,
    largest_difference,
    layer_differences,
    onnx_answers,
    onnx_of,
    tflite_answers,
)

COMPARED = 8
POOLED = {"residual heart beats": ("unit1_shrunk", "unit2_shrunk")}  # average poolings


def files_of(quantized):
    """(TFLite file, its graph, ONNX file), both of integers alone."""
    tflite, graph = convert(quantized)
    assert {tensor.dtype for tensor in graph.tensors.values()} <= {"int8", "int32"}
    return tflite, graph, onnx_of(tflite)


def assert_layers_agree(tflite, onnx, codes, folder):
    """One rounding of a half apart at the most, every layer that can be cut out compared."""
    differences, skipped = layer_differences(tflite, onnx, codes, folder)
    assert not skipped
    assert max(differences.values()) <= 1, differences


def assert_computes(quantized, tflite, noise):
    """The file answers what the Keras model with fake quantization answers, and not one number for everything."""
    found, steps = run_tflite(tflite, noise)
    for values, one, step in zip(tf.nest.flatten(quantized.model(noise)), found, steps, strict=True):
        # One step where Keras and the kernels round a half differently, and some more behind each of ten layers.
        np.testing.assert_allclose(one, values, rtol=0, atol=4.01 * step)
        assert np.std(one) > 8 * step


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_network_of_sequences_becomes_two_integer_files_that_agree(name, tmp_path):
    flat = lower(build(name))
    quantized, noise = quantized_model(flat)
    assert quantized.account.quantized == weighted_layers(flat)
    assert quantized.account.added == POOLED.get(name, ())
    tflite, graph, onnx = files_of(quantized)
    # A chain of layers of sequences is reshaped at its ends.
    assert sum(operation.kind == "RESHAPE" for operation in graph.operations) <= 2
    codes = codes_of(tflite, {flat.input_names[0]: noise[:COMPARED]})
    assert_layers_agree(tflite, onnx, codes, tmp_path)
    assert_computes(quantized, tflite, noise[:COMPARED])


# --- every layer of sequences --------------------------------------------------------------------------------------

STEPS = (18, 4)


class Operators(L.Layer):
    """A composite of what its author does with tensors in `call()`."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


def every_layer(x):
    """name -> what is computed of a sequence by one layer, or by a composite."""
    # The converter makes one tensor of two that are computed alike.
    y = L.LeakyReLU(0.3, name="other")(x)
    return {
        "same": L.Conv1D(5, 4, padding="same", activation="relu")(x), "strided": L.Conv1D(5, 3, 2, "same")(x),
        "causal": L.Conv1D(5, 3, padding="causal", dilation_rate=2)(x),
        "causal_strided": L.Conv1D(5, 3, 2, "causal")(x),
        "dilated": L.Conv1D(5, 3, dilation_rate=3)(x), "grouped": L.Conv1D(6, 3, groups=2)(x),
        "long": L.Conv1D(3, 25, padding="same")(x),
        "depthwise": L.DepthwiseConv1D(3, 2, "same", depth_multiplier=2, activation="relu6")(x),
        "separable": L.SeparableConv1D(5, 3, 2, "same", depth_multiplier=2)(x),
        "separable_causal": L.SeparableConv1D(5, 3, padding="causal", dilation_rate=2, activation="relu")(x),
        "transposed": L.Conv1DTranspose(3, 4, 2, "same", activation="relu")(x),
        "transposed_valid": L.Conv1DTranspose(3, 2, 3)(x),
        "transposed_longer": L.Conv1DTranspose(3, 3, 2, "same", output_padding=1)(x),
        "largest": L.MaxPooling1D(3, 2, "same")(x), "means": L.AveragePooling1D(2)(x),
        "means_same": L.AveragePooling1D(3, 1, "same")(x), "mean": L.GlobalAveragePooling1D()(x),
        "mean_kept": L.GlobalAveragePooling1D(keepdims=True)(x), "most": L.GlobalMaxPooling1D()(x),
        "most_kept": L.GlobalMaxPooling1D(keepdims=True)(x),
        "padded": L.ZeroPadding1D((2, 1))(x), "cropped": L.Cropping1D((1, 3))(x), "longer": L.UpSampling1D(3)(x),
        "norm": L.BatchNormalization()(x), "leaky": L.LeakyReLU(0.2)(x), "slopes": L.PReLU(shared_axes=[1])(x),
        "dense": L.Dense(5, activation="relu")(x),
        "tf_mean": Operators(lambda t: tf.reduce_mean(t, 1))(y),
        "tf_most": Operators(lambda t: tf.reduce_max(t, 1, keepdims=True))(y),
        "tf_pools": Operators(lambda t: tf.nn.max_pool1d(t, 2, 2, "VALID") + tf.nn.avg_pool1d(t, 2, 2, "VALID"))(y),
        "tf_pad": Operators(lambda t: tf.pad(t, [[0, 0], [3, 0], [0, 0]]))(y),
        "last": Operators(lambda t: t[:, -1])(y), "every_second": Operators(lambda t: t[:, 1::2, :3])(y),
        "differences": Operators(lambda t: t[:, 1:] - t[:, :-1])(y),
        "joined": Operators(lambda t: tf.concat([t, 2.0 * t], 1))(y),
    }


@pytest.fixture(scope="module")
def every_layer_named():
    x = L.Input(STEPS, name="signal")
    named = [L.Activation("linear", name=f"{name}_out")(tensor) for name, tensor in every_layer(x).items()]
    return randomize(tf_keras.Model(x, named, name="every_layer"))


def test_every_layer_of_sequences_is_the_same_in_float(every_layer_named):
    flat, noise = lower(every_layer_named), noise_for(every_layer_named)
    for name, one, two in zip(flat.output_names, every_layer_named(noise), flat(noise), strict=True):
        # Sums of 25 x 4 products in another order, in float32.
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-5 * float(np.abs(one).max()), err_msg=name)
    assert_same_to_rounding(flat, simplify(flat), products=100)


def test_every_layer_of_sequences_is_integer_and_equal_in_both_files(every_layer_named, tmp_path):
    flat = lower(every_layer_named)
    quantized, noise = quantized_model(flat)
    assert quantized.account.quantized == weighted_layers(flat)
    tflite, _, onnx = files_of(quantized)
    codes = codes_of(tflite, {"signal": noise[:COMPARED]})
    assert_layers_agree(tflite, onnx, codes, tmp_path)
    found, steps = run_tflite(tflite, noise[:COMPARED])
    expected = quantized.model(noise[:COMPARED])
    for name, one, values, step in zip(flat.output_names, found, expected, steps, strict=True):
        off = np.abs(one - values) / step
        # Some are two or three roundings one after the other, each of which may part where a value is half-way.
        assert np.mean(off > 1.01) < 0.1 and off.max() < 3.01, name


def test_a_chain_is_reshaped_at_its_ends_alone():
    x = signal = L.Input((24, 6), name="signal")
    x = L.BatchNormalization(name="norm0")(L.Conv1D(8, 3, padding="causal", name="conv0")(x))
    x = L.PReLU(shared_axes=[1], name="slopes")(L.MaxPooling1D(2, name="pool")(x))
    x = L.Dense(8, activation="relu", name="dense")(L.SpatialDropout1D(0.2, name="dropout")(x))
    gate = Operators(lambda t: tf.reduce_mean(t, 1, keepdims=True), name="gate_mean")(x)
    x = L.Multiply(name="gated")([x, L.Dense(8, activation="sigmoid", name="gate")(gate)])
    x = L.Add(name="sum")([x, L.Conv1D(8, 3, padding="same", name="conv1")(x)])
    x = L.LeakyReLU(0.1, name="leaky")(L.BatchNormalization(name="norm1")(x))
    model = tf_keras.Model(signal, L.Flatten(name="flat")(L.ZeroPadding1D(1, name="pad")(x)), name="chain")
    flat = lower(randomize(model))
    simple = simplify(flat)
    assert_same_to_rounding(flat, simple, products=64)
    assert sum(isinstance(layer, L.Reshape) for layer in simple.layers) == 1


# --- other shapes --------------------------------------------------------------------------------------------------


def several():
    """A picture that is no square, a sequence and a vector; a vector, a sequence, a number and a picture."""
    picture, signal, facts = (
        L.Input(shape, name=name) for name, shape in (("picture", (20, 11, 2)), ("signal", (24, 3)), ("facts", (5,)))
    )
    seen = L.Conv2D(6, (3, 5), strides=(2, 1), padding="same", activation="relu", name="see")(picture)
    heard = L.Conv1D(6, 3, activation="relu", name="hear")(signal)
    joined = L.Concatenate(name="join")([
        L.GlobalAveragePooling2D(name="see_mean")(seen), L.GlobalMaxPooling1D(name="hear_most")(heard),
        L.Dense(6, activation="relu", name="read")(facts),
    ])
    return tf_keras.Model([picture, signal, facts], [
        L.Dense(3, activation="softmax", name="kind")(joined), L.Conv1D(2, 3, padding="same", name="steps")(heard),
        L.Dense(1, name="value")(joined), L.Conv2D(2, 1, activation="sigmoid", name="map")(picture),
    ], name="several")


def wide_picture():
    x = picture = L.Input((13, 29, 1), name="picture")
    x = L.Conv2D(6, (10, 4), strides=(2, 2), padding="same", activation="relu", name="conv")(x)
    x = L.AveragePooling2D((7, 3), name="pool")(L.MaxPooling2D((1, 2), name="largest")(x))
    return tf_keras.Model(picture, L.Dense(4, name="logits")(L.Flatten(name="flat")(x)), name="wide")


def vector():
    x = facts = L.Input((7,), name="facts")
    x = L.Dense(9, activation="swish", name="hidden")(L.BatchNormalization(name="norm")(x))
    return tf_keras.Model(facts, L.Dense(4, activation="tanh", name="answer")(x), name="vector")


def number():
    x = L.Input((1,), name="x")
    return tf_keras.Model(x, L.Dense(1, name="y")(L.Dense(16, activation="relu", name="hidden")(x)), name="number")


@pytest.mark.parametrize("build_model", [several, wide_picture, vector, number])
def test_inputs_and_outputs_of_any_rank_come_out_right(build_model, tmp_path):
    tf_keras.utils.set_random_seed(0)
    flat = lower(build_model())
    quantized, noise = quantized_model(flat, images=64)
    tflite, graph, onnx = files_of(quantized)
    assert list(graph.inputs) == flat.input_names and list(graph.outputs) == flat.output_names
    noise = [values[:COMPARED] for values in (noise if isinstance(noise, list) else [noise])]
    codes = codes_of(tflite, dict(zip(flat.input_names, noise, strict=True)))
    assert_layers_agree(tflite, onnx, codes, tmp_path)
    assert largest_difference(tflite_answers(tflite, codes), onnx_answers(onnx, codes)) <= 2
    assert_computes(quantized, tflite, noise if len(noise) > 1 else noise[0])


def test_a_sequence_of_open_length_is_refused_with_what_to_give():
    model = tf_keras.Sequential([L.Input((None, 4)), L.Conv1D(8, 5, name="first"), L.GlobalMaxPooling1D()])
    with pytest.raises(LoweringError, match=r"^first: expected whole sizes .* found \(n, \?, 4\): give the model"):
        insert_fake_quantization(lower(model), input_ranges=[None])
