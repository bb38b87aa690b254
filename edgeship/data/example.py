"""tf.train.Example without TensorFlow: where in the bytes each value is, so that an image need not be read to be found.

The message is `Example{features: 1}`, `Features{repeated entry: 1}`, an entry of the map `{name: 1, feature: 2}`, and a
feature is one of `bytes_list: 1`, `float_list: 2`, `int64_list: 3`, each with repeated `value: 1`
(tensorflow/core/example/{example,feature}.proto; protobuf.dev, "Encoding", for the wire format).
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT = 10  # bytes of a 64-bit number
BYTES_LIST, INT64_LIST = 1, 3
Buffer = bytes | memoryview


@dataclass(frozen=True)
class Span:
    """Where a value lies in the message."""

    start: int
    stop: int


def features_of(message: Buffer, *, wanted: Container[str] | None = None) -> dict[str, list[Span] | list[int]]:
    """Every feature's values by name: spans of bytes values, int64 values; of floats an empty list.

    With `wanted`, the others' values are not looked at, and are empty lists too.

    Raises:
        ValueError: the bytes are no Example.
    """
    found: dict[str, list[Span] | list[int]] = {}
    whole = Span(0, len(message))
    for features in _spans(message, whole, 1):
        for entry in _spans(message, features, 1):
            name = b"".join(bytes(message[span.start : span.stop]) for span in _spans(message, entry, 1))
            for feature in _spans(message, entry, 2):
                key = name.decode()
                found[key] = _values(message, feature) if wanted is None or key in wanted else []
    return found


def _values(message: Buffer, feature: Span) -> list[Span] | list[int]:
    for kind, _, span in _fields(message, feature):
        if kind == BYTES_LIST and isinstance(span, Span):
            return list(_spans(message, span, 1))
        if kind == INT64_LIST and isinstance(span, Span):
            return list(_integers(message, span))
    return []


def _integers(message: Buffer, values: Span) -> Iterator[int]:
    for number, _, value in _fields(message, values):
        if number != 1:
            continue
        if isinstance(value, int):
            yield _signed(value)
            continue
        place = value.start  # packed: one after the other
        while place < value.stop:
            packed, place = _varint(message, place, value.stop)
            yield _signed(packed)


def _spans(message: Buffer, within: Span, number: int) -> Iterator[Span]:
    for found, _, value in _fields(message, within):
        if found == number:
            if not isinstance(value, Span):
                raise ValueError(f"field {number} is not of bytes")
            yield value


def _fields(message: Buffer, within: Span) -> Iterator[tuple[int, int, Span | int]]:
    """(field number, wire type, the value or where it lies)."""
    place = within.start
    while place < within.stop:
        key, place = _varint(message, place, within.stop)
        number, kind = key >> 3, key & 7
        value: Span | int
        if kind == VARINT:
            value, place = _varint(message, place, within.stop)
        elif kind in FIXED_BYTES or kind == BYTES:
            length, place = (FIXED_BYTES[kind], place) if kind in FIXED_BYTES else _varint(message, place, within.stop)
            value = Span(place, place + length)
            place = value.stop
            if place > within.stop:
                raise ValueError(f"a value of {length:,} bytes does not fit")
        else:
            raise ValueError(f"wire type {kind} is unknown")
        yield number, kind, value


def _varint(message: Buffer, place: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(place, min(stop, place + LONGEST_VARINT)):  # noqa: B020 - counts on from where it starts
        byte = message[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise ValueError("a number does not end")


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
