"""`bencher.json`: Bencher Metric Format, for `bencher run --adapter json --file bencher.json`.

    {"resnet-int8-qat.onnx@cpu/onnxruntime": {"latency": {"value": 1450000.0, "lower_value": ..., "upper_value": ...}}}

Source: bencher.dev/docs/reference/bencher-metric-format. `latency` (nanoseconds) and `file-size` (bytes) are measures
that Bencher knows; the others it makes when it first sees them. A figure that was not measured is left out, since the
format has no null.
"""

from __future__ import annotations

from edgeship.core.comparison import CPU_TIME, WALL_TIME, Check, Comparison, Timing
from edgeship.validate.compare.forms.columns import series_name

Metric = dict[str, float]
# Bencher strips it and raises no alert: of a comparison that was cut short (bencher_valid, benchmark_name.rs).
IGNORE = "-bencher-ignore"
NS_PER_MS = 1e6
BENCHERS_OWN = {"size_bytes": "file-size"}


def comparison_to_bencher(comparison: Comparison) -> dict[str, dict[str, Metric]]:
    """Benchmark name -> measure -> metric, of the candidates.

    The interval of a time is the check's for the ratio, laid around the candidate's median; it has no interval where
    the check went by the other metric. `latency-ratio` is the only time that may be compared between machines.
    """
    suffix = IGNORE if comparison.interrupted else ""
    return {f"{series_name(check)}{suffix}": _measures(check) for check in comparison.checks}


def _measures(check: Check) -> dict[str, Metric]:
    measures: dict[str, Metric] = {"file-size": {"value": float(check.candidate.size_bytes)}}
    for item in check.exact:
        if item.candidate is not None:
            measures[BENCHERS_OWN.get(item.gate, item.gate.replace("_", "-"))] = {"value": float(item.candidate)}
    timing = check.timing
    if timing is None:
        return measures
    arm = timing.candidate
    if arm is not None and arm.median_ms is not None:
        measures["latency"] = _metric(timing, arm.median_ms * NS_PER_MS, WALL_TIME)
    if arm is not None and arm.median_cpu_ms is not None:
        measures["cpu-time"] = _metric(timing, arm.median_cpu_ms * NS_PER_MS, CPU_TIME)
    if timing.ratio is not None:
        measures["latency-ratio"] = _metric(timing, timing.ratio, timing.metric)
    return measures


def _metric(timing: Timing, value: float, metric: str) -> Metric:
    found = {"value": value}
    if timing.ratio is not None and metric == timing.metric:
        for key, bound in (("lower_value", timing.ratio_low), ("upper_value", timing.ratio_high)):
            if bound is not None:
                found[key] = value * bound / timing.ratio
    return found
