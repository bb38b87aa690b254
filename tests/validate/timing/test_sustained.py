"""Sustained speed: which rows, which windows, and what is made of the answers. Nothing is timed here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ConfigError, RuntimeFailure
from edgeship.core.sustained import Sustained, Window
from edgeship.validate.report.notes import not_sustained
from edgeship.validate.targets.target import Target
from edgeship.validate.timing import latency
from edgeship.validate.timing.sustained import can_sustain, sustained_of, window_lengths
from tests.validate.timing.test_latency import GOLDEN_INPUTS, candidate


class Emulated(Target):
    kind = "emulated"
    measures_time = False


class WarmDevice:
    """A worker whose throughput falls by a tenth from window to window, and whose sensor rises."""

    asked: list[tuple[str, str, dict[str, Any]]]

    def __init__(self, label: str, **options: Any) -> None:
        self.label, self.window = label, 0

    def __enter__(self) -> WarmDevice:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def send(self, do: str, **arguments: Any) -> None:
        pass

    def answer(self) -> dict[str, Any]:
        return {}

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        if do != "sustain":
            return {}
        self.asked.append((self.label, do, arguments))
        if self.label.startswith("broken"):
            raise RuntimeFailure(f"{self.label}: crashed (SIGKILL) while running without a pause")
        self.window += 1
        return {
            "inferences": round(1000 * 0.9 ** (self.window - 1)), "seconds": arguments["seconds"], "median_ms": 1.0,
            "clock_mhz": None, "temperature_c": 40.0 + self.window,
        }


@pytest.fixture(autouse=True)
def warm_device(monkeypatch: pytest.MonkeyPatch) -> None:
    WarmDevice.asked = []
    monkeypatch.setattr(latency, "Worker", WarmDevice)


@pytest.mark.parametrize(("seconds", "windows"), [
    (120.0, [10.0] * 12), (35.0, [35 / 3] * 3), (20.0, [10.0] * 2), (1.0, [0.5] * 2),
])
def test_windows_add_up_and_there_is_a_first_and_a_last_one(seconds: float, windows: list[float]) -> None:
    assert window_lengths(seconds) == pytest.approx(windows)


def test_one_process_runs_a_row_and_warms_up_once(tmp_path: Path, fast: ValidateConfig) -> None:
    config = dataclasses.replace(fast, sustained_seconds=30.0)
    rows = [candidate("a.tflite"), candidate("broken.tflite")]
    found = sustained_of(rows, GOLDEN_INPUTS, config, folder=tmp_path)
    good, bad = found["a.tflite / litert"], found["broken.tflite / litert"]
    assert isinstance(good, Sustained) and isinstance(bad, RuntimeFailure)
    assert [window.inferences for window in good.windows] == [1000, 900, 810]
    assert (good.held, good.seconds) == (pytest.approx(0.81), 30.0)
    warm_ups = [asked["discarded"] for label, _, asked in WarmDevice.asked if label.startswith("a.")]
    assert warm_ups[0] > 0 and warm_ups[1:] == [0, 0]


def test_nothing_runs_where_it_was_not_asked_for(tmp_path: Path, fast: ValidateConfig) -> None:
    assert sustained_of([candidate("a.tflite")], GOLDEN_INPUTS, fast, folder=tmp_path) == {}
    assert WarmDevice.asked == [] and list(not_sustained(fast, [candidate("a.tflite", target=Emulated("x"))])) == []


def test_rows_that_cannot_be_measured_are_named(fast: ValidateConfig) -> None:
    rows = [
        candidate("a.tflite"), candidate("a.tflite", target=Emulated("arm64:max")),
        candidate("a.tflite", runtime="litert-reference"), candidate("a.onnx", runtime="onnxruntime-web"),
        candidate("a.tflite", runtime="benchmark-model"),
    ]
    assert [can_sustain(row) for row in rows] == [True, False, False, False, False]
    assert list(not_sustained(dataclasses.replace(fast, sustained_seconds=30.0), rows)) == [
        "a.tflite / litert on arm64:max: sustained speed not measured: the processor is emulated",
        "a.onnx / onnxruntime-web: sustained speed not measured: its process is not ours to keep running",
        "a.tflite / benchmark-model: sustained speed not measured: its process is not ours to keep running",
    ]


def test_seconds_are_positive() -> None:
    with pytest.raises(ConfigError, match=r"validate\.sustained_seconds: expected .*found -1"):
        ValidateConfig(sustained_seconds=-1.0)


def test_a_window_counts_per_second() -> None:
    assert Window(seconds=8.0, inferences=400, median_ms=2.5, clock_mhz=None, temperature_c=None).per_second == 50.0
