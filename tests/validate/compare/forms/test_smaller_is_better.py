from __future__ import annotations

import json

import pytest
from jsonschema import Draft7Validator

from edgeship.core.comparison import Exact
from edgeship.validate.compare.forms.smaller_is_better import comparison_to_smaller_is_better
from tests.support.comparison_records import IDENTICAL, NOT_THERE, PASSED, check, comparison, every_kind

TEXT = {"type": "string", "minLength": 1}
ENTRIES = {
    "type": "array",
    "items": {
        "type": "object", "required": ["name", "unit", "value"], "additionalProperties": False,
        "properties": {"name": TEXT, "unit": TEXT, "value": {"type": "number"}, "range": TEXT, "extra": TEXT},
    },
}


def test_the_document_has_the_actions_shape_and_names_are_unique() -> None:
    document = json.loads(json.dumps(comparison_to_smaller_is_better(every_kind()), allow_nan=False))
    Draft7Validator(ENTRIES).validate(document)
    names = [entry["name"] for entry in document]
    assert len(set(names)) == len(names)


def test_entries_of_a_check() -> None:
    latency, ratio, size = comparison_to_smaller_is_better(comparison())
    assert (latency["name"], latency["unit"]) == ("int8-qat.onnx@cpu/onnxruntime latency", "ms")
    assert latency["value"] == pytest.approx(check().timing.candidate.median_cpu_ms)
    assert latency["range"] == "+3.1 % [+2.2, +4.0]"
    assert "CPU time, 10 launches x 12 rounds" in latency["extra"] and "AMD EPYC 7B13 (avx2)" in latency["extra"]
    assert (ratio["unit"], ratio["value"]) == ("ratio", check().timing.ratio)
    assert (size["unit"], size["value"]) == ("bytes", 1_404_928)


def test_only_gates_of_which_less_is_better_are_told() -> None:
    coverage = Exact(gate="coverage", outcome="same", baseline=1.0, candidate=1.0, sentence="all of 60")
    item = check(exact=(*PASSED.exact, coverage))
    names = {entry["name"].partition(" ")[2] for entry in comparison_to_smaller_is_better(comparison(item))}
    assert names == {"latency", "latency against baseline", "size", "instructions"}


@pytest.mark.parametrize("item", [NOT_THERE, IDENTICAL])
def test_what_was_not_measured_has_no_entry(item) -> None:
    assert [entry["unit"] for entry in comparison_to_smaller_is_better(comparison(item))] == ["bytes"]


def test_an_interrupted_comparison_says_so_in_every_entry() -> None:
    entries = comparison_to_smaller_is_better(every_kind(interrupted=True))
    assert all("INTERRUPTED" in entry["extra"] for entry in entries)
