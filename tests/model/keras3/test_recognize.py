"""Which Keras a model is of, and what a process must have for Keras 3."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import pytest
import tf_keras

from edgeship.core.errors import ModelError
from edgeship.model.keras3 import as_keras2
from edgeship.model.keras3.recognize import is_keras3_layer, is_keras3_model


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
