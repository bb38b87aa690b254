"""What ONNX Runtime itself says of an .onnx file on phones: how NNAPI and Core ML would partition it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgeship.core.errors import ArtifactError

CHECKER = "onnxruntime.tools.check_onnx_model_mobile_usability"
CHECKER_SECONDS = 300
PREFIXES = ("INFO:", "WARNING:", "ERROR:")


def mobile_usability(path: Path) -> str:
    """The checker's findings as text. It runs in a child process, since the file is not ours to trust.

    Raises:
        ArtifactError: not an .onnx file, or the checker could not read it.
    """
    if path.suffix.lower() != ".onnx":
        raise ArtifactError(f"{path}: --mobile asks ONNX Runtime, which takes .onnx files; found {path.suffix!r}")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", CHECKER, str(path)], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=CHECKER_SECONDS, check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArtifactError(f"{path}: ONNX Runtime's check for phones did not finish ({error})") from error
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode:
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise ArtifactError(f"{path}: ONNX Runtime's check for phones failed: {last}")
    return "\n".join(["ONNX Runtime's check for phones:", *(f"    {_plain(line)}" for line in lines)])


def _plain(line: str) -> str:
    """Without the logger's prefix: "INFO:module:text" -> "text"."""
    return line.split(":", 2)[-1].strip() if line.startswith(PREFIXES) else line
