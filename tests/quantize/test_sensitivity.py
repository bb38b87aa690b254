"""What quantizing one layer alone costs, on the tiny trained network and on one where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.artifact import Preprocessing
from edgeship.core.integers import sqnr_db
from edgeship.data import Images
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.prepare import calibrate, finish
from edgeship.quantize.ranges import Mode
from edgeship.quantize.sensitivity import logits_of, measure

SPEC = Preprocessing(
    image_size=8, channels=1, channel_order="gray", interpolation="bilinear", mean=(0.0,), std=(1.0,)
)


@pytest.fixture(scope="module")
def images() -> Images:
    generator = np.random.default_rng(0)
    return Images(generator.integers(0, 256, (48, 8, 8), dtype=np.uint8), np.arange(48) % 3)


@pytest.fixture(scope="module")
def quantized(images):
    """Two convolutions; the kernel of the second has one weight a thousand times the others in each channel."""
    tf_keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 1), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="good")(image)
    x = layers.Conv2D(4, 3, activation="relu", name="bad")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = tf_keras.Model(image, layers.Dense(3, activation="softmax", name="answer")(x))
    kernel = model.get_layer("bad").kernel
    spoiled = kernel.numpy()
    # A dead input position (weights on a corner that meets nothing new) would be too kind: this one is used.
    spoiled[0, 0, 0, :] = 40 * np.abs(spoiled).max()
    kernel.assign(spoiled)
    prepared = insert_fake_quantization(lower(model), input_ranges=[(0.0, 1.0)])
    calibrate(prepared, [images.images[..., None].astype(np.float32) / 255], method="min-max")
    finish(prepared)
    return prepared


def test_every_layer_has_a_cost_and_the_spoiled_one_leads_the_weighted(quantized, images):
    costs = measure(quantized, images, spec=SPEC)
    assert {cost.layer for cost in costs} == {"image", "good", "bad", "pool", "answer"}
    weighted = [cost.layer for cost in costs if cost.has_weights]
    assert weighted[0] == "bad"
    noise = [np.inf if cost.sqnr_db is None else cost.sqnr_db for cost in costs]
    assert noise == sorted(noise)
    assert all(0 <= cost.agreement <= 1 for cost in costs)


def test_one_layer_alone_is_the_network_with_all_others_in_float(quantized, images):
    """The figure of "good", computed another way: its kernel and result rounded by hand in a float network."""
    costs = {cost.layer: cost for cost in measure(quantized, images, spec=SPEC)}
    batch = tf.constant(images.images[..., None].astype(np.float32) / 255)
    for item in quantized.ranges:
        item.mode = Mode.OFF
    for quantizer in quantized.weights.values():
        quantizer.enabled = False
    network = logits_of(quantized.model)
    reference = network(batch).numpy()
    quantized.weights["good"].enabled = True
    quantized.results["good"].mode = Mode.FROZEN
    alone = network(batch).numpy()
    # The batches differ (48 at once, 48 of 64): float sums in another order, far below the rounding of a layer.
    assert sqnr_db(reference, alone) == pytest.approx(costs["good"].sqnr_db, abs=0.01)
    for quantizer in quantized.weights.values():
        quantizer.enabled = True
    finish(quantized)


def test_the_model_is_given_back_as_it_was(quantized, images):
    batch = tf.constant(images.images[..., None].astype(np.float32) / 255)
    before = quantized.model(batch).numpy()
    measure(quantized, images, spec=SPEC)
    assert np.array_equal(quantized.model(batch).numpy(), before)


def test_logits_are_in_front_of_the_softmax(quantized, images):
    batch = tf.constant(images.images[..., None].astype(np.float32) / 255)
    logits = logits_of(quantized.model)(batch).numpy()
    assert not np.allclose(logits.sum(-1), 1)
    # One LSB of the softmax is 1/256, and the rounding adds half of one.
    assert np.abs(tf.nn.softmax(logits).numpy() - quantized.model(batch).numpy()).max() <= 1 / 256


def test_sqnr():
    signal = np.array([[3.0, -4.0]])
    assert sqnr_db(signal, signal) is None
    assert sqnr_db(signal, signal * 1.1) == pytest.approx(20.0)
