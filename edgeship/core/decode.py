"""JSON or TOML values -> frozen dataclasses, each value checked against its field's type: the one reader of our files.

Types are those of our records: str, int, float, bool, Any, dict[str, T], tuple[T, ...], tuple[T, U], T | None and
dataclasses.
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

from edgeship.core.errors import EdgeshipError, InputError

Record = TypeVar("Record")
SHOWN_CHARACTERS = 60  # of a value in a message
IN_WORDS = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}


def decode(kind: type[Record], value: Any, *, place: str = "", finite: bool = True) -> Record:
    """Return the record of type `kind` that `value` describes.

    Args:
        place: the place of `value` in its file, which messages name: "train" of "train.epochs".
        finite: refuse infinities and NaN as numbers. TOML has them, JSON does not.

    Raises:
        ValueError: a key that is missing or unknown, or a value of another type; the message names its place.
    """
    record: Record = _decode(kind, value, place, finite)
    return record


def read_record(
    kind: type[Record],
    text: str,
    *,
    where: Path,
    schema: int,
    older: tuple[int, ...] = (),
    what: str,
    again: str,
    check: Callable[[Record], None] = lambda record: None,
    error: type[EdgeshipError] = InputError,
) -> Record:
    """Return the record that a JSON file of ours holds: of a readable schema, complete, and consistent by `check`.

    Args:
        where, what, again: the file, what it is ("baseline"), and how to get a new one ("save the baseline again").
        schema, older: the schema version of today, and the older ones whose files are readable too.
        check: raises ValueError for what types do not say.
        error: the error that the caller promises.

    Raises:
        EdgeshipError: of the type `error`, whatever else the file holds.
    """
    try:
        document = parse(text)
    except ValueError as reason:
        raise error(f"{where}: expected JSON, found none ({reason}); {again}") from reason
    found = document.get("schema") if isinstance(document, dict) else None
    if found not in (schema, *older):
        readable = " or ".join(map(str, (*older, schema)))
        raise error(
            f"{where}: expected a {what} of schema {readable}, found {_shown(found)[:40]}; "
            f"use the edgeship version that wrote it, or {again}"
        )
    try:
        record = decode(kind, document)
        check(record)
    except ValueError as reason:
        raise error(f"{where}: not a complete {what} ({reason}); {again}") from reason
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


def _decode(kind: Any, value: Any, where: str, finite: bool) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, where, finite)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # T | None
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _decode(inner, value, where, finite)
    if origin is tuple:
        if not isinstance(value, list):
            raise _unexpected(where, "a list", value)
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise _unexpected(where, f"a list of {len(arguments)}", value)
        kinds = arguments if arguments[-1] is not Ellipsis else arguments[:1] * len(value)
        return tuple(
            _decode(inner, item, f"{where}[{index}]", finite)
            for index, (inner, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise _unexpected(where, "an object", value)
        return {key: _decode(arguments[1], item, f"{where}.{key}", finite) for key, item in value.items()}
    if kind is float:
        return _decode_number(value, where, finite)
    if type(value) is kind:  # not isinstance: a bool is an int to Python
        return value
    raise _unexpected(where, IN_WORDS[kind], value)


def _decode_number(value: Any, where: str, finite: bool) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _unexpected(where, IN_WORDS[float], value)
    try:
        number = float(value)
    except OverflowError as error:  # an integer of more than 308 digits
        raise _unexpected(where, IN_WORDS[float], value) from error
    if finite and not math.isfinite(number):
        raise _unexpected(where, IN_WORDS[float], value)
    return number


def _decode_record(kind: Any, value: Any, where: str, finite: bool) -> Any:
    if not isinstance(value, dict):
        raise _unexpected(where, "an object", value)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := [key for key in value if key not in fields]:
        raise ValueError(f"{_place(where)}unknown key {unknown[0]!r}; expected {', '.join(fields)}")
    if missing := [name for name, field in fields.items() if name not in value and _is_needed(field)]:
        raise ValueError(f"{_place(where)}the key {missing[0]!r} is missing")
    hints, prefix = _hints(kind), f"{where}." if where else ""
    return kind(**{name: _decode(hints[name], item, prefix + name, finite) for name, item in value.items()})


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _unexpected(where: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{_place(where)}expected {expected}, found {_shown(value)[:SHOWN_CHARACTERS]}")


def _shown(value: Any) -> str:
    """Return `value` as JSON; a date of TOML, which JSON does not have, as a text."""
    return json.dumps(value, default=str)


def _place(where: str) -> str:
    return f"{where}: " if where else ""
