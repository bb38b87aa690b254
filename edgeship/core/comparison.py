"""What a latency comparison found: frozen records with the unit in every field name.

A figure that was not measured is None, never 0 and never a guess.

Schema history of `comparison.json`:
    1   first version
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COMPARISON_SCHEMA = 1
COMPARISON_FILE = "comparison.json"

IMPROVED, PASS, REGRESSION, INCONCLUSIVE, REFUSED = "improved", "pass", "regression", "inconclusive", "refused"
VERDICTS = (REGRESSION, REFUSED, INCONCLUSIVE, PASS, IMPROVED)  # the first that any check has is the whole verdict

CPU_TIME, WALL_TIME = "cpu_time", "wall_time"
METRIC_NAMES = {CPU_TIME: "CPU time", WALL_TIME: "wall time"}

# Of an exact gate.
SAME, CHANGED, WORSE, NOT_MEASURED = "same", "changed", "worse", "not measured"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the two artifacts of a check."""

    file: str  # as it was given, or its path in the bundle
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Exact:
    """One exact gate: a figure that has no noise, so one look decides.

    `outcome` is "same", "changed" (told, not gated), "worse" (fails the check) or "not measured"; `sentence`
    says what was found, with the names of operations where there are some.
    """

    gate: str  # "operations", "coverage", "delegate", "multiply_accumulates", "size_bytes", "instructions" ...
    outcome: str
    baseline: float | None
    candidate: float | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm in one launch: a fresh process. One element per round, each the mean over the round's inferences."""

    wall_ns: tuple[float, ...]
    cpu_ns: tuple[float, ...]  # empty where the runtime's tool does not tell
    load_ms: float | None
    first_ms: float | None
    involuntary_switches: int | None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Both arms in fresh processes, in the same seconds, on the same core: one observation.

    `log_ratio` is the median over rounds of ln(candidate / baseline), of the check's metric.
    """

    log_ratio: float
    core: int | None  # that both were bound to
    baseline: Side
    candidate: Side
    canary_ns: int | None  # what a fixed piece of work took just before
    discarded: str | None = None  # why it does not count: the clock changed (see compare/timing.py)


@dataclass(frozen=True, kw_only=True)
class ArmTiming:
    """One arm over all launches; milliseconds per inference."""

    median_ms: float | None
    p90_ms: float | None
    p99_ms: float | None  # only from 1000 inferences that were timed one by one
    mean_ms: float
    min_ms: float
    median_cpu_ms: float | None
    load_ms: float | None  # median over launches
    first_ms: float | None  # the same
    peak_memory_bytes: int | None  # of a run of its own


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The timed part of a check. Ratios are candidate / baseline: 1.03 is 3 % slower.

    `ratio` is the Hodges-Lehmann estimate over launches. The true ratio is above `ratio_low` except with
    probability `alpha`, and below `ratio_high` except with probability `beta`, over all looks together.
    """

    metric: str  # "cpu_time" or "wall_time", chosen by the pilot
    ratio: float | None  # None: no launch was finished
    ratio_low: float | None  # None: not bounded yet
    ratio_high: float | None
    alpha: float
    beta: float
    tolerance: float  # shares: 0.02 is 2 %
    limit: float
    launches: int  # that count
    rounds: int  # per launch
    inferences_per_round: int
    looks: tuple[int, ...]  # planned
    smallest_detectable: float | None  # the true slowdown that would be called a regression in 90 % of such checks
    launch_sd: float | None  # standard deviation of the launches' log ratios
    round_sd: float | None  # the part of it that the rounds within a launch explain
    wall_per_cpu: float | None  # above 1.1 others had the core too
    seconds: float
    stopped: str  # why no further launch was made
    baseline: ArmTiming | None
    candidate: ArmTiming | None
    samples: tuple[Launch, ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """Two artifacts of one name on one runtime of one target."""

    name: str  # "int8-qat.tflite", or "baseline.onnx -> candidate.onnx"
    runtime: str
    target: str
    kind: str  # "native", "emulated" or "device"
    threads: int
    baseline: Arm
    candidate: Arm
    verdict: str
    reasons: tuple[str, ...]  # sentences
    advice: tuple[str, ...]  # what to do where there is no verdict
    exact: tuple[Exact, ...]
    timing: Timing | None  # None: not needed (identical, or an exact gate failed), or not possible

    @property
    def label(self) -> str:
        """How it is named in reports: "int8-qat.onnx / onnxruntime", and " on target" where not this machine."""
        return f"{self.name} / {self.runtime}" + ("" if self.target == "cpu" else f" on {self.target}")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where it was measured: what must be equal to compare stored times, and how busy it was."""

    target: str
    fingerprint: dict[str, Any]
    state_before: dict[str, Any] | None
    state_after: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`comparison.json`, the source of every other form."""

    schema: int
    created_by: str
    created_at: str  # ISO 8601, UTC
    commit: str | None  # of the repository it was run in
    baseline: str  # as given
    candidate: str
    self_test: bool  # both arms are the same artifact, on purpose
    verdict: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    interrupted: bool  # what is here was measured before Ctrl-C
    seconds: float
    environments: tuple[Environment, ...]
    checks: tuple[Check, ...]
