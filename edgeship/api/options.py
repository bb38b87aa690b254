"""Options of Python calls, checked as the keys of a configuration are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from edgeship.core.config_file import section_from_dict
from edgeship.core.errors import ConfigError


def several(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; one name alone is one name and no sequence of letters."""
    return (names,) if isinstance(names, str) else tuple(names)


def section(kind: type[Any], name: str, options: dict[str, Any]) -> Any:
    """Return a section of the configuration that has these options.

    Raises:
        ConfigError: an option that the section does not have, of another type, or out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(options) - set(fields)):
        raise ConfigError(f"{name}: unknown option {unknown[0]!r}; expected one of {', '.join(sorted(fields))}")
    return section_from_dict(kind, name, {key: _plain(fields[key], value) for key, value in options.items()})


def _plain(field: dataclasses.Field[Any], value: Any) -> Any:
    """What a TOML file would have in its place: a list for a tuple, a number of Python's for one of NumPy's."""
    if str(field.type).startswith("tuple["):
        return [value] if isinstance(value, str) else list(value) if isinstance(value, tuple | set) else value
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
