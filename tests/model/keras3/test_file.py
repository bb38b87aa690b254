"""Files that Keras 3 saved, of any backend: read as data, checked as those of Keras 2 are, and translated."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from edgeship.core.errors import LoweringError, ModelError
from edgeship.model.keras_code import FOR_BUNDLES, FOR_WEIGHTS
from edgeship.model.keras_file import load_keras_model, read_model_config

IMAGE = (6, 6, 3)
IMAGES = np.random.default_rng(0).normal(size=(2, *IMAGE)).astype(np.float32)


class Twice(layers.Layer):
    """A layer of the user's, in no registry."""

    def call(self, x):
        return x * 2.0


def network(*inner: Any) -> Any:
    image = keras.Input(IMAGE, name="image")
    x = layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2", name="target")(image)
    for part in inner:
        x = part(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="dense")(layers.Flatten()(x)), name="small")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network().save(tmp_path / "plain.keras")
    return tmp_path / "plain.keras"


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], *, version: str | None = "3.9.0") -> Path:
    """The file with another configuration."""
    with zipfile.ZipFile(path) as archive:
        config, weights = json.loads(archive.read("config.json")), archive.read("model.weights.h5")
    change(config)
    other = path.with_name("other.keras")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version} if version else {}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return other


def put(**entry: Any) -> Callable[[dict[str, Any]], None]:
    """A change that puts other entries into the first convolution's."""

    def change(config: dict[str, Any]) -> None:
        layer = next(item for item in config["config"]["layers"] if item["config"]["name"] == "target")
        settings = entry.pop("settings", {})
        layer.update(entry)
        layer["config"].update(settings)

    return change


def test_what_was_saved_comes_back_translated(tmp_path):
    def tail(x: Any) -> Any:
        x = x[:, ::2] * 2.0 + 1
        return layers.BatchNormalization()(ops.concatenate([x, ops.relu6(x)], axis=-1))

    for suffix, model in {"keras": network(tail), "h5": network(layers.LeakyReLU(negative_slope=0.1))}.items():
        model.compile("adam", "mse")
        model.save(tmp_path / f"model.{suffix}")
        loaded = load_keras_model(tmp_path / f"model.{suffix}")
        np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), rtol=0, atol=1e-5)
        assert len(loaded.weights) == len(model.weights)


def test_the_version_is_read_from_the_content(saved):
    """A file that does not say its version, and is named as if it were another's."""
    other = rewrite(saved, lambda config: None, version=None).rename(saved.with_name("model.h5"))
    assert load_keras_model(other).name == "small"
    with pytest.raises(ModelError, match=r"saved by Keras 4\.0\.1, expected Keras 2"):
        load_keras_model(rewrite(saved, lambda config: None, version="4.0.1"))


def test_code_in_a_file_is_run_only_where_it_is_trusted(tmp_path):
    path = tmp_path / "lambda.keras"
    model = network(layers.Lambda(lambda x: x + 1.0, name="inner"))
    model.save(path)
    with pytest.raises(ModelError, match=r"'inner': it holds Python code \(Lambda\), which is not run; .*@keras\.s"):
        load_keras_model(path)
    np.testing.assert_allclose(load_keras_model(path, trust_code=True)(IMAGES), model(IMAGES), rtol=0, atol=1e-5)


def test_a_layer_of_the_user_s_is_found_in_the_user_s_modules_alone(tmp_path):
    path = tmp_path / "own.keras"
    model = network(Twice(name="mine"))
    model.save(path)
    with pytest.raises(ModelError, match=r"layer 'mine': it names code, 'Twice' of the module"):
        load_keras_model(path)
    loaded = load_keras_model(path, modules=(__name__,))
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("entry", "message"), [
    ({"module": "os", "class_name": "system", "registered_name": None}, "it names code, 'system' of the module 'os'"),
    ({"class_name": "TorchModuleWrapper"}, "it holds Python code"),
    ({"class_name": "TFSMLayer"}, "TFSMLayer may read a file"),
    ({"class_name": "StringLookup"}, "StringLookup may read a file"),
    ({"module": "keras.src.ops.core", "class_name": "Map"}, "none of Keras' plain layers"),
    ({"module": "keras.utils", "class_name": "get_file"}, "none of Keras' plain layers"),
    ({"registered_name": "elsewhere>Conv2D"}, "registered as 'elsewhere>Conv2D', which is not known"),
    ({"settings": {"activation": {
        "module": "os", "class_name": "function", "config": "system", "registered_name": "function",
    }}}, "it names code, 'system' of the module 'os'"),
    ({"settings": {"activation": {
        "module": "builtins", "class_name": "function", "config": "get_file", "registered_name": "function",
    }}}, "the function 'get_file', which is no activation of Keras"),
    ({"settings": {"activation": {"class_name": "__lambda__", "config": {"value": "4wAA"}}}}, "it holds Python code"),
    ({"settings": {"kernel_initializer": {
        "module": "subprocess", "class_name": "Popen", "config": {"args": "true"}, "registered_name": None,
    }}}, "'Popen' of the module 'subprocess'"),
])
def test_what_names_code_is_refused(saved, entry, message):
    with pytest.raises(ModelError, match=message):
        load_keras_model(rewrite(saved, put(**entry)))


def test_layers_that_declare_more_than_the_file_holds_are_refused(saved):
    with pytest.raises(ModelError, match=r"its layers have [\d,]+ bytes of weights or more, the file holds no more"):
        load_keras_model(rewrite(saved, put(settings={"filters": 10**9})))


def test_a_damaged_file_is_one_sentence(saved):
    with pytest.raises((ModelError, LoweringError), match=r"other\.keras: not a model file that Keras 3") as caught:
        load_keras_model(rewrite(saved, put(settings={"filters": "many"})))
    assert "\n" not in str(caught.value)


def test_bundles_and_weights_are_of_keras_2(saved):
    for remedies in (FOR_BUNDLES, FOR_WEIGHTS):
        with pytest.raises(ModelError, match=r"plain\.keras: saved by Keras 3[\d.]+, expected Keras 2"):
            load_keras_model(saved, remedies=remedies)
    with pytest.raises(ModelError, match="expected Keras 2"):
        read_model_config(saved)
