"""Weights from other people's files, as named arrays: read as data, whatever the file would like to run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeship.core.errors import ModelError
from edgeship.model.checkpoint_keras import read_h5, read_keras
from edgeship.model.checkpoint_safetensors import read_safetensors
from edgeship.model.checkpoint_tensors import Checkpoint
from edgeship.model.checkpoint_torch import read_torch

READERS: dict[str, Callable[[Path], Checkpoint]] = {
    ".safetensors": read_safetensors,
    ".pth": read_torch,
    ".pt": read_torch,
    ".bin": read_torch,
    ".h5": read_h5,
    ".keras": read_keras,
}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of weights by its suffix; no code from the file is run.

    Raises:
        ModelError: no such file, an unknown suffix, damaged or cut off, more in it than weights, a number type
            that float32 cannot hold.
    """
    if path.suffix not in READERS:
        raise ModelError(f"model.weights: {path}: expected one of {', '.join(READERS)}, found {path.suffix!r}")
    if not path.is_file():
        raise ModelError(f"model.weights: {path}: there is no such file; correct the path or fetch the checkpoint")
    return READERS[path.suffix](path)
