"""A stage of the pipeline that several workers come to: all look first whether it is done, the chief alone writes."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeship.app.pipeline.cache import StageCache
from edgeship.app.pipeline.stage import Stage
from edgeship.core.errors import ConfigError
from edgeship.core.files import sha256_of_json, write_atomically
from edgeship.model.distribute import Workers, all_sum

SEE_SECONDS = 20.0  # a network file system shows a new file within its attribute cache's time
LARGEST_EXACT = 2**53  # integers up to here are float64 numbers


class SharedStages:
    """Runs stages where every worker calls `run` for the same ones in the same order."""

    def __init__(self, cache: StageCache, workers: Workers) -> None:
        self.cache, self.workers = cache, workers
        self._alone = False  # is the chief at work while the others wait?

    def run(self, stage: Stage) -> None:
        """Do the work of a stage as `StageCache.run` does: all workers together, or the chief alone.

        Only the chief's work may write the stage's files; the others find them there afterwards.

        Raises:
            ConfigError: the workers do not see one folder, or do not read the same configuration and data.
            RuntimeFailure: a worker is lost.
        """
        if self._alone:
            self.cache.run(stage)
            return
        with self.workers.scope():
            self._check_folder()
            self._check_agreement(stage)
        done = self.cache.is_done(stage)
        self.workers.wait()  # nobody writes before all have looked
        if self.workers.is_chief:
            with self._working_alone(not stage.together):
                self.cache.run(stage)
        elif stage.together and not done:
            stage.do(self.cache.scratch(stage))
        self.workers.wait()

    @contextlib.contextmanager
    def _working_alone(self, alone: bool) -> Iterator[None]:
        self._alone = alone
        try:
            yield
        finally:
            self._alone = False

    def _check_folder(self) -> None:
        chief = self.workers.is_chief
        mark = int(all_sum(np.array([float(secrets.randbelow(LARGEST_EXACT) if chief else 0)]))[0])
        path = self.cache.folder / f".seen-{mark:x}"
        if chief:
            write_atomically(path, b"")
        self.workers.wait()
        seen = int(all_sum(np.array([float(_appears(path))]))[0])
        if chief:
            path.unlink()
        if seen < self.workers.count:
            raise ConfigError(
                f"--out: {self.cache.folder}: expected a folder that all {self.workers.count} workers see, since the "
                f"chief writes what the others read; {self.workers.count - seen} do not see what it wrote; choose a "
                "shared one"
            )

    def _check_agreement(self, stage: Stage) -> None:
        own = float(int(sha256_of_json(stage.read), 16) % LARGEST_EXACT // self.workers.count)
        total = all_sum(np.array([own]))[0]
        if all_sum(np.array([float(total != own * self.workers.count)]))[0]:
            raise ConfigError(
                f"{stage.name}: the workers do not read the same configuration, data and version of edgeship; give "
                "each the same, down to the files' bytes"
            )


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + SEE_SECONDS
    while not path.is_file():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
