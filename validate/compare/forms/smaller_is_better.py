"""`smaller_is_better.json`: what github-action-benchmark reads with `tool: customSmallerIsBetter`.

    [{"name": "resnet-int8-qat.onnx@cpu/onnxruntime latency", "unit": "ms", "value": 1.45, "range": ..., "extra": ...}]

Source: benchmark-action/github-action-benchmark, src/extract.ts (`BenchmarkResult`). A figure that was not measured
has no entry, since `value` is a number.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.core.comparison import Check, Comparison
from edgeship.validate.compare.forms.columns import (
    INTERRUPTED,
    METRIC_NAMES,
    interval,
    metric_ms,
    processor,
    series_name,
)

Entry = dict[str, str | float]
# Exact gates of which less is better, and their units; of coverage more is.
UNITS = {
    "multiply_accumulates": "multiply-accumulates",
    "instructions": "instructions",
    "arena_bytes": "bytes",
    "peak_memory_bytes": "bytes",
}


def comparison_to_smaller_is_better(comparison: Comparison) -> list[Entry]:
    """The candidates' figures."""
    return [entry for check in comparison.checks for entry in _entries(comparison, check)]


def _entries(comparison: Comparison, check: Check) -> Iterator[Entry]:
    name, timing = series_name(check), check.timing
    lines = [f"verdict: {check.verdict}", f"CPU: {processor(comparison, check)}"]
    if comparison.interrupted:
        lines.append(INTERRUPTED)
    extra = "\n".join(lines)
    if timing is not None and timing.ratio is not None:
        change = interval(timing)
        details = (
            f"{METRIC_NAMES[timing.metric]}, {timing.launches} launches x {timing.rounds} rounds, "
            f"against the baseline {change}\n{extra}"
        )
        median_ms = metric_ms(timing.candidate, timing.metric)
        if median_ms is not None:
            yield {"name": f"{name} latency", "unit": "ms", "value": median_ms, "range": change, "extra": details}
        yield {
            "name": f"{name} latency against baseline", "unit": "ratio", "value": timing.ratio, "range": change,
            "extra": details,
        }
    yield {"name": f"{name} size", "unit": "bytes", "value": check.candidate.size_bytes, "extra": extra}
    for item in check.exact:
        if item.gate in UNITS and item.candidate is not None:
            yield {"name": f"{name} {item.gate}", "unit": UNITS[item.gate], "value": item.candidate, "extra": extra}
