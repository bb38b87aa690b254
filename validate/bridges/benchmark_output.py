"""What TensorFlow Lite's `benchmark_model` prints, read into values: pure functions of text.

Format after its sources (tflite/tools/benchmark/benchmark_model.cc and benchmark_tflite_model.cc, and the statistics
of xla/tsl/util/stats_calculator.h; LiteRT's own build, litert/tools/benchmark_litert_model.h). Each launch prints
one line of statistics for its warm-up and one for its timed runs, in microseconds:

    count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732.4 std=1929 p5=77602 median=79701 p95=83071

Older builds end with `std` or begin with `curr`; `count=1 curr=79449` and `count=3 curr=12(all same)` leave out what
follows from them; numbers may be scientific. On Android the same lines go to the log, with its prefixes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# "11-25 03:13:24.857  6392  6392 I tflite  : ", "I/tflite ( 6392): ", "INFO: [benchmark_model.cc:12] "
PREFIX = re.compile(
    r"^\s*(?:[\d-]+ [\d:.]+\s+\d+\s+\d+ )?"
    r"(?:[VDIWEF][ /]\w+\s*(?:\(\s*\d+\))?: |(?:VERBOSE|INFO|WARN|WARNING|ERROR|FATAL): )?"
    r"(?:\[[^\]]*\] )?"
)
STATISTIC = re.compile(r"(\w+)=(\S+?)(?:\(all same\))?(?=\s|$)")
REPLACED = re.compile(r"Replacing (\d+)(?: out of (\d+))? node\(s\) with delegate \((\w+)\)")
NOT_EXECUTED = re.compile(r"Though (.+?) delegate is explicitly applied, .* will not be executed by the delegate")
# The flag that is on, as the tool logs it -> what the delegates' names are known by.
REQUESTED = {
    "Use gpu": re.compile("gpu|litert_cl|opencl", re.IGNORECASE),
    "Use NNAPI": re.compile("nnapi", re.IGNORECASE),
    "Use Hexagon": re.compile("hexagon", re.IGNORECASE),
}
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """One line of statistics, in milliseconds; None where the build does not print it."""

    count: int
    first_ms: float | None
    min_ms: float
    max_ms: float
    mean_ms: float
    std_ms: float
    median_ms: float | None
    p5_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, kw_only=True)
class BenchmarkOutput:
    """One launch."""

    init_ms: float  # loading, delegates, allocation
    first_ms: float | None  # the process's first inference
    timed: Statistics
    peak_memory_bytes: int | None  # only where it was asked to watch its memory
    ignored_flags: str  # those that this build does not know, which it only warns of


def parse_benchmark_output(text: str) -> BenchmarkOutput:
    """The figures of one launch.

    Raises:
        ValueError: something else was printed; the message says what was expected.
    """
    lines = [PREFIX.sub("", line, count=1).strip() for line in text.splitlines()]
    found = [line for line in lines if re.match(r"(count|curr)=", line)]
    if len(found) < 2:
        raise ValueError(
            "expected two lines `count=...` (the warm-up's and the timed runs'), found "
            f"{len(found)}; the last line is {_last(lines)!r}"
        )
    warmup, timed = parse_statistics(found[0]), parse_statistics(found[1])
    if timed is None:
        raise ValueError("expected at least one timed run, found `count=0`")
    return BenchmarkOutput(
        init_ms=_init_ms(lines),
        first_ms=timed.first_ms if warmup is None else warmup.first_ms,
        timed=timed,
        peak_memory_bytes=_peak_memory(lines),
        ignored_flags=_after("Unconsumed cmdline flags: ", lines) or "",
    )


def parse_statistics(line: str) -> Statistics | None:
    """One line of statistics; None for `count=0`, whose other figures mean nothing.

    Raises:
        ValueError: it is no such line.
    """
    values = {key: number(word, line) for key, word in STATISTIC.findall(line)}
    count = values.get("count")
    if count == 0:
        return None
    if count is None or count != int(count) or count < 0 or "curr" not in values:
        raise ValueError(f"expected `count=N first=... curr=... min=... max=... avg=... std=...`, found {line!r}")
    if "avg" not in values:  # one run, or all the same
        if count > 1 and "(all same)" not in line:
            raise ValueError(f"expected avg=... among the statistics of {count:.0f} runs, found {line!r}")
        values = dict.fromkeys(("first", "min", "max", "avg", "median"), values["curr"]) | {"std": 0.0} | values
    missing = [key for key in ("min", "max", "avg", "std") if key not in values]
    if missing:
        raise ValueError(f"expected {', '.join(missing)} among the statistics, found {line!r}")
    milliseconds = {key: value / 1000 for key, value in values.items()}
    return Statistics(
        count=int(count), first_ms=milliseconds.get("first"), min_ms=milliseconds["min"],
        max_ms=milliseconds["max"], mean_ms=milliseconds["avg"], std_ms=milliseconds["std"],
        median_ms=milliseconds.get("median"), p5_ms=milliseconds.get("p5"), p95_ms=milliseconds.get("p95"),
    )


def delegate_notes(text: str) -> tuple[str, ...]:
    """Which delegates took how many operations, and each fall-back to the CPU, which is no error to the tool."""
    notes = [
        f"{delegate} took {taken} of {of} operations" if of else f"{delegate} took {taken} operations"
        for taken, of, delegate in REPLACED.findall(text)
    ]
    fallen = NOT_EXECUTED.findall(text)
    notes += [f"{name} was asked for, but does not execute the model: it ran on the CPU" for name in fallen]
    for flag, names in REQUESTED.items():
        taken = any(names.search(delegate) for _, _, delegate in REPLACED.findall(text))
        told = any(names.search(name) for name in fallen)
        if f"{flag}: [1]" in text and not taken and not told:
            notes.append(f"{flag} was asked for, but no delegate took an operation: it ran on the CPU")
    return tuple(dict.fromkeys(notes))


def number(word: str, where: str) -> float:
    """A figure that a tool printed, in the line `where`. Raises ValueError."""
    try:
        value = float(word)
    except ValueError as error:
        raise ValueError(f"expected a number, found {word!r} in {where!r}") from error
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a number that can be a time, found {word!r} in {where!r}")
    return value


def _init_ms(lines: list[str]) -> float:
    text = "\n".join(lines)
    for pattern, per_ms in (
        (r"Inference timings in us: Init: ([^\s,]+)", 1000.0),
        (r"Initialized session in ([^\sm]+) ?ms", 1.0),
        (r"Model initialization: +(\S+) ms", 1.0),
    ):
        match = re.search(pattern, text)
        if match:
            return number(match.group(1), match.group(0)) / per_ms
    raise ValueError(f"expected `Inference timings in us: Init: ...`, found none; the last line is {_last(lines)!r}")


def _peak_memory(lines: list[str]) -> int | None:
    for label in ("Overall peak memory footprint (MB) via periodic monitoring: ", "Peak memory:"):
        word = _after(label, lines)
        if word is not None:
            return round(number(word.removesuffix("MB").strip(), word) * MIB)
    return None


def _after(label: str, lines: list[str]) -> str | None:
    return next((line[len(label):].strip() for line in lines if line.startswith(label)), None)


def _last(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if line), "")[:120]
