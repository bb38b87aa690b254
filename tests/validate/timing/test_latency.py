from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.comparison import CPU_TIME
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure
from edgeship.core.measurement import LatencyLaunch
from edgeship.validate.subject.inputs import InputKind
from edgeship.validate.subject.rows import Candidate
from edgeship.validate.targets.target import Target
from edgeship.validate.timing import latency
from edgeship.validate.timing.latency import ROUNDS, measure_latencies, summarize

IMAGE = np.zeros((1, 8, 8, 1), np.float32)
MS = 1_000_000  # nanoseconds


class FakeWorker:
    """Answers from a script, and writes down who was asked what."""

    asked: list[tuple[str, str, dict[str, Any]]]
    milliseconds = 1.0
    fails_in_launch: int | None = None  # the row named "broken"

    def __init__(self, label: str, **options: Any) -> None:
        self.label = label
        self.asked.append((label, "start", {}))

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *details: object) -> None:
        self.asked.append((self.label, "end", {}))

    def send(self, do: str, **arguments: Any) -> None:
        self.asked.append((self.label, do, arguments))

    def answer(self) -> dict[str, Any]:
        self.asked.append((self.label, "answer", {}))
        return {}

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append((self.label, do, arguments))
        started = self.asked.count((self.label, "start", {}))
        if self.label.startswith("broken") and do == "time" and started == self.fails_in_launch:
            raise RuntimeFailure(f"{self.label}: crashed (SIGSEGV) while timing inferences")
        # Every launch is 10 % slower than the one before, float Keras three times as slow as the others.
        slowness = 1.1 ** (started - 1) * (3 if self.label.startswith("float.keras") else 1)
        runs = arguments.get("runs", 0)
        samples_ns = [round(self.milliseconds * slowness * MS)] * runs
        return {"load_ms": 4.0 + started, "first_ms": 2.0, "samples_ns": samples_ns, "cpu_ns": sum(samples_ns) // 2}


@pytest.fixture(autouse=True)
def fake_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.asked = []
    monkeypatch.setattr(latency, "Worker", FakeWorker)


def candidate(name: str, *, runtime: str = "litert", target: Target | None = None) -> Candidate:
    return Candidate(
        name=name, runtime=runtime, path=Path(name), scheme="int8", artifact=None, size_bytes=1,
        input_kinds=(InputKind(dtype="float32", scale=None, zero_point=None),), target=target or Target(),
    )


def launches_asked() -> list[list[tuple[str, str, dict[str, Any]]]]:
    """What was asked, cut after each launch's last process ended."""
    launches: list[list[tuple[str, str, dict[str, Any]]]] = [[]]
    alive = 0
    for item in FakeWorker.asked:
        launches[-1].append(item)
        alive += {"start": 1, "end": -1}.get(item[1], 0)
        if alive == 0:
            launches.append([])
    return launches[:-1]


def test_each_launch_has_fresh_processes_and_rows_take_turns_in_it(tmp_path: Path) -> None:
    config = ValidateConfig(latency_launches=3, latency_runs=95, latency_seconds=60, threads=2)
    results = measure_latencies([candidate("a"), candidate("b"), candidate("c")], IMAGE, config, folder=tmp_path)
    launches = launches_asked()
    assert len(launches) == 3
    orders = set()
    for launch, runs in zip(launches, (31, 32, 32), strict=True):
        doing = [do for _, do, _ in launch]
        # All have imported their runtimes before the first one loads, which is timed.
        imports = ["start", "import"] * 3 + ["answer"] * 3
        assert doing == imports + ["load"] * 3 + ["time"] * 3 * ROUNDS + ["end"] * 3
        turns = [(label, arguments) for label, do, arguments in launch if do == "time"]
        rounds = [tuple(label for label, _ in turns[at : at + 3]) for at in range(0, len(turns), 3)]
        assert all(sorted(names) == ["a / litert", "b / litert", "c / litert"] for names in rounds)
        orders |= set(rounds)
        mine = [arguments for label, arguments in turns if label[0] == "a"]
        assert [arguments["runs"] for arguments in mine] == [7] * 4 + [runs - 28]
        assert [arguments["discarded"] for arguments in mine] == [3] + [1] * (ROUNDS - 1)
    assert len(orders) > 1  # not always the same order
    result = results["a / litert"].latency
    assert result is not None and (len(result.samples_ms), result.threads) == (95, 2)
    assert result.warmup_runs == 3 * (3 + ROUNDS - 1)
    assert [len(launch.rounds_ms) for launch in result.launches] == [ROUNDS] * 3
    assert (result.median_ms, result.load_ms, result.first_ms) == (pytest.approx(1.1), 6.0, 2.0)
    assert (result.wall_per_cpu, result.median_cpu_ms) == (pytest.approx(2.0), pytest.approx(0.55))
    assert result.launch_sd == pytest.approx(np.log(1.1))
    assert result.speedup is None and result.speedup_over is None  # there is nothing to compare with


def test_the_speedup_is_over_float_keras_and_no_slow_launch_spoils_it(tmp_path: Path) -> None:
    rows = [candidate("float.keras", runtime="keras"), candidate("a")]
    results = measure_latencies(rows, IMAGE, ValidateConfig(latency_seconds=60), folder=tmp_path)
    found, keras = results["a / litert"].latency, results["float.keras / keras"].latency
    assert found is not None and keras is not None
    assert (found.speedup, found.speedup_over) == (pytest.approx(3), "float.keras / keras")
    assert found.speedup_metric == CPU_TIME  # of one thread
    assert found.speedup_ci95 == pytest.approx((3, 3))
    assert len(found.launches) == 6
    assert keras.speedup is keras.speedup_over is keras.speedup_metric is None


def test_fewer_than_six_launches_give_no_interval(tmp_path: Path) -> None:
    rows = [candidate("float.keras", runtime="keras"), candidate("a")]
    config = ValidateConfig(latency_launches=5, latency_seconds=60)
    found = measure_latencies(rows, IMAGE, config, folder=tmp_path)["a / litert"].latency
    assert found is not None and found.speedup == pytest.approx(3) and found.speedup_ci95 is None


def test_rows_too_large_to_be_alive_together_follow_one_another_in_each_launch(tmp_path: Path) -> None:
    class Alone(Target):
        times_together = False

    rows = [candidate("a", target=Alone()), candidate("b", target=Alone())]
    config = ValidateConfig(latency_launches=2, latency_seconds=60)
    results = measure_latencies(rows, IMAGE, config, folder=tmp_path)
    labels = [{label for label, _, _ in launch} for launch in launches_asked()]
    assert all(len(names) == 1 for names in labels)  # one process at a time
    first, second, third, fourth = (name for names in labels for name in names)
    assert {first, second} == {third, fourth} == {"a / litert", "b / litert"}  # both before the next launch
    assert all(len(result.latency.launches) == 2 for result in results.values())


def test_a_slow_row_stops_at_its_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWorker, "milliseconds", 500.0)
    config = ValidateConfig(latency_launches=2, latency_runs=100, latency_seconds=1)
    found = measure_latencies([candidate("a")], IMAGE, config, folder=tmp_path)["a / litert"].latency
    assert found is not None
    # The fake worker, unlike the real one, does not look at the clock inside a turn.
    assert [len(launch.rounds_ms) for launch in found.launches] == [1, 1]
    assert all(arguments["seconds"] == 0.1 for _, do, arguments in FakeWorker.asked if do == "time")


def test_a_row_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWorker, "fails_in_launch", 2)
    config = ValidateConfig(latency_launches=3, latency_runs=50, latency_seconds=60)
    results = measure_latencies([candidate("broken"), candidate("good")], IMAGE, config, folder=tmp_path)
    assert str(results["broken / litert"].error) == "broken / litert: crashed (SIGSEGV) while timing inferences"
    assert results["broken / litert"].latency is None
    assert results["good / litert"].error is None
    assert len(results["good / litert"].latency.samples_ms) == 50
    assert FakeWorker.asked.count(("broken / litert", "start", {})) == 2  # not started again


def test_a_row_whose_reference_failed_has_no_speedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWorker, "fails_in_launch", 2)
    rows = [candidate("broken", runtime="keras"), candidate("a")]
    config = ValidateConfig(latency_launches=3, latency_seconds=60)
    found = measure_latencies(rows, IMAGE, config, folder=tmp_path)["a / litert"].latency
    assert found is not None and (found.speedup, found.speedup_over) == (None, None)


SUMMARY = LatencyLaunch(
    load_ms=8.0, first_ms=None, median_ms=None, mean_ms=4.0, min_ms=3.0, rounds_ms=(), rounds_cpu_ms=()
)


def test_a_tool_that_keeps_its_samples_gives_what_it_gives(tmp_path: Path) -> None:
    faster = dataclasses.replace(SUMMARY, load_ms=6.0, mean_ms=2.0, min_ms=1.0)
    found = summarize([SUMMARY, faster], threads=1)
    assert (found.mean_ms, found.min_ms, found.load_ms) == (3.0, 1.0, 7.0)
    unknown = (found.median_ms, found.p90_ms, found.first_ms, found.launch_sd, found.wall_per_cpu, found.median_cpu_ms)
    assert unknown == (None,) * 6 and found.samples_ms == ()


def test_the_99th_percentile_needs_a_thousand_samples() -> None:
    def summary(count: int) -> Any:
        samples = tuple(float(number) for number in range(count))
        rounds_ms = (samples[: count // 2], samples[count // 2 :])
        return summarize([dataclasses.replace(SUMMARY, median_ms=1.0, rounds_ms=rounds_ms)], threads=1)

    assert summary(999).p99_ms is None
    assert summary(1001).p99_ms == pytest.approx(990.0)
    assert (summary(101).median_ms, summary(101).p90_ms) == (50.0, 90.0)
