"""Baselines on disk: a real session saved, added to, replaced, and everything that can be wrong with a folder."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.errors import InputError, StorageError
from edgeship.validate.compare import baseline_folder
from edgeship.validate.compare.baseline import BASELINE_FILE, Baseline, Session, StoredLaunch, artifact_of
from edgeship.validate.compare.baseline_folder import list_baselines, load_baseline, save_baseline
from edgeship.validate.compare.environment import fingerprint, state
from edgeship.validate.compare.stored import log_times
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.launches import Bench, Contender, launch
from tests.support.baseline_records import PROTOCOL, baseline, recording, session


@pytest.fixture
def tflite(bundle_folder: Path) -> Path:
    return bundle_folder / "int8.tflite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "baselines" / "main"


@pytest.fixture
def stored(tflite: Path, folder: Path) -> Path:
    """A folder with a baseline of two sessions."""
    save(folder, tflite, baseline(tflite, recording(session(), session((0.1,) * 6))))
    return folder


def save(folder: Path, path: Path, record: Baseline | None = None, **options: Any) -> Baseline:
    record = record or baseline(path, recording())
    return save_baseline(folder, record, {record.artifacts[0].name: path}, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_session_that_was_measured_here_is_kept_with_its_artifact(tflite: Path, folder: Path) -> None:
    target, inputs = Target(), folder.parent.parent / "in.npy"
    np.save(inputs, np.zeros((1, 8, 8, 1), np.int8))
    bench = Bench(target=target, runtime="litert", threads=1, cpus=(), timeout_seconds=60)
    contender = {"baseline": Contender(label="baseline", path=str(tflite), inputs=(str(inputs),))}
    before = state(target)
    found = [launch(contender, bench, rounds=3, inferences=2, order=random.Random(0)) for _ in range(2)]
    own = Session(
        created_at="2026-08-01T10:00:00+00:00", state_before=before, state_after=state(target, since=before),
        launches=tuple(
            StoredLaunch(core=item.core, canary_ns=item.canary_ns, side=item.sides["baseline"]) for item in found
        ),
    )
    record = baseline(tflite, recording(
        own, fingerprint=fingerprint(target, runtime="litert", threads=1, pinned=False),
        protocol=dataclasses.replace(PROTOCOL, cpus=(), rounds=3, inferences_per_round=2),
    ))
    save(folder, tflite, record)
    assert load_baseline(folder) == record
    assert (folder / "int8.tflite").read_bytes() == tflite.read_bytes()
    assert [len(item.side.cpu_ns) for item in own.launches] == [3, 3] and len(log_times(own, "cpu_time")) == 2
    assert sorted(path.name for path in folder.parent.iterdir()) == ["main"]
    (listed,) = list_baselines(folder.parent)
    assert listed.name == "main" and listed.baseline == record and listed.problem is None


def test_a_session_is_added_and_the_artifact_not_touched(tflite: Path, stored: Path) -> None:
    before = (stored / "int8.tflite").stat()
    elsewhere = tflite.rename(tflite.with_name("renamed.tflite"))
    merged = save(stored, elsewhere, baseline(elsewhere, recording(session((0.3,) * 6))))
    assert load_baseline(stored) == merged and len(merged.recordings[0].sessions) == 3
    assert (stored / "int8.tflite").stat() == before and set(contents(stored)) == {"int8.tflite", BASELINE_FILE}


def test_another_artifact_needs_to_be_told_to_replace(tflite: Path, stored: Path) -> None:
    kept = contents(stored)
    onnx = tflite.with_name("int8.onnx")
    with pytest.raises(InputError, match=r"expected a baseline of int8\.onnx \(\w{12}\), found one of int8\.tflite"):
        save(stored, onnx)
    assert contents(stored) == kept
    record = save(stored, onnx, replace=True)
    assert load_baseline(stored) == record and set(contents(stored)) == {"int8.onnx", BASELINE_FILE}
    assert [path.name for path in stored.parent.iterdir()] == ["main"]


def test_the_artifacts_of_a_bundle_are_one_baseline(bundle_folder: Path, folder: Path) -> None:
    paths = {f"{name} of the bundle": bundle_folder / name for name in ("int8.tflite", "int8.onnx")}
    record = dataclasses.replace(
        baseline(bundle_folder / "int8.tflite", recording()),
        artifacts=tuple(artifact_of(path, name=name) for name, path in paths.items()),
    )
    save_baseline(folder, record, paths)
    assert load_baseline(folder) == record and len(contents(folder)) == 3
    with pytest.raises(InputError, match=r"found one of int8\.tflite of the bundle"):
        save(folder, bundle_folder / "int8.onnx")


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_of_something_else_is_left_alone(tflite: Path, folder: Path, replace: bool) -> None:
    folder.mkdir(parents=True)
    save(folder, tflite)  # an empty one is fine
    (folder / "notes.txt").write_text("mine")
    kept = contents(folder)
    if replace:
        with pytest.raises(InputError, match=r"found notes\.txt in it; choose another name"):
            save(folder, tflite, replace=True)
    else:
        (folder / BASELINE_FILE).unlink()
        kept.pop(BASELINE_FILE)
        with pytest.raises(InputError, match=r"expected a baseline or an empty folder, found notes\.txt"):
            save(folder, tflite)
    assert contents(folder) == kept


def test_an_artifact_that_changes_while_it_is_saved_leaves_nothing(tflite: Path, folder: Path) -> None:
    record = baseline(tflite, recording())
    tflite.write_bytes(tflite.read_bytes() + b"\0")
    with pytest.raises(InputError, match="changed while it was measured: expected SHA-256"):
        save(folder, tflite, record)
    assert list(folder.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tflite: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="could not be written"):
        save(tmp_path / "file" / "main", tflite)
    with pytest.raises(InputError, match="expected a folder, or nothing yet"):
        save(tmp_path / "file", tflite)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_replacement_that_fails_puts_the_old_one_back(
    tflite: Path, stored: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, rename = contents(stored), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
        save(stored, tflite.with_name("int8.onnx"), replace=True)
    assert contents(stored) == kept and [path.name for path in stored.parent.iterdir()] == ["main"]


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def to_link(path: Path) -> None:
    shutil.copy(path, path.parent.parent / "outside.tflite")
    path.unlink()
    path.symlink_to(path.parent.parent / "outside.tflite")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # a reader would wait for ever


@pytest.mark.parametrize(("harm", "message"), [
    (alter, r"not the artifact that was saved: expected SHA-256 \w{64} \([\d,]+ bytes\), found \w{64}"),
    (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), r"found 42 bytes; .*`git lfs pull`"),
    (Path.unlink, "expected the artifact as a plain file, found none"),
    (to_link, "expected the artifact as a plain file, found none"),
    (to_pipe, "expected the artifact as a plain file, found none"),
])
def test_an_artifact_that_is_not_the_one_saved(stored: Path, harm: Any, message: str) -> None:
    harm(stored / "int8.tflite")
    with pytest.raises(InputError, match=message):
        load_baseline(stored)
    (listed,) = list_baselines(stored.parent)
    assert listed.baseline is None and listed.problem is not None and "int8.tflite" in listed.problem


def test_no_record_or_no_text(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline_folder, "MAX_RECORD_BYTES", 10)
    with pytest.raises(InputError, match="expected at most 10 bytes"):
        load_baseline(stored)
    monkeypatch.undo()
    (stored / BASELINE_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="none that can be read"):
        load_baseline(stored)
    (stored / BASELINE_FILE).unlink()
    with pytest.raises(InputError, match="name the folder that `edgeship baseline save` wrote"):
        load_baseline(stored)


def test_the_list_is_by_name_and_skips_what_is_no_baseline(tflite: Path, stored: Path) -> None:
    save(stored.with_name("before"), tflite)
    stored.with_name("empty").mkdir()
    shutil.copytree(stored, stored.with_name(".main.1234.tmp"))  # of a process that was killed
    (stored.parent / "README.md").write_text("ours")
    assert [item.name for item in list_baselines(stored.parent)] == ["before", "main"]
    with pytest.raises(InputError, match="expected a folder of baselines"):
        list_baselines(stored.parent / "none")
