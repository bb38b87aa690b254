from __future__ import annotations

import sys

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.config import DataConfig, ModelConfig
from edgeship.data import load_test_split, preprocessing_of
from edgeship.errors import ModelError
from edgeship.model.build import build_model, check_probabilities, check_weights

SHAPE = {"input_shape": (16, 16, 1), "classes": 10}


def dense(activation):
    return tf_keras.Sequential([
        layers.Input((16, 16, 1)), layers.Flatten(), layers.Dense(10, activation=activation, name="answer"),
    ])


def test_logits_are_not_taken_for_probabilities():
    data = DataConfig(image_size=16, test_images=100)
    images, spec = load_test_split(data), preprocessing_of(data)
    check_probabilities(dense("softmax"), images, spec=spec)
    with pytest.raises(ModelError, match=r"expected probabilities .* are these logits\?"):
        check_probabilities(dense(None), images, spec=spec)


def test_nan_weights_are_named():
    model = dense("softmax")
    check_weights(model)
    model.layers[-1].kernel.assign(np.full((256, 10), np.nan))
    with pytest.raises(ModelError, match="answer/kernel:0: the weight has NaN"):
        check_weights(model)


def test_a_factory_beside_the_configuration_brings_the_model(tmp_path, monkeypatch):
    (tmp_path / "mine_for_a_test.py").write_text(
        "import tf_keras\n"
        "def build(input_shape, classes):\n"
        "    return tf_keras.Sequential([tf_keras.layers.Input(input_shape), tf_keras.layers.Flatten(),\n"
        "                                tf_keras.layers.Dense(classes, activation='softmax')])\n"
        "def wrong(input_shape, classes):\n"
        "    return build(input_shape, classes + 1)\n"
        "nothing = lambda input_shape, classes: None\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert build_model(ModelConfig(factory="mine_for_a_test:build"), **SHAPE).output_shape == (None, 10)
    for name, message in {
        "mine_for_a_test:missing": "has no function 'missing'",
        "mine_for_a_test:nothing": "expected a tf_keras.Model",
        "mine_for_a_test:wrong": "expected 10 outputs",
        "not_there_at_all:build": "'not_there_at_all' could not be imported",
    }.items():
        with pytest.raises(ModelError, match=message):
            build_model(ModelConfig(factory=name), **SHAPE)


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"model\.keras: not a \.keras file this version can load"):
        build_model(ModelConfig(path=str(tmp_path / "model.keras")), **SHAPE)
    with pytest.raises(ModelError, match="there is no such file"):
        build_model(ModelConfig(path=str(tmp_path / "none.keras")), **SHAPE)
