"""A folder for results that the user names: it is refused before hours are spent, not after them."""

from __future__ import annotations

import os
from pathlib import Path

from edgeship.core.errors import ConfigError


def check_out(folder: Path | None, *, option: str = "--out") -> None:
    """Refuse a folder for results that cannot become a folder, before hours are spent. Raises ConfigError."""
    if folder is None:
        return  # each command has its default
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not there.is_dir():
        raise ConfigError(f"{option}: {folder}: expected a folder, found the file {there}; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{option}: {folder}: nothing may be written in {there}; choose another folder")
