"""SavedModel folders: built from the layers and numbers in them, and nothing in them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.core.errors import ModelError
from edgeship.model.build import load_model
from edgeship.model.keras_file import load_keras_model

EXAMPLES = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float32)


class Gate(layers.Layer):
    """A layer of the user's with an inner layer and a variable of its own."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.inner = layers.Dense(units, name="inner")

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(self.units,), initializer="random_normal")
        super().build(shape)

    def call(self, inputs: Any) -> Any:
        return tf.nn.relu(self.inner(inputs)) * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def network(*more: Any) -> tf_keras.Model:
    """A shared layer, a nested model, batch norm with statistics that are not those of the beginning."""
    tf_keras.utils.set_random_seed(5)
    parts = [layers.Input((6,)), layers.Dense(4, use_bias=False, name="dense"), layers.BatchNormalization()]
    inner = tf_keras.Sequential(parts, name="inner")
    first = layers.Input((6,), name="six")
    shared = layers.Dense(6, activation="tanh", name="shared")
    model = tf_keras.Model(first, layers.Dense(3, name="out")(inner(shared(shared(first)))), name="several")
    for layer in more:
        model = tf_keras.Sequential([model, layer])
    for weight in model.weights:
        weight.assign(tf.random.uniform(weight.shape, 0.5, 1.5))
    return model


def saved(model: tf_keras.Model, folder: Path) -> Path:
    model.save(folder, save_format="tf")
    return folder


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as found:
        load_model(path, **options)
    return str(found.value)


def test_every_weight_comes_back(tmp_path: Path) -> None:
    model = network()
    model.compile("adam", "mse")
    model.fit(EXAMPLES, np.zeros((8, 3)), verbose=0)  # so that the folder has the optimizer's variables too
    loaded = load_model(saved(model, tmp_path / "folder"))
    assert [weight.name for weight in loaded.weights] == [weight.name for weight in model.weights]
    np.testing.assert_array_equal(loaded(EXAMPLES), model(EXAMPLES))


def test_a_layer_of_the_users_is_built_once_it_is_named(tmp_path: Path) -> None:
    model = network(Gate(3, name="gate"))
    folder = saved(model, tmp_path / "folder")
    assert "layer 'gate': it is of the class 'Gate', which is none of Keras' plain layers" in refused(folder)
    loaded = load_model(folder, modules=(__name__,))
    np.testing.assert_array_equal(loaded(EXAMPLES), model(EXAMPLES))
    # tf_keras brings the layer back as a function without layers: it computes, and cannot be quantized.
    np.testing.assert_allclose(load_model(folder, trust_code=True)(EXAMPLES), model(EXAMPLES), rtol=1e-5)


def test_code_in_it_is_refused_and_its_graph_never_runs(tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")

    def write(inputs: Any) -> Any:
        tf.io.write_file(marker, "run")
        return inputs

    folder = saved(network(layers.Lambda(write, name="writer")), tmp_path / "folder")
    Path(marker).unlink(missing_ok=True)
    assert "layer 'writer': it holds Python code (Lambda), which is not run" in refused(folder)
    assert not Path(marker).exists()


def test_what_has_no_layers_is_one_sentence(tmp_path: Path) -> None:
    network().export(tmp_path / "exported")
    assert "a SavedModel that holds a graph and no layers (model.export" in refused(tmp_path / "exported")

    class Subclassed(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.out = layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.out(inputs)

    subclassed = Subclassed()
    subclassed(EXAMPLES)
    message = refused(saved(subclassed, tmp_path / "subclassed"))
    assert "holds a model of the class 'Subclassed' with a call() of its own" in message
    (tmp_path / "empty").mkdir()
    assert "a folder, expected a .keras or .h5 file" in refused(tmp_path / "empty")
    with pytest.raises(ModelError, match=r"a folder, expected a \.keras or .h5 file"):  # as weights, or in a bundle
        load_keras_model(saved(network(), tmp_path / "whole"))


@pytest.mark.parametrize("damage", ["graph", "metadata", "numbers", "index"])
def test_damaged_folders_are_one_sentence(damage: str, tmp_path: Path) -> None:
    folder = saved(network(), tmp_path / "folder")
    if damage == "graph":
        (folder / "keras_metadata.pb").unlink()  # so that the graph's own file is read for the layers
        (folder / "saved_model.pb").write_bytes(b"\x0a\xff\xff")
    elif damage == "metadata":
        (folder / "keras_metadata.pb").write_bytes((folder / "keras_metadata.pb").read_bytes()[:-50])
    elif damage == "numbers":
        (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    else:
        (folder / "variables" / "variables.index").unlink()
    assert f"{folder}: not a SavedModel of Keras 2 that this version can load" in refused(folder)


def test_numbers_that_are_not_those_of_the_layers(tmp_path: Path) -> None:
    one, other = saved(network(), tmp_path / "one"), saved(network(layers.Dense(3)), tmp_path / "other")
    (one / "keras_metadata.pb").write_bytes((other / "keras_metadata.pb").read_bytes())
    message = refused(one)
    assert "expected numbers of shape" in message and "the folder is not whole" in message


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "file.keras", "file.h5"])
def test_the_front_door_takes_a_path(form: str, tmp_path: Path) -> None:
    path = tmp_path / form
    network().save(path, save_format="tf" if form == "folder" else None)
    assert edgeship.quantize_model(path, EXAMPLES).account.quantized == ("shared", "inner_dense", "out")
    with pytest.raises(ModelError, match="none: there is no such file"):
        edgeship.lower_model(str(tmp_path / "none"))
