from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import pytest

from edgeship.core.encode import encode


@dataclass(frozen=True)
class Inner:
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Outer:
    inners: tuple[Inner, ...]
    anything: dict[str, Any]


RECORD = Outer(
    inners=(Inner((1.5, 2.0, 1e-9)), Inner(())), anything={"é": [None, True, "a\nb"], "empty": {}, "nested": [[1], []]}
)


def test_it_is_the_json_that_the_standard_library_would_write_but_for_white_space() -> None:
    assert json.loads(encode(RECORD)) == json.loads(json.dumps(dataclasses.asdict(RECORD)))


def test_a_list_of_numbers_is_one_line() -> None:
    assert '      "numbers": [1.5, 2.0, 1e-09]\n' in encode(RECORD)


def test_what_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Inner((1.0, float("inf"))))
