"""The environment of child processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import edgeship
from edgeship.core.child import IMPORT_ROOT, child_environment


def test_a_child_finds_the_same_edgeship_and_the_parents_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = child_environment(ONE_MORE="1")
    path = found["PYTHONPATH"].split(os.pathsep)
    assert path[0] == str(IMPORT_ROOT) == str(Path(edgeship.__file__).resolve().parents[1])
    assert str(tmp_path) in path and len(path) == len(set(path))
    assert found["ONE_MORE"] == "1" and found["PATH"] == os.environ["PATH"]
