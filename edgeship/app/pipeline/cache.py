"""Which stages need not run again: each is remembered by the hash of what it read and wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgeship.app.pipeline.stage import Stage
from edgeship.core.files import sha256_of_file, sha256_of_json, write_json
from edgeship.core.progress import say

FOLDER = ".stages"


class StageCache:
    """The record of finished stages in an output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []

    def run(self, stage: Stage) -> None:
        """Do the work of a stage, unless it has read the same and its files are still what it wrote."""
        if self.is_done(stage):
            say(f"{stage.name}: unchanged, not run again")
            return
        if stage.with_keras:
            import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back
        scratch = self.scratch(stage)
        stage.do(scratch)
        files = {str(path.name): sha256_of_file(path) for path in stage.writes}
        write_json(self._record(stage), {"key": sha256_of_json(stage.read), "files": files})
        if scratch.is_dir():
            shutil.rmtree(scratch)
        self.ran.append(stage.name)

    def scratch(self, stage: Stage) -> Path:
        """Return the folder for the checkpoints of a stage that reads this."""
        return self.folder / FOLDER / f"{stage.name}-{sha256_of_json(stage.read)[:16]}"

    def is_done(self, stage: Stage) -> bool:
        """Return whether the stage has read the same, and its files are still what it wrote."""
        try:
            known = json.loads(self._record(stage).read_text())
        except (OSError, json.JSONDecodeError):
            return False
        if not isinstance(known, dict) or known.get("key") != sha256_of_json(stage.read):
            return False
        files = known.get("files", {})
        return all(path.is_file() and files.get(path.name) == sha256_of_file(path) for path in stage.writes)

    def _record(self, stage: Stage) -> Path:
        return self.folder / FOLDER / f"{stage.name}.json"
