"""The bridge to ONNX Runtime's `onnxruntime_perf_test` on an adb device. It tells times, and gives no outputs.

    python -P -m edgeship.validate.bridges.onnxruntime_perf_test \
        --adb ADB --serial SERIAL --name adb --binary THERE --folder THERE

Format after its sources (onnxruntime/test/perftest/performance_runner.cc). With a result file it writes a line for
each run, `model,seconds,peak bytes,cpu percent,run`: those are the samples. Its inputs are its own (`-I`).
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from typing import Any

from edgeship.validate.bridges.benchmark_output import number
from edgeship.validate.bridges.tool_bridge import ToolBridge, main

NOT_MEASURED = "onnxruntime_perf_test gives no outputs"
# Before every run that counts the tool makes one that does not.
OWN_WARMUPS = 1
# The tool prints 6 digits of each; a larger difference means another unit or another run.
MEAN_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class PerfTestOutput:
    """What one launch printed; None for what this build does not print."""

    session_ms: float  # creating the session
    first_ms: float | None  # cut to whole milliseconds; None where nothing is left of it
    mean_ms: float
    min_ms: float | None
    max_ms: float | None
    median_ms: float | None
    p95_ms: float | None
    peak_memory_bytes: int | None


def parse_perf_test_output(text: str) -> PerfTestOutput:
    """The figures of one launch, of older builds ("P50 Latency is 0.01 sec") and newer ones.

    Raises:
        ValueError: something else was printed; the message says what was expected.
    """
    session_s = _figure(r"Session creation time cost: *(\S+) *s\b", text)
    mean_ms = _figure(r"Average inference time cost(?: total)?: *(\S+) *ms\b", text)
    if session_s is None or mean_ms is None:
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
        raise ValueError(
            "expected `Session creation time cost: ... s` and `Average inference time cost: ... ms`, not found both; "
            f"the last line is {last[:120]!r}"
        )
    first_ms = _figure(r"First inference time cost: *(\S+) *ms\b", text)
    peak = _figure(r"Peak working set size: *(\d+) bytes", text)
    return PerfTestOutput(
        session_ms=1000 * session_s, first_ms=first_ms or None, mean_ms=mean_ms,
        min_ms=_latency("Min", text), max_ms=_latency("Max", text),
        median_ms=_latency("P50", text), p95_ms=_latency("P95", text),
        peak_memory_bytes=int(peak) if peak else None,
    )


def parse_samples(text: str, *, mean_ms: float) -> tuple[float, ...]:
    """The times of a result file, in milliseconds.

    Raises:
        ValueError: a line is not as expected, or the times are not those of the launch that printed `mean_ms`.
    """
    samples = []
    for line in text.splitlines():
        if not line.strip():  # what follows are statistics
            break
        # The model's name, which comes first, may have commas in it.
        match = re.fullmatch(r".*,([^,]+),\d+,-?\d+,\d+", line.strip())
        if match is None:
            raise ValueError(f"expected `model,seconds,bytes,percent,run`, found {line!r}")
        samples.append(1000 * number(match.group(1), line))
    found = math.fsum(samples) / len(samples) if samples else 0.0
    if abs(found - mean_ms) > MEAN_TOLERANCE * mean_ms:
        raise ValueError(
            f"expected times with a mean of {mean_ms:g} ms, as printed, found {len(samples)} with {found:g} ms"
        )
    return tuple(samples)


class PerfTest(ToolBridge):
    """An .onnx or .ort file in a session on the CPU, batch 1."""

    def do_load(
        self, *, runtime: str, path: str, options: dict[str, Any], sha256: str | None = None
    ) -> dict[str, Any]:
        """Create a session and run it once."""
        self.check(path, sha256)
        self.path, self.threads = path, int(options["threads"])
        output, _ = self._launch(runs=1)
        self._first_ms, self._peak_memory_bytes = output.first_ms, output.peak_memory_bytes
        self._typical_ms = output.mean_ms
        return {"load_ms": output.session_ms, "inputs": [], "outputs": []}

    def do_run(
        self, *, inputs: list[str], outputs: list[str], sha256: list[str] | None = None
    ) -> dict[str, Any]:
        """It gives no outputs."""
        return {"not_measured": NOT_MEASURED}

    def do_time(self, *, inputs: list[str], runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """One launch: up to `runs` inferences of the tool's own input, for about `seconds`."""
        discarded = max(0, discarded - OWN_WARMUPS)
        affordable = int(1000 * seconds / self._typical_ms) if self._typical_ms > 0 else runs
        output, samples = self._launch(runs=discarded + max(1, min(runs, affordable)))
        self._peak_memory_bytes = output.peak_memory_bytes
        self._typical_ms = output.mean_ms
        return {"samples_ns": [round(1e6 * sample) for sample in samples[discarded:]], "first_ms": self._first_ms}

    def do_plan(self) -> dict[str, Any]:
        """The tool does not tell."""
        return {"plan": None, "notes": ["onnxruntime_perf_test was timed on inputs that it makes itself"]}

    def do_memory(self) -> dict[str, Any]:
        """The peak of the last launch, which the tool reads once at its end."""
        return {"peak_memory_bytes": self._peak_memory_bytes}

    def _launch(self, *, runs: int) -> tuple[PerfTestOutput, tuple[float, ...]]:
        result = self.there("result.csv")
        text = self.run(self.call(
            "-e", "cpu", "-m", "times", "-r", str(runs), "-x", str(self.threads), "-y", "1", "-o", "99", "-s", "-I",
            self.path, result,
        ))
        output = parse_perf_test_output(text)
        samples = parse_samples(self.adb.checked(f"cat {shlex.quote(result)}"), mean_ms=output.mean_ms)
        self.remove(result)
        if len(samples) != runs:
            raise ValueError(f"expected {runs} times in the result file, found {len(samples)}")
        return output, samples


def _latency(name: str, text: str) -> float | None:
    seconds = _figure(rf"^{name} Latency(?::| is) *(\S+?) *s(?:ec)?\b", text)
    return None if seconds is None else 1000 * seconds


def _figure(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text, flags=re.MULTILINE)
    return None if match is None else number(match.group(1), match.group(0))


if __name__ == "__main__":
    main(PerfTest)
