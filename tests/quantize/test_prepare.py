"""Fake quantization inserted, seeded and finished, on a network that tells where in the picture a bar is."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.errors import ModelError
from edgeship.data import Images, preprocess
from edgeship.export.checks import check_tflite
from edgeship.export.tflite.convert import convert_tflite
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.prepare import calibrate, finish, prepare, seed_ranges
from edgeship.quantize.ranges import Mode
from tests.support.bars import CALIBRATION, SPEC, TEST, config, ends, prepared, seeded, trained_bars
from tests.support.networks import convert, randomize


@pytest.fixture(scope="module")
def float_model():
    return trained_bars()


@pytest.mark.parametrize("method", ["min-max", "batch-mean", "percentile", "mse"])
def test_every_calibration_gives_a_network_that_answers(float_model, method):
    quantized = seeded(float_model, method)
    finish(quantized)
    assert all(item.mode is Mode.FROZEN for item in quantized.ranges)
    images = preprocess(TEST.images, SPEC)
    answers = quantized.model(images).numpy().argmax(-1)
    assert np.mean(answers == float_model(images).numpy().argmax(-1)) > 0.9
    whole = ends(seeded(float_model))
    assert all(whole[name][0] <= low <= high <= whole[name][1] for name, (low, high) in ends(quantized).items())


def test_min_max_takes_large_batches_in_parts(float_model, monkeypatch):
    """The extremes are those of all examples, however many pass the model at once; float32 rounds as it sums them."""
    whole = ends(seeded(float_model))
    size = int(np.prod(float_model.input_shape[1:]))
    monkeypatch.setattr("edgeship.quantize.prepare.BATCH_NUMBERS", 3 * size)
    counts, quantized = [], prepared(float_model)
    call = quantized.model.call
    monkeypatch.setattr(
        quantized.model, "call", lambda inputs, *args, **kwargs: counts.append(len(inputs)) or call(inputs, **kwargs)
    )
    calibrate(quantized, [preprocess(CALIBRATION.images, SPEC)], method="min-max")
    assert max(counts) == 3 and sum(counts) == len(CALIBRATION.images)
    for name, found in ends(quantized).items():
        np.testing.assert_allclose(found, whole[name], rtol=1e-5, atol=1e-6)


def test_a_model_of_a_fixed_batch_gets_the_batch_as_it_is(monkeypatch):
    monkeypatch.setattr("edgeship.quantize.prepare.BATCH_NUMBERS", 1)
    inputs = layers.Input(batch_shape=(4, 6))
    model = randomize(tf_keras.Model(inputs, layers.Dense(2, name="out")(inputs)))
    quantized = insert_fake_quantization(lower(model), input_ranges=[None])
    calibrate(quantized, [np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)], method="min-max")
    assert all(item.mode is Mode.FOLLOW for item in quantized.ranges)


def test_weights_of_7_bits_are_so_in_the_file(float_model):
    quantized = seeded(float_model, weight_bits=7)
    finish(quantized)
    content = convert_tflite(quantized.model, scheme="int8-ptq")
    check_tflite(content, name="model.tflite", scheme="int8-ptq", weight_bits=7)


def test_no_calibration_images_is_refused(float_model):
    with pytest.raises(ModelError, match=(
        r"data\.calibration_images: the calibration split is empty; the integer ranges need some images"
    )):
        seed_ranges(prepared(float_model), Images(TEST.images[:0], TEST.labels[:0]), spec=SPEC, method="min-max")


def test_a_dead_layer_is_named_and_keeps_its_zeros(float_model, capsys):
    model = tf_keras.models.clone_model(float_model)
    model.get_layer("first_norm").beta.assign(np.full(8, -1e6))
    quantized = seeded(model)
    finish(quantized)
    said = capsys.readouterr().err
    assert said.count("only zeros on all calibration examples; is this meant?") == 1 and "first_relu" in said
    assert np.all(np.isfinite(quantized.model(TEST.images[:4].astype(np.float32))))
    convert_tflite(quantized.model, scheme="int8-ptq")


def test_the_bias_of_a_dead_channel_fits_its_integer():
    image = layers.Input((8, 8, 1), name="image")
    x = layers.Conv2D(4, 3, name="conv")(image)
    model = randomize(tf_keras.Model(image, layers.Dense(3, name="dense")(layers.Flatten(name="flat")(x))))
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., 1], bias[1] = 0.0, 100.0
    model.get_layer("conv").set_weights([kernel, bias])
    quantized = prepare(lower(model), spec=SPEC, config=config())
    seed_ranges(quantized, CALIBRATION, spec=SPEC, method="min-max")
    before = quantized.model(preprocess(TEST.images, SPEC)).numpy()
    finish(quantized)
    np.testing.assert_array_equal(quantized.model(preprocess(TEST.images, SPEC)), before)
    _, graph = convert(quantized)
    conv, _ = graph.weighted_operations()
    # 2^30, where a scale of float32 is off by half a unit in its last place.
    assert 2**30 * (1 - 1e-6) < conv.bias.data[1] <= 2**30 * (1 + 1e-6)
    assert conv.bias.data[1] * conv.bias.scales[1] == pytest.approx(100.0, rel=1e-6)
    np.testing.assert_array_equal(conv.weights.data[1], 0)


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_biases_that_are_all_one_number_are_that_number_in_the_file(bias):
    """The converter would divide all of them by the scale of the first channel."""
    image = layers.Input((8, 8, 1), name="image")
    model = randomize(tf_keras.Model(image, layers.Conv2D(4, 3, name="conv")(image)))
    model.get_layer("conv").bias.assign(np.full(4, bias))
    quantized = prepare(lower(model), spec=SPEC, config=config())
    seed_ranges(quantized, CALIBRATION, spec=SPEC, method="min-max")
    finish(quantized)
    _, graph = convert(quantized)
    (conv,) = graph.weighted_operations()
    assert len(np.unique(conv.weights.scales)) == 4
    np.testing.assert_allclose(conv.bias.data * conv.bias.scales, np.full(4, bias), atol=conv.bias.scales.max())


def test_several_inputs_are_calibrated_together():
    one, two = (layers.Input((8, 8, 1), name=name) for name in ("one", "two"))
    model = randomize(tf_keras.Model([one, two], layers.Add(name="sum")([one, layers.ReLU(name="relu")(two)])))
    quantized = prepare(lower(model), spec=SPEC, config=config())
    calibrate(quantized, [[np.full((1, 8, 8, 1), 0.5), np.full((1, 8, 8, 1), 0.25)]], method="min-max")
    assert ends(quantized)["sum_range"] == pytest.approx((0.0, 0.75), abs=1 / 255)
    assert ends(quantized)["one_range"] == ends(quantized)["two_range"] == (0.0, 1.0)
