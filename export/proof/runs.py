"""What exported files answer, asked in a child process."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeship.core import child
from edgeship.core.errors import ExportError, StorageError
from edgeship.core.signals import signal_name
from edgeship.data.examples import Batch
from edgeship.export.proof.child import ERROR_FILE

# A file of the largest network here answers within a minute; this is for a runtime that hangs.
TIMEOUT_SECONDS = 3600


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One file and what it is asked.

    `inputs` has one array per input of the file, in the file's order and its own dtypes; their first axis counts the
    inferences. `tensors` are the names of the tensors that are wanted; none: the model's outputs. `optimized`: ONNX
    Runtime may replace what stands between two conversions by integer kernels (another processor's kernels would be
    wrong here).
    """

    name: str
    content: bytes
    format: str
    inputs: Batch
    optimized: bool = True
    tensors: tuple[str, ...] = ()


def run_files(jobs: Sequence[Job]) -> list[list[np.ndarray]]:
    """Every job's answers: one array `(inferences, ...)` per tensor, in the file's own dtypes.

    Raises:
        ExportError: a runtime refused a file, crashed on it or hung.
        StorageError: no room in the temporary folder.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="edgeship-run-") as folder:
            return _run(jobs, Path(folder))
    except OSError as error:
        raise StorageError(
            f"{error.filename or tempfile.gettempdir()}: the exported files could not be tried "
            f"({error.strerror or error}); free some space or set TMPDIR to another folder"
        ) from error


def _run(jobs: Sequence[Job], folder: Path) -> list[list[np.ndarray]]:
    results = folder / "results"
    results.mkdir()
    requests = []
    for place, job in enumerate(jobs):
        file, inputs = folder / f"{place}.{job.format}", folder / f"{place}.npz"
        file.write_bytes(job.content)
        np.savez(inputs, *job.inputs)
        requests.append({
            "file": str(file), "format": job.format, "inputs": str(inputs), "optimized": job.optimized,
            "tensors": list(job.tensors),
        })
    (folder / "jobs.json").write_text(json.dumps(requests), encoding="utf-8")
    command = child.module_command("edgeship.export.proof.child", str(folder / "jobs.json"), str(results))
    try:
        ended = subprocess.run(
            command, env=child.child_environment(), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=TIMEOUT_SECONDS, check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{_next(jobs, results)}: its runtime gave no answer for {TIMEOUT_SECONDS} s") from error
    if ended.returncode:
        raise ExportError(f"{_next(jobs, results)}: {_how(ended, results)}")
    found = []
    for place in range(len(jobs)):
        with np.load(results / f"{place}.npz", allow_pickle=False) as arrays:
            found.append([arrays[str(index)] for index in range(len(arrays.files))])
    return found


def _next(jobs: Sequence[Job], results: Path) -> str:
    """The job that was running: the first without a result."""
    return next((job.name for place, job in enumerate(jobs) if not (results / f"{place}.npz").exists()), jobs[-1].name)


def _how(ended: subprocess.CompletedProcess[bytes], results: Path) -> str:
    if (results / ERROR_FILE).exists():
        return f"its runtime refuses the file ({(results / ERROR_FILE).read_text(encoding='utf-8')})"
    words = ended.stderr.decode(errors="replace").strip().splitlines()
    how = f"crashed ({signal_name(-ended.returncode)})" if ended.returncode < 0 else f"ended with {ended.returncode}"
    return f"its runtime {how}" + (f"; its last words: {words[-1]}" if words else "")
