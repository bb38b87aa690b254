"""The commands and the environment of child processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import edgeship
from edgeship.core import child
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


def test_a_script_reads_nothing_of_the_environment_and_a_module_does(
    tmp_path: Path, real_workers: None
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.flags.isolated, *sys.argv[1:])")
    commands = child.script_command(str(script), "a", "b"), child.module_command("edgeship", "--version")
    said = [subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() for words in commands]
    assert said == [["1", "a", "b"], ["edgeship", edgeship.__version__]]
