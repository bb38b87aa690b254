"""Code in a saved model: on no path does it run, wherever in the file it is, and the message names the layer."""

from __future__ import annotations

import contextlib
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.config import ModelConfig
from edgeship.core.errors import BundleError, ModelError, RuntimeFailure
from edgeship.model.build import build_model
from edgeship.model.checkpoint import read_checkpoint
from edgeship.model.flat_layers import Clip
from edgeship.model.keras_code import DEEPEST_CONFIG
from edgeship.model.keras_file import load_keras_model
from edgeship.validate.probes.reference import FloatKeras
from edgeship.validate.process.client import Worker
from tests.support.hostile_models import IMAGE, MODULE, entries, network, put, rewrite, with_byte_code, write_module

SUFFIXES = ("keras", "h5")
NOWHERE = Path("marker")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain.keras` and `plain.h5`: a model in which a layer can be replaced."""
    folder = tmp_path_factory.mktemp("saved")
    for suffix in SUFFIXES:
        network().save(folder / f"plain.{suffix}")
    return folder


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where hostile code leaves its mark; the module that some models name can be imported."""
    marker = tmp_path / "marker"
    write_module(tmp_path, marker)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return marker


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("attack", entries(NOWHERE))
def test_what_carries_or_names_code_is_refused(
    attack: str, suffix: str, saved: Path, marker: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(saved / f"plain.{suffix}", tmp_path / f"hostile.{suffix}"))
    rewrite(path, put(entries(marker)[attack]))
    with pytest.raises(ModelError, match=rf"hostile\.{suffix}: (layer 'target': )?.*; .*(trust_code|images)"):
        load_keras_model(path)
    assert not marker.exists()
    assert MODULE not in sys.modules


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("place", ["plain", "submodel", "time-distributed"])
def test_byte_code_is_not_run_on_any_path(place: str, suffix: str, marker: Path, tmp_path: Path) -> None:
    """Under its own name, and under the other one; as a model, as weights and as a bundle's reference."""
    path, renamed = tmp_path / f"payload.{suffix}", tmp_path / f"renamed.{'h5' if suffix == 'keras' else 'keras'}"
    with_byte_code(marker)[place].save(path)
    shutil.copy(path, renamed)
    marker.unlink()
    for file in (path, renamed):
        for load in (
            load_keras_model,
            lambda file: build_model(ModelConfig(path=str(file)), input_shape=IMAGE, classes=3),
            lambda file: FloatKeras(str(file), custom_objects=()),
        ):
            with pytest.raises(ModelError, match=r"layer 'payload': it holds Python code \(Lambda\), which is not run"):
                load(file)
    if suffix == "keras":
        with pytest.raises(ModelError, match="holds Python code"):
            read_checkpoint(path)
    else:
        assert set(read_checkpoint(path).tensors) >= {"conv/kernel"}  # numbers alone; no layer is built
    with pytest.raises(ModelError, match=f"{renamed.name}: "):
        read_checkpoint(renamed)
    assert not marker.exists()


def test_a_file_that_the_user_trusts_may_run_its_code(marker: Path, saved: Path, tmp_path: Path) -> None:
    """And so the attacks of the other tests are real ones."""
    for suffix in SUFFIXES:
        path = tmp_path / f"payload.{suffix}"
        with_byte_code(marker)["plain"].save(path)
        marker.unlink()
        model = build_model(ModelConfig(path=str(path), trust_code=True), input_shape=IMAGE, classes=3)
        assert model.name == "small" and marker.exists()
        marker.unlink()
    for attack in ("function Lambda", "operator that prints into a file"):
        path = Path(shutil.copy(saved / "plain.keras", tmp_path / "trusted.keras"))
        rewrite(path, put(entries(marker)[attack]))
        sys.modules.pop(MODULE, None)
        with contextlib.suppress(Exception):  # what the operator answers is no image
            load_keras_model(path, trust_code=True)(np.zeros((1, *IMAGE), np.float32))
        assert marker.exists(), attack
        marker.unlink()


def test_losses_and_metrics_are_not_built(marker: Path, saved: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(saved / "plain.keras", tmp_path / "compiled.keras"))

    def change(config):
        loss = {"class_name": "function", "module": MODULE, "config": "run", "registered_name": "run"}
        config["compile_config"] = {"loss": loss, "optimizer": "adam"}
        config["config"]["layers"][1]["compile_config"] = {"loss": loss}

    model = load_keras_model(rewrite(path, change))
    assert model.name == "small" and not marker.exists()


def test_a_bundle_that_names_modules_is_refused(marker: Path, saved: Path) -> None:
    with pytest.raises(BundleError, match=f"the bundle names the module '{MODULE}', and code that a bundle names"):
        FloatKeras(str(saved / "plain.keras"), custom_objects=("edgeship.model.layers", MODULE))
    assert not marker.exists()
    own = ("edgeship.model.layers", "edgeship.model.flat_layers")
    opened = FloatKeras(str(saved / "plain.keras"), custom_objects=own)
    assert opened.infer([np.zeros((2, *IMAGE), np.float32)])[0].shape == (2, 3)


@pytest.mark.usefixtures("real_workers")
def test_a_bundles_reference_is_opened_in_a_child_with_its_threads(marker: Path, tmp_path: Path) -> None:
    with_byte_code(marker)["plain"].save(tmp_path / "payload.h5")
    marker.unlink()
    network().save(tmp_path / "plain.keras")
    options = {"threads": 1, "custom_objects": []}
    with Worker("row", timeout_seconds=300) as worker:
        answer = worker.ask("load", runtime="keras", path=str(tmp_path / "plain.keras"), options=options)
    assert answer["outputs"][0]["shape"] == [None, 3]
    with Worker("row", timeout_seconds=300) as worker, pytest.raises(RuntimeFailure, match=r"Python code .*bundle"):
        worker.ask("load", runtime="keras", path=str(tmp_path / "payload.h5"), options=options)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_only_computes_is_loaded_with_the_same_answers(suffix: str, tmp_path: Path) -> None:
    """Operators, activations by function, wrappers, our own and the user's registered layers."""

    @tf_keras.utils.register_keras_serializable("test_keras_code")
    class Halves(layers.Layer):
        def call(self, inputs):
            return inputs * 0.5

    x = image = layers.Input(IMAGE, name="image")
    x = layers.Conv2D(4, 3, activation=tf.nn.relu6, kernel_regularizer="l2", name="conv")(x)
    x = tf.nn.relu6(x * 2.0 + 1.0)[:, 1:, ::2]
    x = tf.concat([x, tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, 0]])], -1)
    x = layers.TimeDistributed(layers.Dense(5, activation="swish"), name="steps")(Clip(low=0.0, high=3.0)(x))
    x = Halves(name="halves")(x)
    x = layers.Bidirectional(layers.GRU(3), name="both")(tf.reduce_mean(x, 1))
    model = tf_keras.Model(image, tf_keras.Sequential([layers.Dense(3), layers.Softmax()])(x))
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    images = np.random.default_rng(0).uniform(size=(4, *IMAGE)).astype(np.float32)
    np.testing.assert_array_equal(load_keras_model(path)(images), model(images))


def test_a_class_of_a_module_that_the_user_names_need_not_be_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unregistered_layers.py").write_text(
        "import tf_keras\nfrom os import system\n"
        "class Same(tf_keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return x\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    import unregistered_layers

    path = tmp_path / "model.keras"
    network(unregistered_layers.Same(name="target")).save(path)
    config = ModelConfig(path=str(path), custom_objects=("unregistered_layers",))
    assert build_model(config, input_shape=IMAGE, classes=3).layers[2].name == "target"
    with pytest.raises(ModelError, match=r"layer 'target': .* of the module 'unregistered_layers', which is not impor"):
        load_keras_model(path)

    def change(found):
        found["config"]["layers"][2]["class_name"] = found["config"]["layers"][2]["registered_name"] = "system"

    with pytest.raises(ModelError, match="layer 'target': it names code, 'system' of the module 'unregistered_layers'"):
        build_model(ModelConfig(path=str(rewrite(path, change)), custom_objects=("unregistered_layers",)),
                    input_shape=IMAGE, classes=3)


def test_a_layer_that_nobody_knows_is_named(saved: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(saved / "plain.h5", tmp_path / "foreign.h5"))
    rewrite(path, put({"class_name": "MultiScale", "config": {}}))
    with pytest.raises(ModelError, match=r"foreign\.h5: layer 'target': it is of the class 'MultiScale'.* register it"):
        load_keras_model(path)


def test_a_configuration_without_end_is_refused(saved: Path, tmp_path: Path) -> None:
    for depth, message in ((DEEPEST_CONFIG + 1, "nested more than"), (100_000, "not a model file")):
        path = Path(shutil.copy(saved / "plain.keras", tmp_path / f"deep{depth}.keras"))

        def change(config):
            config["deep"] = "THERE"

        rewrite(path, change)
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part.replace(b'"THERE"', b"[" * depth + b"]" * depth))
        with pytest.raises(ModelError, match=message):
            load_keras_model(path)
