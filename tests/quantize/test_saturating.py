"""Which ranges have a window: only where every reader of every tensor on the grid saturates."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.window import SIGMOID, SOFTMAX, TANH, Window


def windows(build, *, shape=(4, 4, 2), keep_float=()) -> dict[str, Window]:
    """Layer name -> the window of its range, where it has one."""
    entry = layers.Input(shape, name="entry")
    flat = lower(tf_keras.Model(entry, build(entry)))
    made = insert_fake_quantization(flat, input_ranges=[(0.0, 1.0)], keep_float=keep_float)
    return {
        item.name.removesuffix("_range"): item.window for item in made.ranges if item.window.bounds_something
    }


def conv(x, name="conv", **options):
    return layers.Conv2D(3, 1, name=name, **options)(x)


def ended(x):
    return layers.Conv2D(2, 1, name="end")(x)


def test_logits_in_front_of_a_softmax():
    assert windows(lambda x: layers.Dense(5, "softmax", name="head")(layers.Flatten()(x))) == {"head": SOFTMAX}
    # Also through a reshape that keeps the classes, as in MobileNet.
    assert windows(
        lambda x: layers.Softmax()(layers.Reshape((5,))(layers.Conv2D(5, 4, name="head")(x)))
    ) == {"head": SOFTMAX}


def test_a_softmax_that_is_kept_in_float():
    def build(x):
        return layers.Activation("softmax", name="probabilities")(layers.Dense(5, name="head")(layers.Flatten()(x)))

    assert windows(build, keep_float=("probabilities",)) == {"head": SOFTMAX}


def test_logits_that_are_an_output_too():
    def build(x):
        logits = layers.Dense(5, name="head")(layers.Flatten()(x))
        return [logits, layers.Softmax()(logits)]

    assert windows(build) == {}


def test_classes_that_a_reshape_makes():
    assert windows(lambda x: layers.Softmax()(layers.Reshape((2, 5))(layers.Dense(10)(layers.Flatten()(x))))) == {}


@pytest.mark.parametrize(("function", "window"), [("sigmoid", SIGMOID), ("tanh", TANH)])
def test_a_function_with_two_ends(function, window):
    assert windows(lambda x: ended(conv(x, activation=function))) == {"conv": window}


def test_a_function_that_is_kept_in_float():
    def build(x):
        return ended(layers.Activation("sigmoid", name="gate")(conv(x)))

    assert windows(build, keep_float=("gate",)) == {}


def test_a_second_reader_that_tells_all_apart():
    def build(x):
        values = conv(x)
        return layers.Add()([layers.Activation("sigmoid")(values), values])

    assert windows(build) == {}


def test_a_second_reader_that_saturates_elsewhere():
    """A sigmoid and a tanh: the wider one of both."""
    def build(x):
        values = conv(x)
        return layers.Add()([layers.Activation("sigmoid")(values), layers.Activation("tanh")(values)])

    assert windows(build) == {"conv": SIGMOID}


def test_swish_is_zero_below():
    assert windows(lambda x: ended(conv(x, activation="swish"))) == {"conv": Window(low=SIGMOID.low)}


def test_a_gate_of_another_tensor():
    def build(x):
        return ended(layers.Multiply()([conv(x, "values"), conv(x, "gate", activation="sigmoid")]))

    assert windows(build) == {"gate": SIGMOID}


def test_a_relu_behind_what_takes_over_none():
    def build(x):
        return ended(layers.ReLU(6.0)(layers.LeakyReLU(name="leaky")(conv(x))))

    assert windows(build) == {"leaky": Window(low=0.0, high=6.0)}


def test_hard_swish_is_zero_below_minus_three():
    """x * relu6(x + 3) / 6: the gate is 0 at -3; the constant factor may be off by 1/127 of itself."""
    found = windows(lambda x: ended((lambda v: v * tf.nn.relu6(v + 3.0) / 6.0)(conv(x))))
    assert list(found) == ["conv"] and found["conv"].high is None
    assert found["conv"].low == pytest.approx(-3 * (1 + 1 / 127), abs=1e-3)


def test_hard_sigmoid_ends_at_two_and_a_half():
    """Keras 2: clip(0.2 x + 0.5, 0, 1), of a tensor that another such function reads, so that nothing is folded."""
    def build(x):
        values = conv(x)
        gates = [layers.Activation("hard_sigmoid", name=f"gate{place}")(values) for place in range(2)]
        return ended(layers.Concatenate()(gates))

    window = windows(build)["conv"]
    assert (window.low, window.high) == pytest.approx((-2.5 * (1 + 1 / 127), 2.5 * (1 + 1 / 127)), abs=1e-3)


def test_a_pooling_between_keeps_the_window():
    assert windows(
        lambda x: ended(layers.Activation("tanh")(layers.MaxPooling2D()(conv(x))))
    ) == {"conv": TANH}


def test_what_the_window_leaves_out_changes_no_answer():
    """A sigmoid's input from -40 to 40 on 255 steps of the window: the same codes as on any finer grid."""
    entry = layers.Input((1,))
    flat = lower(tf_keras.Model(entry, layers.Dense(1, activation="sigmoid", name="head")(entry)))
    flat.get_layer("head").set_weights([np.array([[40.0]], np.float32), np.zeros(1, np.float32)])
    made = insert_fake_quantization(flat, input_ranges=[(-1.0, 1.0)])
    from edgeship.quantize.prepare import calibrate, finish

    values = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
    calibrate(made, [values], method="min-max")
    finish(made)
    # One step of the logits is 12.2 / 255 = 0.048 and of the input 40 * 2 / 255 = 0.31; a sigmoid's slope is 1/4.
    assert np.abs(made.model(values) - flat(values)).max() <= (0.31 + 0.048) / 2 / 4 + 0.5 / 256
