"""A scheme's weights, ranges and float layers survive the file."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.qat import calibrate, finish
from edgeship.quantize.simplifying.simplify import simplify
from edgeship.quantize.state import load_state, restore, state_bytes


def test_round_trip(tmp_path):
    tf_keras.utils.set_random_seed(0)
    image = layers.Input((6, 6, 2), name="image")
    x = layers.Conv2D(3, 3, activation="relu", name="first")(image)
    x = layers.Flatten(name="flat")(layers.Conv2D(3, 3, name="second")(x))
    flat = lower(tf_keras.Model(image, layers.Dense(4, activation="softmax", name="answer")(x)))

    def prepare(keep_float):
        return insert_fake_quantization(flat, input_ranges=[(0.0, 1.0)], keep_float=keep_float)

    batch = np.random.default_rng(0).random((16, 6, 6, 2), np.float32)
    quantized = prepare(("second",))
    calibrate(quantized, [batch], method="min-max")
    finish(quantized)
    file = tmp_path / "state.npz"
    file.write_bytes(state_bytes(quantized, keep_float=("second",), notes={"why": ["a", 1.5]}))

    state = load_state(file)
    assert state.keep_float == ("second",)
    assert state.notes == {"why": ["a", 1.5]}
    again = restore(state, prepare)
    assert again.account == quantized.account
    assert np.array_equal(again.model(batch).numpy(), quantized.model(batch).numpy())
    assert "second" not in again.weights


def branches(kind):
    """A network whose integer form has products that do not train, or layers that the user froze."""
    image = layers.Input((6, 6, 2), name="image")
    stem = layers.Conv2D(4, 3, activation="relu", name="stem")(image)
    if kind == "a capped branch":
        left = tf.nn.relu6(layers.Conv2D(4, 3, padding="same", name="left")(stem))
    elif kind == "a sigmoid branch":
        left = layers.Conv2D(4, 3, padding="same", activation="sigmoid", name="left")(stem)
    else:
        left = layers.Conv2D(4, 3, padding="same", name="left", trainable=False)(stem)
    right = layers.Conv2D(4, 3, padding="same", name="right")(stem)
    x = layers.Flatten(name="flat")(layers.Concatenate(name="join")([left, right]))
    return tf_keras.Model(image, layers.Dense(4, activation="softmax", name="answer")(x))


@pytest.mark.parametrize("kind", ["a capped branch", "a sigmoid branch", "a frozen branch"])
def test_weights_that_do_not_train_come_back_to_their_places(kind, tmp_path):
    """Saved after the model was called, set before it is: the order of its weights must be one."""
    flat = lower(branches(kind))
    assert kind == "a frozen branch" or any(not layer.trainable for layer in simplify(flat).layers)

    def prepare(keep_float):
        return insert_fake_quantization(flat, input_ranges=[(0.0, 1.0)], keep_float=keep_float)

    batch = np.random.default_rng(0).random((16, 6, 6, 2), np.float32)
    quantized = prepare(())
    names = [weight.name for weight in quantized.model.weights]
    quantized.model.predict(batch, verbose=0)
    assert [weight.name for weight in quantized.model.weights] == names
    calibrate(quantized, [batch], method="min-max")
    finish(quantized)
    file = tmp_path / "state.npz"
    file.write_bytes(state_bytes(quantized, keep_float=(), notes={}))
    again = restore(load_state(file), prepare)
    assert np.array_equal(again.model(batch).numpy(), quantized.model(batch).numpy())
