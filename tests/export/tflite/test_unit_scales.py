from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.errors import ExportError
from edgeship.core.integers import sqnr_db
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.proof.account import hold_to_account
from edgeship.export.tflite.convert import layer_names
from edgeship.export.tflite.unit_scales import Units, dense_units, with_unit_scales
from edgeship.graph import read_onnx
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.prepare import calibrate, finish
from tests.support.networks import EPS, convert, quantized_model, randomize, run_tflite

SPREAD = 1000.0  # of the units' weights, as a folded batch norm leaves them


def hand_made():
    """One Dense layer of two units whose numbers are known: weights of +-1 and of +-1000, input range +-127.5."""
    x = layers.Input((2,), name="x")
    model = tf_keras.Model(x, layers.Dense(2, name="dense")(x))
    model.get_layer("dense").set_weights([
        np.array([[1.0, -1000.0], [-0.25, 500.0]], np.float32), np.array([3.0, -2000.0], np.float32),
    ])
    return model


def test_codes_and_scales_are_those_computed_by_hand():
    quantized = insert_fake_quantization(hand_made(), input_ranges=[(-127.5, 127.5)])  # input scale 1
    calibrate(quantized, [np.array([[100.0, 50.0], [-100.0, -100.0]], np.float32)], method="min-max")
    finish(quantized)
    _, graph = convert(quantized)
    (item,) = graph.weighted_operations()
    # Unit 0: scale 1/127, codes 127 and -0.25 * 127 = -31.75; unit 1: scale 1000/127, codes -127 and 63.5 (a tie).
    np.testing.assert_allclose(item.weights.scales, [1 / 127, 1000 / 127], rtol=4 * EPS)
    assert item.weights.axis == 0
    assert item.weights.data[0].tolist() == [127, -32]
    assert item.weights.data[1].tolist() in ([-127, 63], [-127, 64])
    # Biases in units of input scale x weight scale: 3 * 127 = 381, -2000 * 127 / 1000 = -254.
    np.testing.assert_allclose(item.bias.scales, [1 / 127, 1000 / 127], rtol=8 * EPS)
    assert item.bias.data.tolist() == [381, -254]


def spread_network(shape=(32,)):
    """Two Dense layers; the first one's units differ by SPREAD, and the second one evens that out."""
    x = layers.Input(shape, name="x")
    hidden = layers.Dense(24, activation="relu", name="hidden")(x)
    model = tf_keras.Model(x, layers.Dense(5, name="out")(hidden))
    generator = np.random.default_rng(3)
    sizes = np.geomspace(1 / SPREAD, 1.0, 24)
    model.get_layer("hidden").set_weights([
        (generator.normal(size=(32, 24)) * sizes).astype(np.float32), (generator.normal(size=24) * sizes).astype("f4"),
    ])
    model.get_layer("out").set_weights([generator.normal(size=(24, 5)).astype("f4"), np.zeros(5, np.float32)])
    return model


@pytest.mark.parametrize("rank", [2, 3])
def test_weights_of_every_unit_are_within_half_a_step_of_the_float_ones_in_both_formats(rank):
    flat = spread_network((32,) if rank == 2 else (4, 32))
    quantized, noise = quantized_model(flat)
    content, graph = convert(quantized)
    for item, layer in zip(graph.weighted_operations(), ("hidden", "out"), strict=True):
        kernel = flat.get_layer(layer).get_weights()[0]
        steps = np.abs(kernel).max(axis=0) / 127
        np.testing.assert_allclose(item.weights.scales, steps, rtol=4 * EPS)
        real = (item.weights.data * item.weights.scales[:, None]).T
        assert np.all(np.abs(real - kernel) <= steps * (0.5 + 127 * 8 * EPS))
    onnx = convert_onnx(content, variant="u8u8")
    hold_to_account(onnx, content, name="a.onnx", source="a.tflite")
    for item in read_onnx(onnx, where=Path("a.onnx")).weighted_operations():
        assert len(item.weights.scales) == (24 if "hidden" in item.weights.name else 5)
        assert np.all(item.weights.zero_points == 128)
    (answers,), _ = run_tflite(content, noise)
    # 8 bits per value: two roundings of activations and one of weights per layer leave far more than 25 dB.
    assert sqnr_db(flat(noise).numpy(), answers) > 25


def test_one_layer_called_twice_has_one_kernel_and_a_bias_for_each_input_scale():
    x, y = layers.Input((6,), name="x"), layers.Input((6,), name="y")
    shared = layers.Dense(3, name="shared")
    model = randomize(tf_keras.Model([x, y], [shared(x), shared(layers.ReLU(name="positive")(y))]))
    quantized, _ = quantized_model(model)
    _, graph = convert(quantized)
    one, two = graph.weighted_operations()
    assert one.weights.name == two.weights.name == "shared/kernel"
    assert sorted([one.bias.name, two.bias.name]) == ["shared/bias", "shared/bias/again"]
    bias = model.get_layer("shared").get_weights()[1]
    for item in (one, two):
        # Half a step of the bias, and float32's rounding of its scale.
        allowed = item.bias.scales * 0.5 + np.abs(bias) * 4 * EPS
        assert np.all(np.abs(item.bias.data * item.bias.scales.astype(np.float64) - bias) <= allowed)


def test_equal_layers_do_not_share_a_tensor():
    x = layers.Input((6,), name="x")
    first, second = layers.Dense(3, name="first"), layers.Dense(3, name="second")
    model = tf_keras.Model(x, [first(x), second(layers.ReLU(name="relu")(x))])
    first.set_weights([first.get_weights()[0], np.array([1.0, 2.0, 3.0], np.float32)])
    second.set_weights([first.get_weights()[0], np.array([3.0, 2.0, 1.0], np.float32)])
    _, graph = convert(quantized_model(model)[0])
    assert sorted(item.weights.name for item in graph.weighted_operations()) == ["first/kernel", "second/kernel"]


def test_a_layer_that_is_not_in_the_file_is_an_error():
    quantized, _ = quantized_model(hand_made())
    content, _ = convert(quantized)
    units = dense_units(quantized.model)
    assert list(units) == ["dense"]
    with pytest.raises(ExportError, match="other: expected a FULLY_CONNECTED of the layer in the file, found none"):
        with_unit_scales(content, {"other": units["dense"]}, layers=layer_names(quantized.model))


def test_a_bias_beyond_int32_is_an_error():
    quantized, _ = quantized_model(hand_made())
    content, _ = convert(quantized)
    own = dense_units(quantized.model)["dense"]
    large = Units(kernel=own.kernel, bias=own.bias * np.float32(1e9), scales=own.scales)
    with pytest.raises(ExportError, match="dense: a bias does not fit int32"):
        with_unit_scales(content, {"dense": large}, layers=layer_names(quantized.model))


def test_the_model_computes_on_integers_again_after_the_conversion():
    quantized, noise = quantized_model(spread_network())
    before = quantized.model(noise).numpy()
    convert(quantized)
    np.testing.assert_array_equal(quantized.model(noise).numpy(), before)
