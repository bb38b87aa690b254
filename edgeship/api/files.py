"""Single files from Python: two compared for latency, one described."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from edgeship.api.options import section, several
from edgeship.api.progress import Progress, showing
from edgeship.api.text import as_html, as_text
from edgeship.core.comparison import Check
from edgeship.core.comparison import Comparison as Compared
from edgeship.core.config import ValidateConfig
from edgeship.inspect import inspection
from edgeship.inspect.inspection import Inspection
from edgeship.validate.compare.arms import pair_arms
from edgeship.validate.compare.forms.terminal import comparison_to_terminal
from edgeship.validate.compare.report import write_comparison
from edgeship.validate.compare.run import compare
from edgeship.validate.compare.settings import Settings

WIDTH = 140  # characters of the printed table


class Comparison:
    """What was measured of two files, and the verdict: "pass", "improved", "regression", "inconclusive", "refused"."""

    def __init__(self, compared: Compared) -> None:
        self.compared = compared

    @property
    def verdict(self) -> str:
        """The verdict over all checks."""
        return self.compared.verdict

    @property
    def checks(self) -> tuple[Check, ...]:
        """One per artifact, runtime and target, with the ratio of the times and its bounds."""
        return self.compared.checks

    def save(self, folder: str | Path) -> Path:
        """Write comparison.json, its Markdown and the forms for CI into a folder. Raises StorageError."""
        where = Path(folder)
        write_comparison(self.compared, where)
        return where

    def __str__(self) -> str:
        """Return the summary of the command line as text."""
        return as_text(comparison_to_terminal(self.compared, width=WIDTH), width=WIDTH) + f"\nverdict: {self.verdict}"

    def __repr__(self) -> str:
        """Return the summary as text: what an interactive Python shows."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the summary as HTML: what a notebook shows."""
        verdict = Text(f"verdict: {self.verdict}")
        return as_html(Group(comparison_to_terminal(self.compared, width=WIDTH), verdict), width=WIDTH)


def compare_files(
    baseline: str | Path | bytes,
    candidate: str | Path | bytes,
    *,
    on: Sequence[str] = ("cpu",),
    runtimes: Sequence[str] = (),
    progress: Progress = False,
    **options: Any,
) -> Comparison:
    """Compare two .tflite or .onnx files (or two bundles) for latency, after exact checks of what they compute with.

    Args:
        baseline: a path, or the bytes of a file.
        candidate: the same, of one format with the baseline.
        on: where to run: "cpu", "ssh://user@host", "adb", "arm64".
        runtimes: only these; none: the one that users run.
        options: of `Settings` (tolerance, limit, max_seconds, threads, pin, cpus, exact, timing, seed).

    Raises:
        ArtifactError: a file that is broken.
        ConfigError: files that cannot be compared, an option out of range.
    """
    settings = section(Settings, "compare", options)
    with showing(progress), tempfile.TemporaryDirectory(prefix="edgeship-files-") as folder:
        first, second = (
            _path(item, Path(folder) / name) for item, name in ((baseline, "baseline"), (candidate, "candidate"))
        )
        found = compare(
            pair_arms(first, second), settings, ValidateConfig(targets=several(on)), baseline=first.name,
            candidate=second.name, runtimes=several(runtimes),
        )
    return Comparison(found)


def inspect_file(file: str | Path | bytes) -> Inspection:
    """Describe a .tflite or .onnx file: operations, types, scales, share of integers, traps.

    Args:
        file: a path, or the bytes of a file.

    Raises:
        ArtifactError: the file is missing, broken or not what its suffix says.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-files-") as folder:
        return inspection.inspect_file(_path(file, Path(folder) / "model"))


def _path(file: str | Path | bytes, place: Path) -> Path:
    """Return the path of a file; bytes are written where a temporary folder has room for them."""
    if not isinstance(file, bytes | bytearray | memoryview):
        return Path(file)
    file = bytes(file)
    is_tflite = file[4:8] == b"TFL3"  # the identifier of the format (tensorflow/lite/schema/schema.fbs)
    path = place.with_suffix(".tflite" if is_tflite else ".onnx")
    path.write_bytes(file)
    return path
