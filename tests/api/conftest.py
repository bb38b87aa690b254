"""One small network of two inputs and two outputs, quantized, exported and validated once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeship

RANDOM = np.random.default_rng(7)
DATA = {
    "picture": RANDOM.normal(size=(96, 8, 6, 2)).astype(np.float32),
    "facts": RANDOM.uniform(-3, 3, size=(96, 5)).astype(np.float32),
}


def network() -> Any:
    """A picture that is not square and a vector in; a value and three labels out; a layer of the user's own."""
    import tensorflow as tf
    import tf_keras
    from tf_keras import layers

    class Block(layers.Layer):
        def __init__(self, filters: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.convolution = layers.Conv2D(filters, 3, padding="same", use_bias=False)
            self.norm = layers.BatchNormalization()

        def call(self, inputs: Any) -> Any:
            return tf.nn.relu(self.norm(self.convolution(inputs)))

    tf_keras.utils.set_random_seed(1)
    picture, facts = layers.Input((8, 6, 2), name="picture"), layers.Input((5,), name="facts")
    seen = layers.GlobalAveragePooling2D()(Block(8, name="second")(Block(8, name="first")(picture)))
    both = layers.Concatenate()([seen, layers.Dense(8, activation="relu", name="read")(facts)])
    return tf_keras.Model(
        [picture, facts],
        [layers.Dense(1, name="value")(both), layers.Dense(3, activation="sigmoid", name="labels")(both)], name="two",
    )


@pytest.fixture(scope="session")
def model() -> Any:
    return network()


@pytest.fixture(scope="session")
def quantized(model: Any) -> edgeship.QuantizedModel:
    return edgeship.quantize_model(model, DATA)


@pytest.fixture(scope="session")
def bundle(quantized: edgeship.QuantizedModel, tmp_path_factory: pytest.TempPathFactory) -> edgeship.Bundle:
    return quantized.export(Path(tmp_path_factory.mktemp("front_door")) / "bundle")
