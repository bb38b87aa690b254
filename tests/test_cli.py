from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeship import cli, pipeline

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = ("run", "train", "quantize", "export", "validate", "inspect", "setup", "doctor")


def test_help_imports_no_tensorflow():
    code = (
        "import sys; from edgeship.cli import main\n"
        "try: main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("False\n")
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command):
    assert f"`edgeship {command}" in README


def test_a_wrong_configuration_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "wrong.toml").write_text("[data]\nnme = 'digits'\n")
    assert cli.main(["run", str(tmp_path / "wrong.toml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "unknown key in [data]: 'nme'" in lines[0]


def test_a_file_that_is_no_artifact_is_exit_code_2(tmp_path, capsys):
    (tmp_path / "x.tflite").write_bytes(b"not a model at all")
    assert cli.main(["inspect", str(tmp_path / "x.tflite")]) == 2
    assert "x.tflite" in capsys.readouterr().err


def test_an_interrupted_run_says_that_it_continues(tmp_path, monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.Pipeline, "run", interrupt)
    assert cli.main(["run", "--out", str(tmp_path)]) == 130
    assert "the same command continues from there" in capsys.readouterr().err


def test_an_empty_calibration_split_ends_with_its_key(tmp_path, capsys):
    (tmp_path / "empty.toml").write_text(
        "[data]\nimage_size = 16\ntrain_images = 64\ncalibration_images = 0\n"
        "[model]\nstage_sizes = [1]\nwidth = 4\n[train]\nepochs = 1\n"
    )
    assert cli.main(["quantize", str(tmp_path / "empty.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "data.calibration_images" in capsys.readouterr().err
