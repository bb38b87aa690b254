"""Where edgeship keeps what was set up once for all projects: root file systems, browser modules."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$EDGESHIP_CACHE, else $XDG_CACHE_HOME/edgeship, else ~/.cache/edgeship. It need not exist."""
    if own := os.environ.get("EDGESHIP_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeship"
