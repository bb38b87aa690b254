from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.config import ValidateConfig
from edgeship.errors import RuntimeFailure
from validate import latency
from validate.inputs import InputKind
from validate.latency import ROUNDS, measure_latencies
from validate.rows import Candidate

IMAGE = np.zeros((1, 8, 8, 1), np.float32)
MS = 1_000_000  # nanoseconds


class FakeWorker:
    """Answers from a script, and writes down who was asked what."""

    asked: list[tuple[str, str, dict[str, Any]]]
    milliseconds = 1

    def __init__(self, label: str, **options: Any) -> None:
        self.label = label

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *details: object) -> None:
        self.asked.append((self.label, "end", {}))

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append((self.label, do, arguments))
        if self.label.startswith("broken") and do == "time" and len(self.asked) > 10:
            raise RuntimeFailure(f"{self.label}: crashed (SIGSEGV) while timing inferences")
        return {
            "load_ms": 5.0, "first_ms": 2.0, "peak_memory_bytes": 7,
            "samples_ns": [self.milliseconds * MS] * arguments.get("runs", 0),
        }


@pytest.fixture(autouse=True)
def fake_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.asked = []
    monkeypatch.setattr(latency, "Worker", FakeWorker)


def candidate(name: str) -> Candidate:
    return Candidate(
        name=name, runtime="litert", path=Path(name), scheme="float32", artifact=None, size_bytes=1,
        input_kind=InputKind(dtype="float32", scale=None, zero_point=None),
    )


def test_rows_take_turns_in_blocks_after_all_are_loaded(tmp_path: Path) -> None:
    config = ValidateConfig(latency_runs=95, latency_seconds=60, threads=2)
    results = measure_latencies([candidate("a"), candidate("b"), candidate("c")], IMAGE, config, folder=tmp_path)
    doing = [do for _, do, _ in FakeWorker.asked]
    assert doing == ["load"] * 3 + ["time"] * 3 * ROUNDS + ["memory"] * 3 + ["end"] * 3
    blocks = [(label, arguments) for label, do, arguments in FakeWorker.asked if do == "time"]
    rounds = [[label for label, _ in blocks[at : at + 3]] for at in range(0, len(blocks), 3)]
    assert all(sorted(names) == ["a / litert", "b / litert", "c / litert"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1  # not always the same order
    assert [arguments["runs"] for label, arguments in blocks if label[0] == "a"] == [10] * 9 + [5]
    assert [arguments["discarded"] for label, arguments in blocks if label[0] == "a"] == [3] + [1] * 9
    result = results["a / litert"]
    assert result.latency is not None and result.peak_memory_bytes == 7
    assert (len(result.latency.samples_ms), result.latency.warmup_runs, result.latency.threads) == (95, 12, 2)
    assert (result.latency.median_ms, result.latency.load_ms, result.latency.first_ms) == (1.0, 5.0, 2.0)


def test_a_slow_row_stops_at_its_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWorker, "milliseconds", 100)
    config = ValidateConfig(latency_runs=100, latency_seconds=1)
    results = measure_latencies([candidate("a")], IMAGE, config, folder=tmp_path)
    assert results["a / litert"].latency is not None
    assert len(results["a / litert"].latency.samples_ms) == 10


def test_a_row_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    config = ValidateConfig(latency_runs=50, latency_seconds=60)
    results = measure_latencies([candidate("broken"), candidate("good")], IMAGE, config, folder=tmp_path)
    assert str(results["broken / litert"].error) == "broken / litert: crashed (SIGSEGV) while timing inferences"
    assert results["broken / litert"].latency is None
    assert results["good / litert"].error is None
    assert len(results["good / litert"].latency.samples_ms) == 50
