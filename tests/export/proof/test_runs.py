"""Files run in a child process: their answers, and one sentence for a file that its runtime refuses or crashes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from edgeship.core.child import IMPORT_ROOT
from edgeship.core.errors import ExportError, StorageError
from edgeship.export.proof import runs
from edgeship.export.proof.runs import Job, run_files

ROOT = IMPORT_ROOT
IMAGES = (np.zeros((2, 16, 16, 1), np.float32),)


def job(folder: Path, name: str, **options: object) -> Job:
    return Job(
        name=name, content=(folder / name).read_bytes(), format=name.rsplit(".", 1)[1], inputs=IMAGES,
        **options,  # type: ignore[arg-type]
    )


def test_every_format_answers_and_tells_single_tensors(tiny_bundle: Path) -> None:
    names = ("float32.tflite", "float32.onnx", "float32.ort")
    answers = run_files([job(tiny_bundle, name) for name in names])
    for (outputs,) in answers:
        assert outputs.shape == (2, 10)
        np.testing.assert_allclose(outputs, answers[0][0], atol=1e-5)  # probabilities, in float32
    kept = run_files([job(tiny_bundle, name, tensors=("probabilities", "stem_conv")) for name in names[:2]])
    for outputs, stem in kept:
        np.testing.assert_allclose(outputs, answers[0][0], atol=1e-5)
        assert stem.size == kept[0][1].size


@pytest.mark.parametrize("name", ["float32.tflite", "float32.onnx"])
def test_a_file_that_its_runtime_refuses_is_named(tiny_bundle: Path, name: str) -> None:
    right = job(tiny_bundle, name)
    broken = Job(name="broken", content=right.content[: len(right.content) // 3], format=right.format, inputs=IMAGES)
    with pytest.raises(ExportError, match=r"^broken: its runtime (refuses the file|crashed)"):
        run_files([right, broken])


def test_a_crash_ends_the_child_and_names_the_file(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real_workers: None
) -> None:
    """numpy is the first thing that the child imports: one that kills the process stands for a runtime that crashes."""
    (tmp_path / "numpy.py").write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGSEGV)})\n")
    monkeypatch.setattr(runs.child, "child_environment", lambda: {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"})
    with pytest.raises(ExportError, match=r"^float32\.onnx: its runtime crashed \(SIGSEGV\)"):
        run_files([job(tiny_bundle, "float32.onnx")])


def test_no_room_for_the_files_is_one_sentence(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with pytest.raises(StorageError, match=r"the exported files could not be tried .* set TMPDIR to another folder"):
        run_files([job(tiny_bundle, "float32.onnx")])
