"""Where does a classifier end in logits? The last layer decides; the names and the weights stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model.probabilities import ends_in_logits, with_probabilities


class Head(layers.Layer):
    """A layer of the user's, whose class says nothing of what it computes."""

    def __init__(self, function: Any) -> None:
        super().__init__(name="head")
        self.dense, self.function = layers.Dense(4), function

    def call(self, inputs: Any) -> Any:
        return self.function(self.dense(inputs))


def classifier(*ends: Any) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(1)
    return tf_keras.Sequential([layers.Input((8,)), layers.Dense(8, activation="relu", name="body"), *ends], name="own")


def nested(activation: str | None) -> Any:
    inner = layers.Dense(4, activation=activation, name="inner")
    return tf_keras.Sequential([layers.Input((8,)), inner], name="nested")


@pytest.mark.parametrize(("ends", "logits"), [
    (lambda: [layers.Dense(4)], True),
    (lambda: [layers.Dense(4), layers.Reshape((2, 2)), layers.Flatten()], True),
    (lambda: [layers.Dense(4), layers.BatchNormalization()], True),
    (lambda: [nested(None)], True),
    (lambda: [Head(lambda x: x)], True),
    (lambda: [layers.Dense(4, activation="softmax")], False),
    (lambda: [layers.Dense(4), layers.Softmax(), layers.Flatten()], False),
    (lambda: [layers.Dense(4), layers.Activation("softmax")], False),
    (lambda: [nested("softmax")], False),
    (lambda: [Head(tf.nn.softmax)], False),
    (lambda: [layers.Dense(4), layers.Lambda(tf.nn.softmax)], False),
    (lambda: [layers.Dense(4, activation="sigmoid")], False),  # no logits: it is refused later, in words of its own
    (lambda: [Head(tf.nn.sigmoid)], False),
], ids=range(13))
def test_the_last_layer_decides(ends: Any, logits: bool) -> None:
    assert ends_in_logits(classifier(*ends())) is logits


def test_a_softmax_is_put_behind_and_all_else_stays() -> None:
    model = classifier(layers.Dense(4, name="scores"))
    inputs = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    found = with_probabilities(model)
    np.testing.assert_allclose(found(inputs), tf.nn.softmax(model(inputs)), rtol=1e-6)
    assert [layer.name for layer in found.layers][-2:] == ["scores", "probabilities"]
    assert found.get_layer("scores") is model.get_layer("scores") and found.name == "own"
    ready = classifier(layers.Dense(4, activation="softmax"))
    assert with_probabilities(ready) is ready


def test_a_layer_may_have_the_name_already() -> None:
    found = with_probabilities(classifier(layers.Dense(4, name="probabilities")))
    assert found.output_names == ["probabilities_softmax"]


def test_a_model_that_computes_more_than_its_graph() -> None:
    class Twice(tf_keras.Model):
        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs, training=training) * 2

    first = layers.Input((8,))
    model = Twice(first, layers.Dense(4)(first))
    inputs = np.ones((2, 8), np.float32)
    np.testing.assert_allclose(with_probabilities(model)(inputs), tf.nn.softmax(model(inputs)), rtol=1e-6)
