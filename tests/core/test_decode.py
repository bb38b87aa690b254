"""JSON into records, and what is said of JSON that is none."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgeship.core.decode import decode, parse, read_record
from edgeship.core.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class Inner:
    times: tuple[float, ...]
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int
    ready: bool
    inner: tuple[Inner, ...]
    kinds: dict[str, int] | None
    anything: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Versioned:
    schema: int


GOOD: dict[str, Any] = {
    "count": 3, "ready": True, "inner": [{"times": [1, 2.5]}, {"times": [], "note": "none"}], "kinds": {"ADD": 2},
    "anything": {"deep": [1, {"er": None}]},
}


def test_values_become_records() -> None:
    assert decode(Outer, GOOD) == Outer(
        count=3, ready=True, inner=(Inner(times=(1.0, 2.5)), Inner(times=(), note="none")), kinds={"ADD": 2},
        anything={"deep": [1, {"er": None}]},
    )
    assert decode(Outer, {**GOOD, "kinds": None}).kinds is None


@pytest.mark.parametrize(("changes", "message"), [
    ({"count": True}, "count: expected a whole number, found true"),
    ({"count": 3.0}, "count: expected a whole number, found 3.0"),
    ({"ready": 1}, "ready: expected true or false, found 1"),
    ({"inner": {}}, r"inner: expected a list, found \{\}"),
    ({"inner": [{"times": [1, "2"]}]}, r'inner\[0\].times\[1\]: expected a number, found "2"'),
    ({"inner": [{"times": [False]}]}, r"inner\[0\].times\[0\]: expected a number, found false"),
    ({"inner": [{"times": [1e999]}]}, r"inner\[0\].times\[0\]: expected a number, found Infinity"),
    ({"inner": [{"times": [10**400]}]}, r"inner\[0\].times\[0\]: expected a number, found 1000+"),
    ({"inner": [{"times": [], "note": 5}]}, r"inner\[0\].note: expected a text, found 5"),
    ({"inner": [{}]}, r"inner\[0\]: the key 'times' is missing"),
    ({"inner": [None]}, r"inner\[0\]: expected an object, found null"),
    ({"kinds": {"ADD": "2"}}, 'kinds.ADD: expected a whole number, found "2"'),
    ({"anything": []}, r"anything: expected an object, found \[\]"),
    ({"extra": 1}, "unknown key 'extra'; expected count, ready, inner, kinds, anything"),
])
def test_the_place_of_a_wrong_value_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        decode(Outer, {**GOOD, **changes})


@dataclass(frozen=True, kw_only=True)
class Interval:
    bounds: tuple[float, float] | None
    named: tuple[str, int]


@pytest.mark.parametrize(("values", "message"), [
    ({"bounds": [1.0], "named": ["a", 1]}, r"bounds: expected a list of 2, found \[1.0\]"),
    ({"bounds": [1.0, 2.0, 3.0], "named": ["a", 1]}, r"bounds: expected a list of 2, found \[1.0, 2.0, 3.0\]"),
    ({"bounds": None, "named": ["a", "b"]}, r'named\[1\]: expected a whole number, found "b"'),
])
def test_a_tuple_of_fixed_length_has_that_length_and_each_place_its_type(values: dict[str, Any], message: str) -> None:
    assert decode(Interval, {"bounds": [1, 2], "named": ["a", 3]}) == Interval(bounds=(1.0, 2.0), named=("a", 3))
    with pytest.raises(ValueError, match=f"^{message}$"):
        decode(Interval, values)


def test_a_place_and_infinities_as_toml_has_them() -> None:
    assert decode(Inner, {"times": [math.inf]}, place="train", finite=False).times == (math.inf,)
    with pytest.raises(ValueError, match=r'^train.note: expected a text, found "2026-01-31"$'):
        decode(Inner, {"times": [], "note": datetime.date(2026, 1, 31)}, place="train", finite=False)


def test_a_field_with_a_default_may_be_missing() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Counted:
        note: str = "none"
        counts: dict[str, int] = field(default_factory=dict)

    assert decode(Counted, {}) == Counted()


def test_a_file_of_an_older_schema_and_the_promised_error() -> None:
    def read(text: str) -> Any:
        return read_record(
            Versioned, text, where=Path("a.json"), schema=3, older=(2,), what="plan", again="plan again",
            error=BundleError,
        )

    assert [read(f'{{"schema": {schema}}}').schema for schema in (2, 3)] == [2, 3]
    with pytest.raises(BundleError, match=r"^a.json: expected a plan of schema 2 or 3, found 1; .* or plan again$"):
        read('{"schema": 1}')
    with pytest.raises(BundleError, match=r"^a.json: expected JSON, found none"):
        read("{")


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "[-Infinity]", "[" * 100_000])
def test_text_that_is_not_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|found|nested"):
        parse(text)
