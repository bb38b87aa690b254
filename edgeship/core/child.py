"""The commands and the environment of our own child processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

IMPORT_ROOT = Path(__file__).resolve().parents[2]  # the folder that has the package edgeship in it


def script_command(script: str, *arguments: str) -> list[str]:
    """Return the command that runs a script which imports nothing of edgeship, whatever the environment says."""
    return [sys.executable, "-I", script, *arguments]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of edgeship, in the environment below."""
    return [sys.executable, "-m", module, *arguments]


def child_environment(**more: str) -> dict[str, str]:
    """The parent's environment, with the same edgeship first on the path, and the parent's own path after it.

    The modules beside a configuration file are on the parent's path.

    Args:
        more: further variables.
    """
    path = [str(IMPORT_ROOT), *(str(Path(entry).resolve()) for entry in sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)), **more}
