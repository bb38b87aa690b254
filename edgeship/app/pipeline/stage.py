"""Stage: one step of the pipeline as a row, which the cache and several workers know how to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.core import progress


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage reads, which files it leaves, and what it does."""

    name: str
    about: str  # what it is going to do, for the line in a log when it begins
    read: dict[str, Any]  # everything that the result depends on, as JSON values
    writes: tuple[Path, ...] = ()
    # Called with a folder for checkpoints that belongs to exactly this `read`; it is removed when the work is done.
    work: Callable[[Path], None]
    together: bool = False  # of several workers, all do the work; otherwise the chief alone does
    with_keras: bool = True  # the work imports TensorFlow

    def do(self, scratch: Path) -> None:
        """Do the work, with a line when it begins and one with what it made when it ends."""
        with progress.stage(self.name, self.about):
            self.work(scratch)
            if files := ", ".join(path.name for path in self.writes):
                progress.fact(f"in {files}")
