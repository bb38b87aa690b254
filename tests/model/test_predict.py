"""Lines that TensorFlow writes and nobody can do anything about."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from edgeship.model.predict import predict_batch

MANY = 8  # TensorFlow warns from the fifth model on


def test_many_models_are_asked_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    for width in range(1, MANY + 1):
        model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(width)])
        batch = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(predict_batch(model, batch), model(batch))
    assert not caplog.records
    assert not tf.get_logger().filters


def test_a_warning_of_another_kind_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    class Talkative(tf_keras.layers.Layer):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            tf.get_logger().warning("the layer's own warning")
            return inputs

    model = tf_keras.Sequential([tf_keras.Input((3,)), Talkative()])
    caplog.clear()
    predict_batch(model, np.ones((2, 3), np.float32))
    assert [record.getMessage() for record in caplog.records] == ["the layer's own warning"]


@pytest.mark.parametrize("modules", [
    "edgeship.api.quantize_model", "edgeship.api.quantized",
    # In the order in which a worker that runs float Keras imports them: the number of threads is set in between.
    "edgeship.validate.probes.reference, edgeship.model.keras_file",
])
def test_importing_what_computes_with_keras_prints_nothing(modules: str) -> None:
    code = f"import {modules}, tensorflow; tensorflow.constant(0)"
    # tf2onnx, which another test may have imported, sets this variable to what hides errors too.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("", "")
