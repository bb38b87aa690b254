"""What the configuration says of the float model and its training, as part of the key of what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.core.config import Config
from edgeship.core.config_file import config_to_dict
from edgeship.core.files import sha256_of_file, sha256_of_json


def model_key(config: Config) -> dict[str, Any]:
    """The sections [model] and [train] as JSON values, files by their content and not by their place."""
    model, train = config_to_dict(config.model), config_to_dict(config.train)
    for key in ("path", "weights"):
        model[key] = _sha256_if_there(getattr(config.model, key))
    train.pop("worker_timeout_seconds")  # changes no result
    return {"model": model, "train": train, "leaves": "the lowered network"}


def _sha256_if_there(path: str | None) -> str | None:
    """Of a file, or of all files in a folder; None also for what is missing: the stage itself says so."""
    if path is None or not Path(path).exists():
        return None
    if Path(path).is_file():
        return sha256_of_file(Path(path))
    files = sorted(item for item in Path(path).rglob("*") if item.is_file())
    return sha256_of_json({str(item.relative_to(path)): sha256_of_file(item) for item in files})
