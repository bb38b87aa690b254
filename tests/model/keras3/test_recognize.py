"""Which Keras a model is of, and what a process must have for Keras 3."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import pytest
import tf_keras

from edgeship.core.errors import LoweringError, ModelError
from edgeship.model.keras3 import as_keras2
from edgeship.model.keras3.recognize import is_keras3_layer, is_keras3_model
from edgeship.quantize.lowering.lower import lower


class Mine(keras.Model):
    """A class of the user's, whose module says nothing."""


def test_a_model_is_recognized_by_what_it_inherits_from():
    assert is_keras3_model(Mine())
    assert is_keras3_model(keras.Sequential())
    assert not is_keras3_model(keras.layers.Dense(3))
    assert is_keras3_layer(keras.layers.Dense(3))
    for other in (tf_keras.Sequential(), tf_keras.layers.Dense(3), "text", None, Mine):
        assert not is_keras3_model(other)
        assert not is_keras3_layer(other)


def test_a_model_that_mixes_both_keras_is_one_sentence():
    class Third(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="third")
            self.parts = {"convolutions": [tf_keras.layers.Conv2D(4, 3, name="inside")]}

        def call(self, x):
            return self.parts["convolutions"][0](x)

    class Second(tf_keras.layers.Layer):
        def __init__(self):
            super().__init__(name="second")
            self.conv = keras.layers.Conv2D(4, 3, name="inside")

        def call(self, x):
            return self.conv(x)

    for own, part, message in (
        (keras, Third, r"^third \(Third\): a layer of Keras 3 \(keras\) that holds 'inside', one of Keras 2"),
        (tf_keras, Second, r"^second \(Second\): a layer of Keras 2 \(tf_keras\) that holds 'inside', one of Keras 3"),
    ):
        image = own.Input((8, 8, 3))
        with pytest.raises(LoweringError, match=message):
            lower(own.Model(image, part()(image)))


FIRST = """
import tensorflow as tf
kind = tf.keras.layers.Layer
import edgeship
import keras
from edgeship.quantize.lowering.lower import lower
model = tf.keras.Sequential([tf.keras.Input((6, 6, 3)), tf.keras.layers.Conv2D(4, 3, name="conv")])
print(kind is keras.Layer, [layer.name for layer in lower(model).layers][1:])
"""


def test_tensorflow_may_be_imported_first_with_keras_3_as_its_keras():
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", FIRST], env=environment, text=True, capture_output=True, check=False)
    assert done.stdout == "True ['conv']\n", done.stderr


def test_another_backend_in_this_process_is_one_sentence(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ModelError, match=r"computes with the backend 'jax' in this process, expected 'ten"):
        as_keras2(keras.Sequential([keras.Input((3,))]))


def test_a_backend_that_is_not_there_is_one_sentence_and_keras_2_goes_on():
    """The command line imports no Keras 3 for models of Keras 2."""
    text = (
        "import edgeship\n"
        "from edgeship.quantize.lowering.lower import lower\n"
        "from edgeship.model.keras3.recognize import require_tensorflow_backend\n"
        "import tf_keras\n"
        "lower(tf_keras.Sequential([tf_keras.layers.Input((3,)), tf_keras.layers.Dense(2)]))\n"
        "try:\n"
        "    require_tensorflow_backend()\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], env={**os.environ, "KERAS_BACKEND": "nowhere"}, text=True, capture_output=True,
        check=True,
    )
    assert done.stdout.startswith("ModelError Keras 3 could not be imported with the backend 'nowhere' (")
