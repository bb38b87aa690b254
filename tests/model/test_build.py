from __future__ import annotations

import sys

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.config import DataConfig, ModelConfig
from edgeship.core.errors import InputError, ModelError
from edgeship.data import load_test_split, preprocessing_of
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
    with pytest.raises(ModelError, match=r"expected probabilities .* are these logits\? .*; any other task"):
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
        "def unbuilt(input_shape, classes):\n"
        "    return tf_keras.Sequential([tf_keras.layers.Flatten(), tf_keras.layers.Dense(classes)], name='open')\n"
        "def raises(input_shape, classes):\n"
        "    return tf_keras.Sequential([tf_keras.layers.Input(input_shape), tf_keras.layers.Conv2D(2, 17)])\n"
        "def asks_more(input_shape, classes, depth):\n"
        "    pass\n"
        "def leaves(input_shape, classes):\n"
        "    raise SystemExit(3)\n"
        "def shaped(*shape):\n"
        "    return lambda input_shape, classes: build(shape, classes)\n"
        "not_square, flat, deep, larger = shaped(16, 8, 1), shaped(640), shaped(16, 16, 40), shaped(32, 32, 3)\n"
        "def open_size(input_shape, classes):\n"
        "    layers = tf_keras.layers\n"
        "    return tf_keras.Sequential([layers.Input((None, None, 1)), layers.GlobalMaxPooling2D(),\n"
        "                       layers.Dense(classes, activation='softmax')])\n"
        "def third(input_shape, classes):\n"
        "    import keras\n"
        "    return keras.Sequential([keras.layers.Input(input_shape), keras.layers.Flatten(),\n"
        "                             keras.layers.Dense(classes, activation='softmax')])\n"
        "def third_unbuilt(input_shape, classes):\n"
        "    import keras\n"
        "    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(classes)], name='open3')\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert build_model(ModelConfig(factory="mine_for_a_test:build"), **SHAPE).output_shape == (None, 10)
    for _ in range(2):  # names do not depend on what the process has built
        third = build_model(ModelConfig(factory="mine_for_a_test:third"), **SHAPE)
        assert isinstance(third, tf_keras.Model)
        assert [layer.name for layer in third.layers] == ["input_layer", "flatten", "dense"]
    assert build_model(ModelConfig(factory="mine_for_a_test:open_size"), **SHAPE).input_shape == (None, None, None, 1)
    for name, message in {
        "mine_for_a_test:missing": "has no function 'missing'",
        "mine_for_a_test:nothing": r"expected a tf_keras.Model \(Keras 2\) or a keras.Model \(Keras 3\)",
        "mine_for_a_test:wrong": r"expected 10 outputs .*or leave it as it is and give arrays: data.factory",
        "mine_for_a_test:unbuilt": "open: the model is not built, so its input shape is not known",
        "mine_for_a_test:third_unbuilt": r"open3 \(Sequential\): the model is not built, so its input shapes",
        "not_there_at_all:build": "'not_there_at_all' could not be imported",
        "mine_for_a_test:raises": r":raises\(input_shape=\(16, 16, 1\), classes=10\) failed: ValueError: Negative",
        "mine_for_a_test:asks_more": r"failed: TypeError: asks_more\(\) missing 1 required positional argument",
        "mine_for_a_test:leaves": "failed: SystemExit: 3; correct the factory, or the configuration",
        "mine_for_a_test:not_square": r"found \(16, 8, 1\); data.image_size is the one side of square",
        "mine_for_a_test:flat": r"found \(640,\); data.name loads images of height",
        "mine_for_a_test:deep": r"found \(16, 16, 40\); data.name loads images of 1 or 3 channels",
        "mine_for_a_test:larger": r"found \(32, 32, 3\); set data.image_size = 32 and data.channels = 3",
    }.items():
        with pytest.raises(InputError, match=message):
            build_model(ModelConfig(factory=name), **SHAPE)


@pytest.mark.parametrize(("text", "message"), [
    ("def broken(:", "could not be imported: SyntaxError: "), ("1 / 0", "ZeroDivisionError: division by zero; correct"),
    ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"), ("raise SystemExit", "SystemExit"),
])
def test_a_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch, text, message):
    (tmp_path / "broken_for_a_test.py").write_text(text + "\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ModelError, match=rf"model.custom_objects: the module 'broken_for_a_test' .*{message}"):
        build_model(ModelConfig(custom_objects=("broken_for_a_test",)), **SHAPE)


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"model\.keras: not a model file this version can load"):
        build_model(ModelConfig(path=str(tmp_path / "model.keras")), **SHAPE)
    with pytest.raises(ModelError, match="there is no such file"):
        build_model(ModelConfig(path=str(tmp_path / "none.keras")), **SHAPE)


def test_a_file_may_be_of_either_keras(tmp_path):
    import keras  # Keras 3, which TensorFlow brings along

    third = keras.Sequential([keras.layers.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    for own in (dense("softmax"), third):
        own.save(tmp_path / "model.keras")
        loaded = build_model(ModelConfig(path=str(tmp_path / "model.keras")), **SHAPE)
        assert isinstance(loaded, tf_keras.Model)
        np.testing.assert_array_equal(loaded.layers[-1].kernel, np.asarray(own.layers[-1].kernel))


def test_a_subclassed_model_becomes_the_one_layer_of_a_functional_model(tmp_path, monkeypatch):
    (tmp_path / "subclassed_for_a_test.py").write_text(
        "import tensorflow as tf, tf_keras\n"
        "class Mine(tf_keras.Model):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__(name='mine')\n"
        "        self.flatten, self.head = tf_keras.layers.Flatten(), tf_keras.layers.Dense(classes)\n"
        "    def call(self, x):\n"
        "        return self.head(self.flatten(x))\n"
        "def build(input_shape, classes):\n"
        "    model = Mine(classes)\n"
        "    model(tf.zeros((1, *input_shape)))\n"
        "    return model\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    model = build_model(ModelConfig(factory="subclassed_for_a_test:build"), **SHAPE)
    assert (model.name, model.input_shape, model.output_shape) == ("mine", (None, 16, 16, 1), (None, 10))
    assert len(model.weights) == 2
