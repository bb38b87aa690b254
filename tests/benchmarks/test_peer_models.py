"""The peers' table of models of one's own: what a path stands for, whose inputs they get, and the table itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from benchmarks import peers
from benchmarks.peer_models import models_at, works
from edgeship.core.errors import ModelError
from tests.support.networks import noise_for, randomize


def network(*, outputs: int = 1) -> tf_keras.Model:
    image = layers.Input((6, 6, 2), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    heads = [layers.Dense(3, name=f"head{place}")(layers.GlobalMaxPooling2D(name=f"top{place}")(x))
             for place in range(outputs)]
    return randomize(tf_keras.Model(image, heads, name="small"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = network()
    model.save(tmp_path / "one.keras")
    model.save(tmp_path / "two.h5")
    tf_keras.models.save_model(model, tmp_path / "three", save_format="tf")
    network(outputs=2).save(tmp_path / "heads.keras")
    (tmp_path / "notes.txt").write_text("no model")
    noise = noise_for(model, count=40)
    np.savez(tmp_path / "one.npz", x_calibration=noise[:20], x_test=noise[20:])
    return tmp_path


def test_a_path_is_a_model_or_a_folder_of_them(folder: Path) -> None:
    assert [path.name for path in models_at(folder)] == ["heads.keras", "one.keras", "three", "two.h5"]
    assert models_at(folder / "three") == [folder / "three"]
    (folder / "empty").mkdir()
    for path in (folder / "empty", folder / "notes.txt", folder / "missing"):
        with pytest.raises(ModelError, match=r"expected a Keras model \(\.keras, \.h5, or a SavedModel folder\)"):
            models_at(path)


def test_inputs_are_those_given_those_beside_the_model_or_noise(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {work.name: work for work in works([folder], inputs=None)}
    assert list(found) == ["one", "three, on noise", "two, on noise"]
    assert len(found["one"].calibration) == 20 and len(found["two, on noise"].tests) > 100
    assert "heads.keras: not measured: expected one input and one output, found 1 and 2" in capsys.readouterr().err
    (work,) = works([folder / "two.h5"], inputs=folder / "one.npz")
    np.testing.assert_array_equal(work.tests, found["one"].tests)


@pytest.mark.parametrize(("arrays", "message"), [
    ({"x": np.zeros(3)}, "expected an .npz file with x_calibration and x_test, found none"),
    ({"x_calibration": np.zeros((4, 6, 6, 2)), "x_test": np.zeros((4, 7, 6, 2))},
     r"x_test: expected examples of shape \(6, 6, 2\), found \(7, 6, 2\)"),
])
def test_inputs_that_do_not_fit_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(folder / "wrong.npz", **arrays)
    assert list(works([folder / "two.h5"], inputs=folder / "wrong.npz")) == []
    assert re.search(rf"two\.h5: not measured: .*wrong\.npz: {message}", capsys.readouterr().err)


def test_the_table_has_a_line_of_every_route(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["peers", "models", str(folder / "one.keras"), "--weight-scales", "per-tensor"])
    peers.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| one |")]
    routes = {line.split("|")[2].strip() for line in lines}
    assert routes >= {
        "float", "edgeship min-max", "edgeship best", "edgeship best u8s8", "converter", "plain tf2onnx",
        "ort u8u8 min-max", "ort u8s8 percentile",
    }
    assert all(float(line.split("|")[5]) > 10 for line in lines)  # dB of the same network
