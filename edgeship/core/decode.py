"""JSON values -> frozen dataclasses, each value checked against its field's type: for files that others may edit.

Types are those of our records: str, int, float, bool, Any, dict[str, T], tuple[T, ...], T | None and dataclasses.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgeship.core.errors import InputError

Record = TypeVar("Record")
SHOWN_CHARACTERS = 60  # of a value in a message
IN_WORDS = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}


def decode(kind: type[Record], value: Any) -> Record:
    """The record of this type that `value` describes.

    Raises:
        ValueError: a key that is missing or unknown, or a value of another type; the message names its place.
    """
    record: Record = _decode(kind, value, "")
    return record


def read_record(
    kind: type[Record],
    text: str,
    *,
    where: Path,
    schema: int,
    what: str,
    again: str,
    check: Callable[[Record], None],
) -> Record:
    """A file of ours read back: JSON of the schema version that is known, complete, and consistent by `check`.

    Args:
        where, what, again: the file, what it is ("baseline"), and how to get a new one ("save the baseline again").
        check: raises ValueError for what types do not say.

    Raises:
        InputError: whatever else it is.
    """
    try:
        document = parse(text)
    except ValueError as error:
        raise InputError(f"{where}: expected JSON, found none ({error}); {again}") from error
    found = document.get("schema") if isinstance(document, dict) else None
    if found != schema:
        raise InputError(
            f"{where}: expected a {what} of schema {schema}, found {json.dumps(found)[:40]}; "
            f"use the edgeship version that wrote it, or {again}"
        )
    try:
        record = decode(kind, document)
        check(record)
    except ValueError as error:
        raise InputError(f"{where}: not a complete {what} ({error}); {again}") from error
    return record


def parse(text: str) -> Any:
    """JSON text as plain values. NaN and infinities, which Python would read, are refused: JSON has neither.

    Raises:
        ValueError: not JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"found {word}, which is not JSON")


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # T | None
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _decode(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _unexpected(where, "a list", value)
        return tuple(_decode(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _unexpected(where, "an object", value)
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is not float and type(value) is kind:  # not isinstance: a bool is an int to Python
        return value
    raise _unexpected(where, IN_WORDS[kind], value)


def _decode_record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unexpected(where, "an object", value)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := [key for key in value if key not in fields]:
        raise ValueError(f"{_place(where)}unknown key {unknown[0]!r}; expected {', '.join(fields)}")
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in value]:
        raise ValueError(f"{_place(where)}the key {missing[0]!r} is missing")
    hints, prefix = _hints(kind), f"{where}." if where else ""
    return kind(**{name: _decode(hints[name], item, prefix + name) for name, item in value.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _unexpected(where: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{_place(where)}expected {expected}, found {json.dumps(value)[:SHOWN_CHARACTERS]}")


def _place(where: str) -> str:
    return f"{where}: " if where else ""
