from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgeship.app.cli import main as cli
from edgeship.app.pipeline import pipeline

README = (Path(__file__).parents[3] / "README.md").read_text()
COMMANDS = ("run", "train", "quantize", "export", "validate", "inspect", "setup", "doctor")


def test_help_imports_no_tensorflow():
    code = (
        "import sys; from edgeship.app.cli.main import main\n"
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


class Unlucky:
    """A pipeline whose run raises something."""

    def __init__(self, error):
        self.error = error

    def run(self):
        raise self.error


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(("error", "code", "message"), [
    (IndexError("index out of range"), 70, "IndexError: index out of range: this is a fault of edgeship; edgeship --"),
    (AssertionError(), 70, "error: AssertionError: this is a fault of edgeship"),
    (OSError(28, "No space left on device", "x.npz"), 2, "error: x.npz: no space left; free some, and the same"),
    (RuntimeError("Can't write data (file write failed: errno = 28, error message = 'No space ...')"), 2,
     "error: the disk of --out, or that of .*: no space left"),
    (caused(ValueError("could not save"), OSError(28, "No space left on device")), 2, "no space left; free some"),
    (PermissionError(13, "Permission denied", "/x"), 2, "error: /x: Permission denied"),
    (MemoryError("Unable to allocate 7 TiB"), 2, "the memory is not enough .MemoryError: Unable to allocate 7 TiB.;"),
])
def test_whatever_is_raised_is_one_sentence_and_never_a_gate(error, code, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli, "_pipeline", lambda options: Unlucky(error))
    assert cli.main(["run", "--out", str(tmp_path)]) == code
    said = capsys.readouterr().err
    assert re.search(message, said) and len(said.splitlines()) == 1
    with pytest.raises(type(error)):
        cli.main(["--debug", "run", "--out", str(tmp_path)])


@pytest.mark.parametrize("arguments", [
    ["run"], ["train", "none.toml"], ["validate", "none"], ["compare", "a.onnx", "b.onnx"],
    ["baseline", "check", "none", "a.onnx"],
])
def test_a_folder_for_results_that_cannot_be_is_refused_first(arguments, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("kept")
    for out in (file, file / "below" / "it"):
        assert cli.main([*arguments, "--out", str(out)]) == 2
        assert f"--out: {out}: expected a folder, found the file {file}" in capsys.readouterr().err
    assert file.read_text() == "kept"


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
