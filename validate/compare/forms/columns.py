"""The columns of a comparison's table as text, and the sentences under it: one place for units and digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgeship.core.comparison import (
    CPU_TIME,
    IMPROVED,
    INCONCLUSIVE,
    METRIC_NAMES,
    PASS,
    REFUSED,
    REGRESSION,
    SAME,
    ArmTiming,
    Check,
    Comparison,
    Environment,
    Exact,
    Timing,
)
from edgeship.validate.process.machine import FLAGS_THAT_MATTER
from edgeship.validate.report.columns import NOT_MEASURED

HEADLINES = {
    IMPROVED: "IMPROVED: faster than the baseline",
    PASS: "PASS: no slower than the limit allows",
    REGRESSION: "REGRESSION: slower, larger, or with other operations than allowed",
    INCONCLUSIVE: "INCONCLUSIVE: neither a regression nor a pass is shown",
    REFUSED: "REFUSED: not all that was asked could be compared, so there is no verdict",
}
INTERRUPTED = "INTERRUPTED: only what was measured before Ctrl-C is here"
NO_BOUND = "no bound"

LEGEND = (
    f"{NOT_MEASURED}: not measured, or not needed",
    "change: of the candidate's time per inference against the baseline's; the true change is below the first bound "
    "as rarely as a false alarm may happen, and above the second as rarely as a false pass",
    "ms: median of the metric per inference; CPU time is what the process used, wall time what passed",
    "launches x rounds: a launch is one observation, both artifacts in fresh processes; rounds are its turns",
    "detectable: the smallest true slowdown that 90 % of such checks would call a regression",
)


def cells(comparison: Comparison, check: Check) -> list[str]:
    """One row of the table; as many as COLUMNS."""
    return [draw(comparison, check) for draw in COLUMNS.values()]


def change(ratio: float | None) -> str:
    """1.031 -> "+3.1 %"; `None` is not measured."""
    return NOT_MEASURED if ratio is None else f"{(ratio - 1) * 100:+.1f} %"


def interval(timing: Timing | None) -> str:
    """ "+3.1 % [+2.2, +4.0]"."""
    if timing is None or timing.ratio is None:
        return NOT_MEASURED
    bounds = (
        NO_BOUND if bound is None else f"{(bound - 1) * 100:+.1f}" for bound in (timing.ratio_low, timing.ratio_high)
    )
    return f"{change(timing.ratio)} [{', '.join(bounds)}]"


def figure(value: float | None) -> str:
    """Of an exact gate: 21528712.0 -> "21,528,712", 0.98214 -> "0.9821"."""
    if value is None:
        return NOT_MEASURED
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def metric_ms(arm: ArmTiming | None, metric: str) -> float | None:
    """The median of the metric that the check went by, in milliseconds."""
    if arm is None:
        return None
    return arm.median_cpu_ms if metric == CPU_TIME else arm.median_ms


def series_name(check: Check) -> str:
    """What services that draw a line over commits call it: "resnet-int8-qat.onnx@cpu/onnxruntime"."""
    return f"{check.name}@{check.target}/{check.runtime}"


def environment_of(comparison: Comparison, check: Check) -> Environment | None:
    """Where the check was made; None where the target was gone before it could be asked."""
    on_target = [item for item in comparison.environments if item.target == check.target]
    return next(
        (item for item in on_target if item.fingerprint.get("must_match", {}).get("runtime") == check.runtime),
        on_target[0] if on_target else None,
    )


def processor(comparison: Comparison, check: Check) -> str:
    """ "AMD EPYC 7B13 (avx2)": the model, and those of its instructions that integer kernels use."""
    environment = environment_of(comparison, check)
    return "unknown" if environment is None else processor_of(environment)


def processor_of(environment: Environment) -> str:
    """The same of an environment."""
    model, flags = (environment.fingerprint.get(key) for key in ("cpu_model", "cpu_flags"))
    told = "flags unknown" if flags is None else ", ".join(
        flag for flag in FLAGS_THAT_MATTER if flag in flags
    ) or "no flags that matter"
    return f"{model or 'unknown'} ({told})"


def title(comparison: Comparison) -> str:
    """What was compared with what."""
    if comparison.self_test:
        return f"Latency self-test of {comparison.baseline}"
    return f"Latency of {comparison.candidate} against {comparison.baseline}"


def headlines(comparison: Comparison) -> list[str]:
    """The verdict, and that it was cut short."""
    return [HEADLINES[comparison.verdict], *([INTERRUPTED] if comparison.interrupted else [])]


def differing_gates(comparison: Comparison) -> Iterator[tuple[Check, Exact]]:
    """Every exact gate that found another thing than "same"."""
    for check in comparison.checks:
        for item in check.exact:
            if item.outcome != SAME:
                yield check, item


def reasons(comparison: Comparison) -> list[str]:
    """Why the verdicts are as they are, without the sentences of exact gates, which are listed by themselves."""
    told = {f"{check.label}: {check.verdict}: {item.sentence}" for check, item in differing_gates(comparison)}
    return [reason for reason in comparison.reasons if reason not in told]


def advice(comparison: Comparison) -> list[str]:
    """What to do where there is no verdict."""
    return [f"{check.label}: {sentence}" for check in comparison.checks for sentence in check.advice]


def machine_lines(comparison: Comparison) -> list[str]:
    """What the times depend on, and who made them."""
    lines = dict.fromkeys(f"{item.target}: {processor_of(item)}" for item in comparison.environments)
    commit = "" if comparison.commit is None else f", commit {comparison.commit}"
    return [*lines, f"{comparison.created_by}, {comparison.created_at}, {comparison.seconds:.0f} s{commit}"]


def _of_timing(draw: Callable[[Timing], str]) -> Callable[[Comparison, Check], str]:
    return lambda _, check: NOT_MEASURED if check.timing is None else draw(check.timing)


def _median(arm: str) -> Callable[[Timing], str]:
    def draw(timing: Timing) -> str:
        value = metric_ms(getattr(timing, arm), timing.metric)
        return NOT_MEASURED if value is None else f"{value:.3f}"

    return draw


COLUMNS: dict[str, Callable[[Comparison, Check], str]] = {
    "check": lambda _, check: check.label,
    "verdict": lambda _, check: check.verdict,
    "change [bounds]": lambda _, check: interval(check.timing),
    "baseline ms": _of_timing(_median("baseline")),
    "candidate ms": _of_timing(_median("candidate")),
    "metric": _of_timing(lambda timing: METRIC_NAMES[timing.metric]),
    "launches x rounds": _of_timing(lambda timing: f"{timing.launches} x {timing.rounds}"),
    "detectable": _of_timing(
        lambda timing: NOT_MEASURED if timing.smallest_detectable is None else change(1 + timing.smallest_detectable)
    ),
    "CPU": processor,
}
