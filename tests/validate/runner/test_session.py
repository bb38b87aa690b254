"""The requests that a session answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.errors import RuntimeFailure
from edgeship.validate.process.client import Worker
from edgeship.validate.runner.pack import packed_runner


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(packed_runner()), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )


def answers(process: subprocess.Popen[str], *requests: dict[str, Any]) -> list[dict[str, Any]]:
    text, _ = process.communicate("".join(json.dumps(request) + "\n" for request in requests), timeout=600)
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("request_", "kind", "message"), [
    ({"do": "load", "runtime": "tpu", "path": "x", "options": {}}, "ValueError", "expected a runtime of litert, "),
    ({"do": "fly"}, "AttributeError", "do_fly"),
    ({"do": "pin", "cpus": [4095]}, "OSError", "cpus: expected processors of ["),
])
def test_requests_that_cannot_be_answered(request_: dict[str, Any], kind: str, message: str) -> None:
    (answer,) = answers(start(), request_)
    assert answer["error"]["type"] == kind and message in answer["error"]["message"]


def test_a_file_that_is_not_the_one_that_was_sent(master_bundle: Path) -> None:
    (answer,) = answers(start(), {
        "do": "load", "runtime": "litert", "path": str(master_bundle / "int8.tflite"), "options": {"threads": 1},
        "sha256": "0" * 64,
    })
    assert answer["error"]["type"] == "AlteredInTransit" and "expected SHA-256 000" in answer["error"]["message"]


def test_a_process_is_bound_to_the_processor_that_was_named() -> None:
    (cpu, *_) = sorted(os.sched_getaffinity(0))
    (answer,) = answers(start(), {"do": "pin", "cpus": [cpu]})
    assert answer == {"ok": {"cpus": [cpu]}}


def test_a_cpu_that_is_not_there_is_a_clear_row_error() -> None:
    message = r"row: OSError while binding it to processors: cpus: expected"
    with pytest.raises(RuntimeFailure, match=message), \
            Worker("row", timeout_seconds=60) as worker:
        worker.ask("pin", cpus=[4095])


def test_the_samples_of_a_timing_are_as_many_as_asked(master_bundle: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "in.npy"
    np.save(inputs, np.zeros((1, 8, 8, 1), np.int8))
    started = time.monotonic_ns()
    with Worker("row", timeout_seconds=60, runtime="litert") as worker:
        worker.ask("load", runtime="litert", path=str(master_bundle / "int8.tflite"), options={"threads": 1})
        answer = worker.ask("time", inputs=[str(inputs)], runs=7, seconds=60, discarded=3)
    elapsed = time.monotonic_ns() - started
    assert len(answer["samples_ns"]) == 7 and 0 < sum(answer["samples_ns"]) < elapsed and answer["first_ms"] > 0


def test_it_runs_without_a_pause_and_tells_how_often(master_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((1, 8, 8, 1), np.int8))
    _, found, least = answers(
        start(),
        {"do": "load", "runtime": "litert", "path": str(master_bundle / "int8.tflite"), "options": {"threads": 1}},
        {"do": "sustain", "inputs": [str(tmp_path / "in.npy")], "seconds": 0.05, "discarded": 1},
        {"do": "sustain", "inputs": [str(tmp_path / "in.npy")], "seconds": 0.0, "discarded": 0},
    )
    assert set(found["ok"]) == {"inferences", "seconds", "median_ms", "clock_mhz", "temperature_c"}
    assert found["ok"]["inferences"] >= 1 and found["ok"]["seconds"] >= 0.05 and found["ok"]["median_ms"] > 0
    assert least["ok"]["inferences"] == 1  # a window is never empty
