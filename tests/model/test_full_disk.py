"""A disk that is full: one sentence, and the same command continues where there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.app.cli.main import main
from edgeship.core.config import DataConfig
from edgeship.core.errors import StorageError
from edgeship.core.files import write_atomically
from edgeship.data import load_test_split, preprocessing_of
from edgeship.model import train
from tests.support.full_disk import fill, make_room, small_disk, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

DATA = DataConfig(image_size=8, test_images=128)
PER_EPOCH = 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Room for some checkpoints of the network below."""
    with small_disk(tmp_path, size_bytes=2**20) as disk:
        yield disk


def fit(folder: Path | None, *phases: train.Phase) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, activation="softmax"),
    ])
    train.fit(
        model, load_test_split(DATA), spec=preprocessing_of(DATA), label="training", checkpoints=folder,
        schedule=train.Schedule(
            epochs=3, batch_size=32, learning_rate=1e-2, phases=phases or (train.Phase(first_step=0),)
        ),
    )
    return model


def test_a_training_continues_from_the_state_before(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = disk / "state"
    full = train.Phase(first_step=PER_EPOCH + 1, begin=lambda: fill(disk))
    with pytest.raises(StorageError, match=r"state: the state of the training could not be written \(no space le"):
        fit(folder, train.Phase(first_step=0), full)
    left = {path.name.partition(".")[0] for path in folder.iterdir()}
    assert left <= {"checkpoint", "ckpt-1"}, "something half written is left"
    make_room(disk)
    resumed = fit(folder)
    assert "training: continuing at step 4" in capsys.readouterr().err
    for one, other in zip(resumed.get_weights(), fit(disk / "another").get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_file_that_finds_no_room_leaves_the_old_one(disk: Path) -> None:
    path = disk / "file"
    write_atomically(path, b"old")
    fill(disk)
    with pytest.raises(StorageError, match=r"file: could not be written \(No space left on device\); 100,000 b"):
        write_atomically(path, bytes(100_000))
    assert path.read_bytes() == b"old"
    assert {entry.name for entry in disk.iterdir()} == {"file", "filler"}


def test_the_same_command_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        "[data]\nimage_size = 8\ntrain_images = 64\ncalibration_images = 16\ntest_images = 64\n"
        "[model]\nstage_sizes = [1]\nwidth = 4\n[train]\nepochs = 1\nwarmup_epochs = 0\nvalidation_images = 16\n"
    )
    command = ["train", str(config), "--out", str(disk / "out")]
    fill(disk)
    assert main(command) == 2
    said = capfd.readouterr().err
    assert "error: " in said and "Traceback" not in said
    assert "no space left" in said or "No space left on device" in said
    make_room(disk)
    assert main(command) == 0
    assert (disk / "out" / "float.keras").is_file()
