"""Which epoch was best on the validation slice, and the weights it had; survives an interruption."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.errors import ModelError
from edgeship.core.files import write_atomically, write_json
from edgeship.model.score import Score

WEIGHTS_FILE, SCORES_FILE = "best.npz", "scores.json"


@dataclass(frozen=True, kw_only=True)
class EpochScore(Score):
    """How well the network answered after an epoch, counted from 1."""

    epoch: int


class BestEpoch:
    """Keeps the weights of the epoch with the highest accuracy; of equal ones the lower loss, then the later epoch.

    Args:
        variables: the network's, always in the same order.
        folder: where scores and weights are kept for a call that continues; None: in memory only.
        writes: does this process write them? (Others read what the chief wrote.)
    """

    def __init__(self, variables: Sequence[Any], folder: Path | None, *, writes: bool) -> None:
        self.variables = list(variables)
        self.folder, self.writes = folder, writes
        self.scores: dict[int, Score] = {}
        self.values: list[np.ndarray] = []
        if folder is not None and (folder / SCORES_FILE).is_file():
            self._load(folder)

    @property
    def epoch(self) -> int:
        """The best epoch so far; there must be one."""
        return max(self.scores, key=lambda epoch: (self.scores[epoch].accuracy, -self.scores[epoch].loss, epoch))

    @property
    def epoch_scores(self) -> tuple[EpochScore, ...]:
        """All scores, in the order of the epochs."""
        return tuple(
            EpochScore(epoch=epoch, accuracy=score.accuracy, loss=score.loss)
            for epoch, score in sorted(self.scores.items())
        )

    def add(self, epoch: int, score: Score) -> None:
        """Take note of an epoch's score, and of the weights if it is the best."""
        self.scores[epoch] = score
        if self.epoch == epoch:
            self.values = [variable.numpy() for variable in self.variables]
            if self.writes and self.folder is not None:
                stream = io.BytesIO()
                np.savez(stream, *self.values)
                write_atomically(self.folder / WEIGHTS_FILE, stream.getvalue())
        if self.writes and self.folder is not None:
            scores = {str(key): [value.accuracy, value.loss] for key, value in self.scores.items()}
            write_json(self.folder / SCORES_FILE, scores)

    def restore(self) -> None:
        """Give the network the best epoch's weights."""
        for variable, value in zip(self.variables, self.values, strict=True):
            variable.assign(value)

    def _load(self, folder: Path) -> None:
        try:
            scores = json.loads((folder / SCORES_FILE).read_text())
            self.scores = {int(key): Score(accuracy=pair[0], loss=pair[1]) for key, pair in scores.items()}
            with np.load(folder / WEIGHTS_FILE, allow_pickle=False) as arrays:
                self.values = [arrays[name] for name in arrays.files]
            if [value.shape for value in self.values] != [tuple(variable.shape) for variable in self.variables]:
                raise ValueError("its tensors are not those of this network")
        except Exception as error:  # damaged bytes make zipfile and NumPy raise nearly anything
            raise ModelError(
                f"{folder}: expected the best epoch of an interrupted training, found files that cannot be used "
                f"({type(error).__name__}: {error}); remove the folder to train from the start"
            ) from error
