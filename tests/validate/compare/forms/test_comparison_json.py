from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edgeship.core import comparison as records
from edgeship.core.errors import InputError
from edgeship.validate.compare.forms import comparison_json
from edgeship.validate.compare.forms.comparison_json import comparison_from_json, comparison_to_json
from tests.support.comparison_records import check, comparison, every_kind, timing

WHERE = Path("results/comparison.json")
SCHEMA = json.loads((Path(comparison_json.__file__).parent / "comparison.schema.json").read_text())
# Names of definitions in the schema -> the records they describe.
DEFINITIONS = {
    "arm": records.Arm, "exact": records.Exact, "side": records.Side, "launch": records.Launch,
    "arm_timing": records.ArmTiming, "timing": records.Timing, "check": records.Check,
    "environment": records.Environment,
}
# "Plain JSON of 30 launches x 20 rounds below a few hundred KiB" is what makes compressing it not worth it.
MOST_BYTES = 200 * 1024


@pytest.mark.parametrize("changes", [{}, {"interrupted": True, "verdict": "inconclusive"}, {"commit": None}])
def test_a_comparison_survives_the_way_to_text_and_back(changes: dict[str, Any]) -> None:
    found = every_kind(**changes)
    assert comparison_from_json(comparison_to_json(found), where=WHERE) == found


def test_what_is_not_measured_is_null_and_samples_are_whole() -> None:
    document = json.loads(comparison_to_json(every_kind()))
    assert document["checks"][3]["timing"] is None
    assert document["checks"][0]["timing"]["candidate"]["p99_ms"] is None
    samples = document["checks"][0]["timing"]["samples"]
    original = check().timing.samples
    assert [sample["candidate"]["cpu_ns"] for sample in samples] == [list(item.candidate.cpu_ns) for item in original]


def test_the_schema_is_a_schema_and_every_comparison_fits() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA)
    for found in (comparison(), every_kind(interrupted=True), every_kind(self_test=True, commit=None)):
        assert not list(validator.iter_errors(json.loads(comparison_to_json(found))))


@pytest.mark.parametrize(("path", "value"), [
    (("schema",), 2),
    (("verdict",), "fine"),
    (("checks", 0, "kind"), "phone"),
    (("checks", 0, "exact", 0, "outcome"), "better"),
    (("checks", 0, "candidate", "sha256"), "abc"),
    (("checks", 0, "timing", "ratio"), 0),
    (("checks", 0, "timing", "samples", 0, "baseline", "wall_ns", 0), 0),
    (("checks", 0, "timing", "extra"), 1),
])
def test_the_schema_refuses(path: tuple[str | int, ...], value: Any) -> None:
    document = json.loads(comparison_to_json(comparison()))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert list(Draft202012Validator(SCHEMA).iter_errors(document))


@pytest.mark.parametrize(("definition", "record"), [(SCHEMA, records.Comparison), *(
    (SCHEMA["$defs"][name], record) for name, record in DEFINITIONS.items()
)])
def test_the_schema_has_the_fields_of_the_records(definition: dict[str, Any], record: type) -> None:
    fields = {field.name: field for field in dataclasses.fields(record)}
    assert list(definition["properties"]) == list(fields)
    assert definition["required"] == [
        name for name, field in fields.items() if field.default is dataclasses.MISSING
    ]
    for name, kind in typing.get_type_hints(record).items():
        assert _may_be_null(definition["properties"][name]) == (type(None) in typing.get_args(kind)), name


def _may_be_null(schema: dict[str, Any]) -> bool:
    return Draft202012Validator({**schema, "$defs": SCHEMA["$defs"]}).is_valid(None)


def test_the_words_of_the_schema_are_those_of_the_records() -> None:
    assert set(SCHEMA["$defs"]["verdict"]["enum"]) == set(records.VERDICTS)
    assert set(SCHEMA["$defs"]["exact"]["properties"]["outcome"]["enum"]) == set(comparison_json.OUTCOMES)
    assert set(SCHEMA["$defs"]["timing"]["properties"]["metric"]["enum"]) == set(comparison_json.METRICS)


def test_thirty_launches_are_small_enough_to_stay_plain_text() -> None:
    found = comparison(check(timing=timing(launches=30, rounds=20)))
    assert len(comparison_to_json(found).encode()) < MOST_BYTES


@pytest.mark.parametrize(("text", "message"), [
    ("{", "expected JSON, found none"),
    ("[" * 100_000, "expected JSON, found none"),
    ("[]", "expected a comparison of schema 1, found null"),
    ('{"schema": 2}', "expected a comparison of schema 1, found 2; use the edgeship version that wrote it"),
    ('{"schema": 1}', "not a complete comparison .*missing"),
])
def test_what_is_no_comparison_is_refused_with_its_name(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"results/comparison.json: {message}"):
        comparison_from_json(text, where=WHERE)


@pytest.mark.parametrize(("change", "message"), [
    ({"verdict": "fine"}, "verdict: expected one of regression, refused, .*, found 'fine'"),
    ({"seconds": "long"}, "seconds: expected a number"),
    ({"more": 1}, "unknown key 'more'"),
])
def test_values_of_another_form_are_refused(change: dict[str, Any], message: str) -> None:
    text = json.dumps({**json.loads(comparison_to_json(comparison())), **change})
    with pytest.raises(InputError, match=message):
        comparison_from_json(text, where=WHERE)


def test_no_figure_may_be_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        comparison_to_json(comparison(seconds=float("nan")))
