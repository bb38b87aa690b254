"""TOML <-> Config: unknown keys are refused with the known ones named; nothing is guessed."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from edgeship.core.config import Config
from edgeship.core.decode import decode
from edgeship.core.errors import ConfigError


def load_config(path: Path) -> Config:
    """Read a TOML configuration. Relative `data.path`, `model.path` and `model.weights` start at the file's folder.

    Raises:
        ConfigError: no such file, not TOML, an unknown section or key, a value of the wrong type or range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such configuration file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: could not be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        config = config_from_dict(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    folder = path.resolve().parent
    return dataclasses.replace(
        config, data=_resolve_path(config.data, folder), model=_resolve_path(config.model, folder)
    )


def config_from_dict(document: dict[str, Any]) -> Config:
    """Return the Config that parsed TOML (or a manifest's copy of it) describes. Raises ConfigError."""
    sections = {item.name: item.default_factory for item in dataclasses.fields(Config)}
    _known("section", document, sections)
    return Config(**{name: section_from_dict(sections[name], name, value) for name, value in document.items()})


def section_from_dict(section: Any, name: str, values: Any) -> Any:
    """Return the section's dataclass with these values. Raises ConfigError."""
    if not isinstance(values, dict):
        raise ConfigError(f"[{name}]: expected a section with keys, found {values!r}")
    _known(f"key in [{name}]", values, [item.name for item in dataclasses.fields(section)])
    try:
        return decode(section, values, place=name, finite=False)  # latency_seconds = inf: no limit
    except ValueError as error:
        raise ConfigError(str(error)) from error


def config_to_dict(section: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values (tuples become lists)."""
    return {
        key: list(value) if isinstance(value, tuple) else config_to_dict(value)
        if dataclasses.is_dataclass(value) else value
        for key, value in ((item.name, getattr(section, item.name)) for item in dataclasses.fields(section))
    }


def _resolve_path(section: Any, folder: Path) -> Any:
    given = {key: getattr(section, key, None) for key in ("path", "weights")}
    return dataclasses.replace(section, **{key: str(folder / value) for key, value in given.items() if value})


def _known(what: str, given: dict[str, Any], known: Any) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown {what}: {name!r}; known are {', '.join(known)}")
