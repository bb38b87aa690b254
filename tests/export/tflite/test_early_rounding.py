"""What is kept in float is rounded where it is computed, though the converter would move it first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.graph import read_graph

PICTURES = np.random.default_rng(0).uniform(0, 1, (64, 8, 8, 3)).astype("float32")
CURVES: dict[str, Callable[[Any], Any]] = {"cos": tf.cos, "elu": tf.nn.elu, "round": lambda x: tf.round(4 * x)}
MOVES: dict[str, Callable[[Any], Any]] = {
    "flat": layers.Flatten(),
    "turned": lambda x: layers.Flatten()(layers.Conv2D(4, 3)(layers.Permute((3, 1, 2))(x))),
    "cut": lambda x: layers.Flatten()(x[:, 1:, ::2]),
    "one after the other": lambda x: layers.Reshape((-1,))(layers.Permute((2, 1))(layers.Reshape((36, 4))(x))),
}


@pytest.mark.parametrize(("curve", "move"), [
    ("cos", "flat"), ("elu", "turned"), ("round", "cut"), ("cos", "one after the other"),
])
def test_moves_behind_what_is_kept_move_integers(tmp_path: Path, curve: str, move: str) -> None:
    tf_keras.utils.set_random_seed(1)
    picture = layers.Input((8, 8, 3), name="picture")
    x = layers.Lambda(CURVES[curve], name="curve")(layers.Conv2D(4, 3, name="conv")(picture))
    model = tf_keras.Model(picture, layers.Dense(3, name="values")(MOVES[move](x)), name="moved")
    bundle = edgeship.quantize_model(model, PICTURES, keep_float=["curve"]).export(tmp_path / "bundle")
    graph = read_graph(tmp_path / "bundle" / "int8-ptq.tflite")
    moves = [
        item for item in graph.operations if item.kind in ("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE")
    ]
    assert moves and all(graph.tensors[item.outputs[0]].dtype == "int8" for item in moves)
    report = bundle.validate(
        PICTURES, latency_launches=1, latency_runs=2, runtimes=("keras", "litert", "onnxruntime")
    )
    assert report.verdict == "pass", report
