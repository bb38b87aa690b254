from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.ranges import Mode
from edgeship.quantize.same_network import LEAST_SQNR_DB, check_same, is_same, noise_of
from tests.support.networks import quantized_model, randomize

SPAN = (-1.0, 1.0)


def network():
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, use_bias=False, name="first")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="act")(x)
    y = layers.Conv2D(4, 1, name="branch")(x)
    x = layers.Add(name="sum")([x, y])
    return randomize(tf_keras.Model(image, layers.Dense(5, activation="softmax", name="answer")(x), name="model"))


def test_noise_is_within_each_input_s_span_and_of_its_shape():
    image = layers.Input((None, 5, 1), name="image")
    fixed = layers.Input((2,), batch_size=3, name="fixed")
    one, two = noise_of([image, fixed], [(0.0, 1.0), (-4.0, -2.0)])
    assert one.shape == (8, 32, 5, 1) and two.shape == (3, 2)
    assert one.dtype == np.float32 and one.min() >= 0 and one.max() <= 1 and two.min() >= -4 and two.max() <= -2


def test_large_inputs_need_few_examples():
    (large,) = noise_of([layers.Input((224, 224, 3))], [SPAN])
    assert large.shape == (2, 224, 224, 3)
    small, wide = noise_of([layers.Input((4,)), layers.Input((2**15,))], [SPAN, SPAN])
    assert len(small) == len(wide) == 4


def test_what_is_not_finite_must_be_equal():
    one = np.array([1.0, np.inf, 2.0], np.float32)
    assert is_same(one, one + np.float32(1e-6) * np.isfinite(one), least_db=95)
    assert not is_same(one, np.array([1.0, 3.0, 2.0], np.float32), least_db=95)
    assert not is_same(one, np.array([1.0, np.inf, 2.001], np.float32), least_db=95)
    assert not is_same(one, one[:2], least_db=95)


@pytest.mark.parametrize(("layer", "named"), [
    ("quant_first", "first (Conv2D)"), ("quant_branch", "branch (Conv2D)"), ("quant_answer", "answer (Dense)"),
])
def test_the_first_layer_that_differs_is_named(layer, named):
    model = network()
    quantized = insert_fake_quantization(model, input_ranges=[SPAN])
    bias = quantized.model.get_layer(layer).layer.bias
    bias.assign(bias * 1.001)
    with pytest.raises(LoweringError, match="float32 rounding leaves 95 dB") as error:
        quantized.check_in_float(noise_of(model.inputs, [SPAN]), on="noise")
    assert f"the first layer that differs is {named}" in str(error.value)


def test_the_check_leaves_a_calibrated_model_as_it_was():
    quantized, noise = quantized_model(network())
    before = np.asarray(quantized.model(noise))
    quantized.check_in_float([noise], on="noise")
    assert all(item.mode is Mode.FROZEN for item in quantized.ranges)
    np.testing.assert_array_equal(quantized.model(noise), before)


def test_a_network_that_amplifies_rounding_is_held_to_what_one_unit_in_the_last_place_makes_of_it():
    """A small difference of large numbers: x + 1000 - 1000 has lost ten bits of x."""
    image = layers.Input((16,), name="image")
    large = layers.Rescaling(1.0, offset=1000.0, name="large")(image)
    model = tf_keras.Model(image, layers.Rescaling(1.0, offset=-1000.0, name="rest")(large), name="model")

    def twin(factor):
        return tf_keras.Model(image, layers.Rescaling(factor, name="rest")(image), name="twin")

    noise = noise_of(model.inputs, [SPAN])
    exact, found = (np.asarray(network(noise[0])) for network in (twin(1.0), model))
    assert not is_same(exact, found, least_db=LEAST_SQNR_DB)
    check_same(model, twin(1.0), noise, what="the twin")
    with pytest.raises(LoweringError, match="the first layer that differs is"):
        check_same(model, twin(1.01), noise, what="the twin")
