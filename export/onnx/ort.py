"""ONNX -> ONNX Runtime's own format (.ort), for the reduced builds that phones carry, by ONNX Runtime's converter.

The converter runs the graph optimizations once, here, instead of on every start on the device, and lists the
operators and types that a reduced build must have (`build.py --include_ops_by_config`).

The converter (ONNX Runtime 1.32) writes a table of type constraints in the order of a hash that is seeded with an
address. So it runs without address randomization, where Linux allows that: the same file gives the same bytes on one
system. Elsewhere that table's order, and nothing else, may differ.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgeship.core.errors import ExportError

CONVERTER = "onnxruntime.tools.convert_onnx_models_to_ort"
# "arm" leaves out the optimizations that only x86 has (blocked layouts); such a file runs on both.
OPTIONS = ("--optimization_style", "Fixed", "--target_platform", "arm", "--enable_type_reduction")
CONVERTER_SECONDS = 600
# personality(2): ADDR_NO_RANDOMIZE holds for the program that this process turns into.
WITHOUT_RANDOM_ADDRESSES = """
import contextlib, ctypes, os, sys
with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(None).personality(0x0040000)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@dataclass(frozen=True, kw_only=True)
class OrtFile:
    """The model, and the text of its operators-and-types file."""

    content: bytes
    operators_config: str


def _environment() -> dict[str, str]:
    """Return no more than the converter needs: it writes in the order of addresses, which the environment moves."""
    kept = ["LD_LIBRARY_PATH", "SYSTEMROOT"]  # where libraries are; Windows starts no process without its own
    package = find_spec("onnxruntime")
    if package is not None and not Path(str(package.origin)).is_relative_to(sys.prefix):
        kept.append("PYTHONPATH")
    return {"PYTHONHASHSEED": "0", **{name: os.environ[name] for name in kept if name in os.environ}}


def convert_ort(onnx: bytes) -> OrtFile:
    """Convert a file made by `convert_onnx`; the same bytes give the same bytes, on one system.

    Raises:
        ExportError: the converter refused the file.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-") as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(onnx)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", WITHOUT_RANDOM_ADDRESSES, "-P", "-m", CONVERTER, str(folder), *OPTIONS],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=CONVERTER_SECONDS, check=False, env=_environment(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExportError(f"the converter to .ort did not finish: {error}") from error
        model, config = folder / "model.ort", next(folder.glob("*.config"), None)
        if done.returncode or not model.exists() or config is None:
            words = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
            raise ExportError(f"the converter to .ort refused the file: {words[-1]}")
        # Its comments name the temporary folder, which is another one each time.
        lines = [line for line in config.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return OrtFile(content=model.read_bytes(), operators_config="\n".join(lines) + "\n")
