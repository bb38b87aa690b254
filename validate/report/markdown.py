"""`report.md`: the report for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgeship.core.artifact import Quantization
from edgeship.core.measurement import Agreement, Grid, Latency, LayerErrors, Report, Row, TargetRecord
from edgeship.validate.process.machine import FLAGS_THAT_MATTER
from edgeship.validate.questions.formats import between_formats, formats_sentence
from edgeship.validate.report.columns import (
    EXACT,
    LEGEND,
    NOT_APPLICABLE,
    NOT_MEASURED,
    cells,
    columns_of,
    megabytes,
    points,
    share_percent,
)
from edgeship.validate.report.gfm import bullets, escaped, section, table
from edgeship.validate.report.layer_columns import LAYER_COLUMNS, LAYER_LEGEND, layer_cells, layer_sentence
from edgeship.validate.report.ship_lines import (
    SHIP_COLUMNS,
    ship_cells,
    ship_legend,
    ship_sentence,
    ship_sources,
)
from edgeship.validate.report.sustained_lines import (
    SUSTAINED_COLUMNS,
    SUSTAINED_LEGEND,
    sustained_cells,
    sustained_rows,
)
from edgeship.validate.subject.rows import row_label
from edgeship.validate.timing.summary import P99_SAMPLES

HEADLINES = {
    "pass": "PASS: every gate holds",
    "fail": "FAIL: at least one gate does not hold",
    "inconclusive": "INCONCLUSIVE: no gate fails, but what was measured does not show that all hold",
    "refused": "REFUSED: not all that was asked could be measured, so it is not proven",
}

PROFILE_ROWS = 10
AGREEMENT_COLUMNS = (
    "first", "second", "top-1 agreement", "max LSB", "differing outputs", "SQNR dB (least)", "delta, points [95 %]",
)

FOR_COMPARISONS = ("identity", "counters")  # of what a target tells: for programs, see validate/compare/environment.py

DETAILS: dict[str, Callable[[Latency], str]] = {
    "load ms": lambda latency: _figure(latency.load_ms),
    "first inference ms": lambda latency: _figure(latency.first_ms),
    "median ms": lambda latency: _figure(latency.median_ms),
    "CPU ms": lambda latency: _figure(latency.median_cpu_ms),
    "mean ms": lambda latency: _figure(latency.mean_ms),
    "min ms": lambda latency: _figure(latency.min_ms),
    "p99 ms": lambda latency: _figure(latency.p99_ms),
    "samples": lambda latency: str(len(latency.samples_ms)) if latency.samples_ms else NOT_MEASURED,
    "launch sd": lambda latency: NOT_MEASURED if latency.launch_sd is None else share_percent(latency.launch_sd, 1),
    "wall / CPU": lambda latency: NOT_MEASURED if latency.wall_per_cpu is None else f"{latency.wall_per_cpu:.2f}",
}
DETAILS_LEGEND = (
    "load and first inference: the median over launches",
    "CPU: the median CPU time of an inference, of all threads; wall / CPU: with one thread above about 1.1 others had "
    "the processor too, so the times are too long",
    f"p99: only from {P99_SAMPLES:,} samples up (validate.latency_runs)",
    "launch sd: standard deviation of the launches' medians, relative",
    "peak memory: of the whole process, Python and the runtime included; of a process of its own, which is not timed",
)
PROFILE_LEGEND = (
    f"the {PROFILE_ROWS} operations that take longest, as the runtime's own profiler tells, in a run of its own; a "
    "profiler makes an inference slower",
    "both runtimes cut the time of each operation off to whole microseconds; share: of all operations together",
)


def report_to_markdown(report: Report) -> str:
    """The whole report as Markdown; the same report gives the same text."""
    parts = [
        f"# Validation of {escaped(report.bundle)}",
        f"**{headline(report)}**",
        *_ship(report),
        *section("Failures", report.failures),
        *bullets(format_lines(report)),
        "## Artifacts on their runtimes",
        _main_table(report.rows),
        *bullets(LEGEND),
        *_starts(report.rows),
        *_sustained(report.rows),
        *_profiles(report.rows),
        *_weights(report),
        *_agreements(report.agreements),
        *_grids(report.grids),
        *_layer_errors(report.layer_errors),
        *section("Notes", report.notes),
        *_targets(report.targets),
        *section("Machine", machine_lines(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _ship(report: Report) -> Iterator[str]:
    """What to ship where, and whether it is good enough."""
    if not report.ship:
        return
    yield "## What to ship"
    yield table(
        [*SHIP_COLUMNS, "good enough, and why"], [[*ship_cells(line), ship_sentence(line)] for line in report.ship]
    )
    yield from bullets([ship_legend(report.ship), *ship_sources(report.ship)])


def headline(report: Report) -> str:
    """The verdict in words, with what it says nothing of."""
    unjudged = f" (not judged: {'; '.join(report.not_judged)})" if report.not_judged else ""
    return HEADLINES[report.verdict] + unjudged


def _main_table(rows: Sequence[Row]) -> str:
    columns = columns_of(rows)
    return table(columns, [cells(row, columns) for row in rows])


def machine_lines(report: Report) -> Iterator[str]:
    """What the figures depend on."""
    machine = report.machine
    flags = machine["cpu_flags"]
    yield f"CPU: {machine['cpu_model'] or 'unknown'}, {machine['logical_cores']} logical cores, " + (
        "flags unknown" if flags is None else f"of the flags that matter: {', '.join(flags) or 'none'}"
    )
    load = f"{machine['load_average_1min']:.2f}"
    yield f"memory: {machine['memory_bytes'] / 2**30:.1f} GiB; load average at the start: {load}"
    yield f"{machine['os']}, Python {machine['python']}"
    yield ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    threads = sorted({row.threads for row in report.rows})
    yield f"threads of the latency measurement: {', '.join(map(str, threads)) or 'none'}"
    yield f"{report.created_by}, {report.created_at}"


def _starts(rows: Sequence[Row]) -> Iterator[str]:
    """What an app notices besides the usual inference: starting, the first answer, the slow ones, memory."""
    timed = [row for row in rows if row.latency is not None or row.peak_memory_bytes is not None]
    if not timed:
        return
    yield "## Latency in detail, starting, and memory"
    yield table(
        ["artifact", "runtime", "target", *DETAILS, "peak memory"],
        [
            [
                row.artifact, row.runtime, row.target,
                *(NOT_MEASURED if row.latency is None else draw(row.latency) for draw in DETAILS.values()),
                megabytes(row.peak_memory_bytes),
            ]
            for row in timed
        ],
    )
    yield from bullets(DETAILS_LEGEND)


def _sustained(rows: Sequence[Row]) -> Iterator[str]:
    """Whether rows keep their speed while they run without a pause."""
    found = sustained_rows(rows)
    if found:
        yield "## Sustained speed"
        yield table(SUSTAINED_COLUMNS, [sustained_cells(row, measured) for row, measured in found])
        yield from bullets(SUSTAINED_LEGEND)


def _profiles(rows: Sequence[Row]) -> Iterator[str]:
    """The operations that take longest; `report.json` has all of them."""
    profiled = [(row, row.profile) for row in rows if row.profile is not None]
    if not profiled:
        return
    yield "## Where the time goes"
    yield from bullets(PROFILE_LEGEND)
    for row, profile in profiled:
        yield (
            f"{escaped(row_label(row.artifact, row.runtime, row.target))}: {len(profile.operations)} operations, which "
            f"add up to {share_percent(profile.share_told, 0)} of the {profile.inference_us:.0f} us of an inference "
            f"under the profiler (mean of {profile.inferences})"
        )
        yield table(
            ["operation", "kind", "mean us", "share"],
            [
                [item.operation, item.kind, f"{item.mean_us:.1f}", share_percent(item.share, 1)]
                for item in profile.operations[:PROFILE_ROWS]
            ],
        )


def _figure(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.3f}"


def _targets(targets: Sequence[TargetRecord]) -> Iterator[str]:
    """What the other targets are, and their state before and after."""
    others = [target for target in targets if target.machine is not None or target.error is not None]
    if not others:
        return
    yield from section("Targets", (line for target in others for line in target_lines(target)))


def target_lines(target: TargetRecord) -> Iterator[str]:
    """One target in a few lines; what it does not tell is left out."""
    if target.error is not None:
        yield f"{target.name} ({target.kind}): {target.error}"
        return
    machine = target.machine or {}
    told = [
        f"{key.replace('_', ' ')} {_short(value)}" for key, value in machine.items()
        if value not in (None, "", {}) and key not in FOR_COMPARISONS
    ]
    yield f"{target.name} ({target.kind}): {'; '.join(told) or 'tells nothing of itself'}"
    before, after = target.state_before or {}, target.state_after or {}
    changes = [
        f"{key.replace('_', ' ')} {_short(before.get(key))} before, {_short(after.get(key))} after"
        for key in before
        if (before.get(key) is not None or after.get(key) is not None) and key not in FOR_COMPARISONS
    ]
    if changes:
        yield f"{target.name}: {'; '.join(changes)}"


def _short(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        kept = [str(item) for item in value if str(item) in FLAGS_THAT_MATTER]
        return ", ".join(kept) or "none that matter"
    return str(value)


def _bits(account: Quantization) -> str:
    special = (account.weight_range, account.weight_scales)
    return ", ".join([f"{account.weight_bits}", *(item for item in special if item not in ("full", "per-channel"))])


def _weights(report: Report) -> Iterator[str]:
    """The account of kernels by scheme, and what is computed in float on purpose."""
    if not report.quantization:
        return
    yield "## Quantized kernels, and layers kept in float"
    yield table(
        ["scheme", "layers with int8 kernels, found of expected", "bits", "layers kept in float"],
        [
            [
                scheme, f"{account.weights_quantized} of {account.weights_expected}", _bits(account),
                ", ".join(account.kept_float) or "none",
            ]
            for scheme, account in report.quantization.items()
        ],
    )
    kept = [row for row in report.rows if row.coverage is not None and row.coverage.kept_float]
    yield from bullets(
        f"{row_label(row.artifact, row.runtime, row.target)}: executed in float on purpose: "
        + ", ".join(row.coverage.kept_float if row.coverage is not None else ())
        for row in kept
    )


def kept_lines(report: Report) -> Iterator[str]:
    """Which schemes leave layers in float."""
    for scheme, account in report.quantization.items():
        if account.kept_float:
            yield f"{scheme}: kept in float: {', '.join(account.kept_float)}"


def format_lines(report: Report) -> Iterator[str]:
    """How far the formats of each model part on this machine."""
    for item in report.agreements:
        if between_formats(item):
            yield f"{item.first} and {item.second}: {formats_sentence(item)}"


def _agreements(agreements: Sequence[Agreement]) -> Iterator[str]:
    if not agreements:
        return
    yield "## Pairs on one integer grid, or of one scheme in two formats"
    yield table(AGREEMENT_COLUMNS, map(agreement_cells, agreements))
    yield from bullets([f"delta: second minus first, on the same {agreements[0].images:,} examples"])


def agreement_cells(item: Agreement) -> list[str]:
    """Return a pair's cells, in the order of AGREEMENT_COLUMNS."""
    return [
        item.first, item.second,
        NOT_APPLICABLE if item.top1_agreement is None else share_percent(item.top1_agreement),
        NOT_APPLICABLE if item.max_lsb is None else str(item.max_lsb),
        NOT_APPLICABLE if item.differing_share is None else share_percent(item.differing_share),
        _between(item), _accuracy_delta(item),
    ]


def _accuracy_delta(item: Agreement) -> str:
    if item.accuracy_delta is None or item.accuracy_delta_ci95 is None:
        return NOT_APPLICABLE
    lower, upper = item.accuracy_delta_ci95
    return f"{points(item.accuracy_delta)} [{points(lower)}, {points(upper)}]"


def _between(item: Agreement) -> str:
    """Of two formats only; in parentheses what their rounding explains."""
    if item.sqnr_db is None:
        return EXACT if item.max_lsb == 0 else NOT_APPLICABLE
    return f"{item.sqnr_db:.1f}" + ("" if item.least_sqnr_db is None else f" ({item.least_sqnr_db:.1f})")


def _grids(grids: Sequence[Grid]) -> Iterator[str]:
    if not grids:
        return
    yield "## ONNX against TFLite, tensor by tensor and layer by layer"
    for grid in grids:
        yield escaped(f"{grid.onnx} against {grid.tflite}: {grid_sentence(grid)}.")
        yield from bullets(grid.mismatches)
        if grid.not_compared:
            yield from bullets([f"not compared: {'; '.join(grid.not_compared)}"])


def grid_sentence(grid: Grid) -> str:
    """The comparison of two files in words."""
    if grid.error is not None and not grid.tensors_compared:
        return grid.error
    tensors = f"{grid.tensors_compared - len(grid.mismatches)} of {grid.tensors_compared} tensors are equal"
    if grid.layers_compared is None:
        return f"{tensors}; layers: {grid.error}"
    of_all = "" if grid.layers_total in (None, grid.layers_compared) else f" of {grid.layers_total}"
    layers = f"{grid.layers_compared}{of_all} layers compared"
    if grid.layer_max_lsb is not None:
        layers += f", at most {grid.layer_max_lsb} LSB apart given the same integers ({grid.worst_layer})"
    return f"{tensors}; {layers}" + ("" if grid.error is None else f"; {grid.error}")


def _layer_errors(tables: Sequence[LayerErrors]) -> Iterator[str]:
    if not tables:
        return
    yield "## Integer against float, layer by layer"
    yield from bullets(LAYER_LEGEND)
    for item in tables:
        against = "" if item.reference is None else f" against {item.reference}"
        images = "" if not item.images else f", {item.images} examples"
        yield escaped(f"{item.artifact}{against}{images}: {layer_sentence(item)}.")
        if item.layers:
            yield table(LAYER_COLUMNS, layer_cells(item))
        if item.not_compared:
            yield from bullets([f"without a counterpart in {item.reference}: {', '.join(item.not_compared)}"])
