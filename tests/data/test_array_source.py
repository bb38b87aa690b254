"""The user's own arrays of a configuration: what is taken, and what is refused in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.config import DataConfig
from edgeship.core.errors import ConfigError, DataError
from edgeship.data.array_source import load_arrays
from edgeship.data.arrays import Port

FACTS = Port(name="facts", shape=(3,), dtype="float32")
PICTURE = Port(name="picture", shape=(4, 5, 1), dtype="float32")
ROWS, PICTURES = np.arange(60.0).reshape(20, 3), np.ones((20, 4, 5, 1), np.float32)


def of_file(folder: Path, **arrays: np.ndarray) -> DataConfig:
    np.savez(folder / "data.npz", **arrays)
    return DataConfig(name="arrays", path=str(folder / "data.npz"), calibration_images=7)


def test_a_file_of_one_input(tmp_path: Path) -> None:
    config = of_file(tmp_path, train_inputs=ROWS, train_targets=np.arange(20), test_inputs=ROWS[:5])
    splits = load_arrays(config, [FACTS])
    assert splits.train is not None
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (20, 7, 5)
    assert splits.train.targets is not None and splits.test.targets is None
    record = splits.record()
    assert record["test"]["images"] == 5 and record["train"]["sha256"] != record["calibration"]["sha256"]


def test_a_file_of_two_inputs(tmp_path: Path) -> None:
    arrays = {"test_inputs/facts": ROWS, "test_inputs/picture": PICTURES,
              "calibration_inputs/facts": ROWS, "calibration_inputs/picture": PICTURES}
    splits = load_arrays(of_file(tmp_path, **arrays), [PICTURE, FACTS])
    pictures, rows = splits.test.read(np.arange(2))
    assert pictures.shape == (2, 4, 5, 1) and rows.shape == (2, 3) and splits.train is None


@pytest.mark.parametrize(("arrays", "message"), [
    ({"x": ROWS}, "expected the arrays test_inputs, test_targets, train_inputs .* found x"),
    ({"test_inputs": ROWS}, 'expected a dict with "test" and "train" or "calibration"'),
    ({"test_inputs": ROWS, "train_inputs": ROWS[:, :2]}, r"train: expected facts: float32 \(n, 3\), found .*\(20, 2\)"),
    ({"test_inputs": ROWS, "train_inputs": ROWS, "train_targets": np.arange(3)}, "train: targets: expected one for"),
    ({"test_inputs": np.array([object()] * 3), "train_inputs": ROWS}, "cannot be read .* without object arrays"),
], ids=range(5))
def test_files_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_arrays(of_file(tmp_path, **arrays), [FACTS])


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    config = of_file(tmp_path, test_inputs=ROWS, train_inputs=ROWS)
    path = Path(str(config.path))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"data\.path: .*data\.npz: expected an \.npz file of numbers"):
        load_arrays(config, [FACTS])
    path.unlink()
    with pytest.raises(DataError, match=r"data\.path: .*data\.npz: expected an \.npz file, found none"):
        load_arrays(config, [FACTS])
    with pytest.raises(ConfigError, match=r"data\.path: expected an \.npz file of arrays"):
        DataConfig(name="arrays")


@pytest.mark.parametrize(("body", "message"), [
    ("return 3", "expected a dict with .* found int"),
    ("return {'test': ROWS}", 'expected a dict with "test" and'),
    ("return {'test': ROWS, 'training': ROWS}", r"found \['test', 'training'\]"),
    ("raise SystemExit(2)", "it failed: SystemExit: 2"),
    ("return ROWS['a']", "it failed: IndexError"),
], ids=range(5))
def test_factories_that_do_not_fit(tmp_path: Path, monkeypatch: Any, body: str, message: str) -> None:
    name = f"own_data_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(f"import numpy\nROWS = numpy.ones((4, 3))\ndef load():\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=message):
        load_arrays(DataConfig(factory=f"{name}:load"), [FACTS])
    sys.modules.pop(name, None)
