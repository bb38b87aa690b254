"""What every section asks of a value: the key, what was expected and what was found."""

from __future__ import annotations

from typing import Any

from edgeship.core.errors import ConfigError


def one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}: expected one of {', '.join(map(str, allowed))}; found {value!r}")


def at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{key}: expected {least} or more, found {value}")


def positive(key: str, value: float) -> None:
    if value <= 0:
        raise ConfigError(f"{key}: expected a number above 0, found {value}")
