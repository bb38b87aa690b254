"""The runner as the one file that goes to a device."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import zipapp
from pathlib import Path

PACKAGE = "edgeship_runner"  # the package's name in the file: a device has no edgeship
FILE = "runner.pyz"


@functools.cache
def packed_runner() -> Path:
    """Return the runner as an archive that Python runs; it lies in a temporary folder as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix="edgeship-runner-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pack(folder)


def pack(folder: Path) -> Path:
    """Write the archive to `folder`; its path."""
    source = folder / "source"
    shutil.copytree(Path(__file__).parent, source / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "pack.py"))
    zipapp.create_archive(source, folder / FILE, main=f"{PACKAGE}.__main__:main")
    shutil.rmtree(source)
    return folder / FILE
