"""Which stages need not run again: each is remembered by the hash of what it read and wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeship.core.files import sha256_of_file, sha256_of_json, write_json
from edgeship.core.progress import say

FOLDER = ".stages"


class StageCache:
    """The record of finished stages in an output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []

    def run(
        self, stage: str, *, read: Any, writes: Sequence[Path], work: Callable[[Path], None]
    ) -> None:
        """Do `work`, unless the stage has read the same and its files are still what it wrote.

        Args:
            read: everything the stage's result depends on, as JSON values.
            writes: the files the stage leaves.
            work: called with a folder for checkpoints that belongs to exactly this `read`; it is removed when
                the work is done.
        """
        if self.is_done(stage, read=read, writes=writes):
            say(f"{stage}: unchanged, not run again")
            return
        scratch = self.scratch(stage, read=read)
        work(scratch)
        files = {str(path.name): sha256_of_file(path) for path in writes}
        write_json(self._record(stage), {"key": sha256_of_json(read), "files": files})
        if scratch.is_dir():
            shutil.rmtree(scratch)
        self.ran.append(stage)

    def scratch(self, stage: str, *, read: Any) -> Path:
        """The folder for the checkpoints of a stage that has read this."""
        return self.folder / FOLDER / f"{stage}-{sha256_of_json(read)[:16]}"

    def is_done(self, stage: str, *, read: Any, writes: Sequence[Path]) -> bool:
        """Has the stage read the same, and are its files still what it wrote?"""
        try:
            known = json.loads(self._record(stage).read_text())
        except (OSError, json.JSONDecodeError):
            return False
        if not isinstance(known, dict) or known.get("key") != sha256_of_json(read):
            return False
        files = known.get("files", {})
        return all(path.is_file() and files.get(path.name) == sha256_of_file(path) for path in writes)

    def _record(self, stage: str) -> Path:
        return self.folder / FOLDER / f"{stage}.json"
