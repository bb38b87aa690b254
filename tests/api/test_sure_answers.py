"""A network that answers no to all that it is calibrated and tested on: its outputs are next to nothing, and right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.graph import read_graph
from edgeship.graph.ends import ends_in_sigmoid

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.uniform(0, 1, (96, 12, 12, 1)).astype("float32")


def network(*, moved: bool) -> tf_keras.Model:
    """One sigmoid per pixel, of logits around -20; ONNX Runtime's kernel stops at -18."""
    tf_keras.utils.set_random_seed(1)
    picture = layers.Input((12, 12, 1), name="picture")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(picture)
    x = layers.Conv2D(
        1, 1, activation="sigmoid", bias_initializer=tf_keras.initializers.Constant(-20.0), name="is_ink"
    )(x)
    return tf_keras.Model(picture, layers.Reshape((144,), name="flat")(x) if moved else x, name="sure")


@pytest.mark.parametrize("moved", [False, True])
def test_answers_next_to_zero_are_no_wrong_files(tmp_path: Path, moved: bool) -> None:
    model = network(moved=moved)
    assert 0 < model.predict(PICTURES, verbose=0).max() < 1e-7
    bundle = edgeship.quantize_model(model, PICTURES[:64]).export(tmp_path / "bundle")
    for file in ("float32.tflite", "float32.onnx", "int8-ptq.tflite", "int8-ptq.onnx"):
        assert ends_in_sigmoid(read_graph(tmp_path / "bundle" / file)) == (True,)
    report = bundle.validate(
        PICTURES[64:], np.zeros((32, *model.output_shape[1:]), "int64"), latency_launches=1, latency_runs=2,
        runtimes=("keras", "litert", "onnxruntime"),
    )
    assert report.verdict == "pass", report
