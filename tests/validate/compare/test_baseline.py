"""The record of a baseline: to JSON and back, sessions added, and everything an edited file can have."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest

from edgeship.core.artifact import TensorSpec
from edgeship.core.errors import InputError
from edgeship.core.files import sha256_of_file
from edgeship.validate.compare.baseline import (
    Baseline,
    artifact_of,
    baseline_from_json,
    baseline_to_json,
    check,
    find_recording,
    merge,
)
from edgeship.validate.compare.stored import compare_stored
from tests.support.baseline_records import FINGERPRINT, PROTOCOL, baseline, recording, session

WHERE = Path("baselines/main/baseline.json")


@pytest.fixture
def saved(master_bundle: Path) -> Baseline:
    return baseline(master_bundle / "int8.tflite", recording(session(), session((0.1,) * 7)))


def test_an_artifact_is_described_by_its_content(master_bundle: Path) -> None:
    path = master_bundle / "int8.onnx"
    spec = TensorSpec(name="image", shape=(1, 8, 8, 1), dtype="uint8", scale=0.5, zero_point=128)
    artifact = artifact_of(path, name="int8-qat.onnx", inputs=(spec,))
    assert (artifact.name, artifact.file, artifact.format) == ("int8-qat.onnx", "int8.onnx", "onnx")
    assert artifact.sha256 == sha256_of_file(path) and artifact.size_bytes == path.stat().st_size
    assert artifact.operations is None and artifact.inputs == (spec,)


@pytest.mark.parametrize("name", ["none.tflite", "model.pt", "folder.onnx"])
def test_an_artifact_that_is_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match=r"expected a \.tflite, \.onnx or \.ort file, found"):
        artifact_of(tmp_path / name)


def test_json_and_back(saved: Baseline) -> None:
    text = baseline_to_json(saved)
    assert baseline_from_json(text, where=WHERE) == saved
    assert baseline_to_json(baseline_from_json(text, where=WHERE)) == text
    assert json.loads(text) == json.loads(json.dumps(dataclasses.asdict(saved)))


def test_a_session_of_many_rounds_is_few_lines(master_bundle: Path) -> None:
    def lines(rounds: int) -> int:
        one = session()
        launches = tuple(
            dataclasses.replace(item, side=dataclasses.replace(
                item.side, wall_ns=item.side.wall_ns * rounds, cpu_ns=item.side.cpu_ns * rounds
            )) for item in one.launches
        )
        record = baseline(master_bundle / "int8.tflite", recording(dataclasses.replace(one, launches=launches)))
        return len(baseline_to_json(record).splitlines())

    assert lines(1) == lines(200)


def test_sessions_of_the_same_environment_and_protocol_are_one_recording(saved: Baseline) -> None:
    (own,) = saved.recordings
    again = dataclasses.replace(saved, recordings=(dataclasses.replace(own, sessions=(session((0.2,) * 6),)),))
    merged = merge(saved, again)
    assert merged.recordings[0].sessions == (*own.sessions, session((0.2,) * 6)) and len(merged.recordings) == 1
    other_host = {**FINGERPRINT, "recorded": {"hostname": "another"}}
    renamed = dataclasses.replace(own, fingerprint=other_host, target="ssh://pi@board")
    assert len(merge(saved, dataclasses.replace(saved, recordings=(renamed,))).recordings) == 1


@pytest.mark.parametrize("changes", [
    {"fingerprint": {**FINGERPRINT, "must_match": {**FINGERPRINT["must_match"], "kernel": "6.7"}}},
    {"protocol": dataclasses.replace(PROTOCOL, metric="wall_time")}, {"runtime": "litert-reference"},
])
def test_sessions_that_cannot_be_put_beside_each_other_are_another_recording(
    saved: Baseline, changes: dict[str, Any]
) -> None:
    other = dataclasses.replace(saved.recordings[0], **changes)
    merged = merge(saved, dataclasses.replace(saved, recordings=(other,)))
    assert merged.recordings == (saved.recordings[0], other)


def test_the_recording_that_a_session_here_would_continue(saved: Baseline) -> None:
    (own,) = saved.recordings
    short = dataclasses.replace(own, protocol=dataclasses.replace(PROTOCOL, rounds=2), sessions=own.sessions[:1])
    both = merge(saved, dataclasses.replace(saved, recordings=(short,)))
    wanted = {"artifact_sha256": own.artifact_sha256, "runtime": "litert", "fingerprint": FINGERPRINT}
    assert find_recording(both, **wanted) == own
    assert find_recording(both, **{**wanted, "runtime": "onnxruntime"}) is None
    assert find_recording(both, **{**wanted, "fingerprint": {"must_match": {}}}) is None


def change(document: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in parents:
        document = document[part]
    document[last] = value


@pytest.mark.parametrize(("path", "value", "message"), [
    ("schema", 2, "expected a baseline of schema 1, found 2; use the edgeship version that wrote it"),
    ("schema", None, "found null"),
    ("artifacts", [], "artifacts: expected one at least"),
    ("artifacts/0/file", "../../etc/passwd.tflite", "is not a name inside the folder"),
    ("artifacts/0/file", "/etc/x.tflite", "is not a name inside the folder"),
    ("artifacts/0/file", "..\\x.tflite", "is not a name inside the folder"),
    ("artifacts/0/file", ".git.tflite", "is not a name inside the folder"),
    ("artifacts/0/file", "", "is not a name inside the folder"),
    ("artifacts/0/file", "a\0.tflite", "is not a name inside the folder"),
    ("artifacts/0/file", "baseline.json", "is not of 'tflite'"),
    ("artifacts/0/format", "keras", "is not of 'keras'"),
    ("artifacts/0/size_bytes", "1", 'size_bytes: expected a whole number, found "1"'),
    ("recordings/0/artifact_sha256", "f" * 64, "of none of the artifacts"),
    ("recordings/0/protocol/metric", "instructions", "metric: expected cpu_time or wall_time"),
    ("recordings/0/fingerprint", {}, "fingerprint: the key 'must_match' is missing"),
    ("recordings/0/fingerprint/cpu_flags", [[]], "cpu_flags: expected a list of texts"),
    ("recordings/0/sessions", [], "expected a session at least"),
    ("recordings/0/sessions/1/state_before", {"battery_percent": "x"}, 'battery_percent: expected a number, found "x"'),
    ("recordings/0/sessions/1/launches/0/side/cpu_ns", [], "expected times above 0, of cpu_time too"),
    ("recordings/0/sessions/1/launches/0/side/wall_ns", [0], "expected times above 0"),
    ("recordings/0/sessions/1/launches/0/canary_ns", 0, "canary_ns: expected above 0"),
    ("recordings/0/sessions/1/launches/0/side", {}, "'wall_ns' is missing"),
    ("surprise", 1, "unknown key 'surprise'"),
])
def test_a_damaged_record(saved: Baseline, path: str, value: Any, message: str) -> None:
    document = json.loads(baseline_to_json(saved))
    change(document, path, value)
    with pytest.raises(InputError) as caught:
        baseline_from_json(json.dumps(document), where=WHERE)
    assert message in str(caught.value) and str(caught.value).startswith(f"{WHERE}: ")


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"schema": 1}', '{"schema": NaN}', "[" * 10**5, "\ud800"])
def test_what_is_no_record_at_all(text: str) -> None:
    with pytest.raises(InputError, match=r"^baselines/main/baseline\.json: "):
        baseline_from_json(text, where=WHERE)


def test_two_artifacts_that_differ_only_in_case_would_be_one_file(saved: Baseline) -> None:
    (own,) = saved.artifacts
    other = dataclasses.replace(own, name="other", file="INT8.tflite", sha256="f" * 64)
    with pytest.raises(ValueError, match="expected different values of file"):
        check(dataclasses.replace(saved, artifacts=(own, other)))


STRANGE: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1e300, "", "0x4", "severe", [], [None], {}, {"a": []})


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_record_holds_it_is_a_baseline_or_a_clear_error(saved: Baseline, seed: int) -> None:
    order = random.Random(seed)
    document, accepted = json.loads(baseline_to_json(saved)), 0
    for _ in range(400):
        edited = copy.deepcopy(document)
        for _ in range(order.choice((1, 1, 1, 2, 5))):
            container, key = order.choice(places(edited))
            container[key] = copy.deepcopy(order.choice(STRANGE))
        try:
            found = baseline_from_json(json.dumps(edited), where=WHERE)
        except InputError as error:
            assert str(error).startswith(str(WHERE))
            continue
        accepted += 1
        assert baseline_from_json(baseline_to_json(found), where=WHERE) == found
        for item in found.recordings:  # what is accepted can be judged
            for candidate in (recording(session()), dataclasses.replace(item, sessions=item.sessions[-1:])):
                verdict = compare_stored(item, candidate, limit=0.05, dedicated=True).verdict
                assert verdict in ("pass", "suspect", "refused")
    assert accepted > 20
