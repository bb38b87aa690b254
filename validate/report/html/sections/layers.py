"""Layer by layer: error, multiply-accumulates, parameters, time and activation memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeship.core.evidence import LayerCost, NetworkCost
from edgeship.core.layer_names import KERNEL_SUFFIXES, kernel_names
from edgeship.core.measurement import LayerErrors, OperationTime, Profile, Report, Row
from edgeship.core.schemes import SCHEMES
from edgeship.validate.report.columns import share_percent
from edgeship.validate.report.html.blocks import NOT_MEASURED, Block, Lines, Plot, Table, missing
from edgeship.validate.report.html.chosen import chosen_row
from edgeship.validate.report.html.plots import SERIES, svg_of
from edgeship.validate.report.layer_columns import LAYER_LEGEND, layer_sentence
from edgeship.validate.report.markdown import PROFILE_ROWS
from edgeship.validate.subject.rows import CPU, row_label

COLUMNS = (
    "layer", "operation", "SQNR dB", "max LSB", "multiply-accumulates", "share of them", "parameters",
    "activation bytes", "share of the time",
)
NO_ERRORS = (
    "the errors of layers are measured where an integer file's answers fail, or with edgeship validate --layers"
)


def layers(report: Report) -> Iterator[Block]:
    """Yield a plot and a table of the chosen integer file, and a folded table of each other integer file."""
    networks = {item.artifact: item for item in report.networks}
    names = [name for name in networks if _is_integer(report, name)]
    if not names:
        yield from missing("no integer file of this bundle could be read")
        return
    chosen = chosen_row(report)
    first = chosen.artifact if chosen is not None and chosen.artifact in names else names[0]
    errors = {item.artifact: item for item in report.layer_errors}
    for name in sorted(names, key=lambda name: name != first):
        yield from _of_file(report, networks[name], errors.get(name), folded=name != first)
    if errors:
        yield Lines(items=LAYER_LEGEND, folded_under="What the columns are")


def where_the_time_goes(report: Report) -> Iterator[Block]:
    """Yield each profile's operations, the longest first."""
    profiled = [(row, row.profile) for row in report.rows if row.profile is not None]
    if not profiled:
        yield from missing("no runtime told the time of its operations")
        return
    chosen = chosen_row(report)
    for row, profile in sorted(profiled, key=lambda pair: pair[0] is not chosen):
        caption = (
            f"{row_label(row.artifact, row.runtime, row.target)}: {len(profile.operations)} operations, "
            f"{share_percent(profile.share_told, 0)} of {profile.inference_us:.0f} us per inference under the profiler"
        )
        shown = len(profile.operations) if row is not chosen else PROFILE_ROWS
        yield _operations(caption, profile.operations[:shown], folded=row is not chosen)
        if profile.operations[shown:]:
            yield _operations("The operations that take less", profile.operations[shown:], folded=True)


def _operations(caption: str, operations: Sequence[OperationTime], *, folded: bool) -> Table:
    return Table(
        caption=caption, columns=("operation", "kind", "mean us", "share"), folded=folded,
        rows=[[item.operation, item.kind, f"{item.mean_us:.1f}", share_percent(item.share, 1)] for item in operations],
    )


def _is_integer(report: Report, artifact: str) -> bool:
    return any(row.artifact == artifact and SCHEMES[row.scheme].integer for row in report.rows)


def _of_file(
    report: Report, network: NetworkCost, errors: LayerErrors | None, *, folded: bool
) -> Iterator[Block]:
    if network.error is not None:
        yield Lines(items=[f"{network.artifact}: {NOT_MEASURED}: {network.error}"])
        return
    row = _profiled(report, network.artifact)
    profile = None if row is None else row.profile
    totals = (
        f"{network.parameters:,} parameters; multiply-accumulates: {_count(network.multiply_accumulates)}; activations "
        f"alive at once: {_bytes(network.arena_bytes)}"
    )
    if not folded:
        yield Lines(items=[
            f"{network.artifact}: {totals}",
            f"errors of layers: {NOT_MEASURED if errors is None else layer_sentence(errors)}",
            *([NO_ERRORS] if errors is None else []),
        ])
        yield Plot(
            svg=_profile_of_layers(network, errors),
            caption=f"{network.artifact} layer by layer, in the order in which they run.",
        )
    yield Table(
        caption=f"{network.artifact}: {totals}" + ("" if row is None else f"; times of {row.runtime}"),
        columns=COLUMNS, rows=list(_rows(network, errors, profile)), folded=True,
    )


def _profiled(report: Report, artifact: str) -> Row | None:
    rows = [row for row in report.rows if row.artifact == artifact and row.profile is not None]
    return min(rows, key=lambda row: row.target != CPU, default=None)


def _rows(network: NetworkCost, errors: LayerErrors | None, profile: Profile | None) -> Iterator[list[str]]:
    found = {} if errors is None else {item.layer: item for item in errors.layers}
    times = {} if profile is None else {KERNEL_SUFFIXES.sub("", item.operation): item for item in profile.operations}
    told = 0.0
    for item in network.layers:
        error, time = found.get(item.layer), _time_of(item, times)
        told += 0.0 if time is None else time.share
        yield [
            item.layer, item.kind,
            NOT_MEASURED if error is None else "exact" if error.sqnr_db is None else f"{error.sqnr_db:.1f}",
            NOT_MEASURED if error is None else f"{error.max_lsb:.1f}", _count(item.multiply_accumulates),
            _share(item.multiply_accumulates, network.multiply_accumulates), f"{item.parameters:,}",
            _bytes(item.activation_bytes), NOT_MEASURED if time is None else share_percent(time.share, 1),
        ]
    if profile is not None:
        yield ["what the runtime does not name by a layer", *[""] * 7, share_percent(max(0.0, 1 - told), 1)]


def _time_of(item: LayerCost, times: Mapping[str, OperationTime]) -> OperationTime | None:
    """Return the kernel that the runtime names by a layer; a fused one has the name of the convolution in it."""
    return next((times[name] for name in kernel_names(item.layer) if name in times), None)


def _profile_of_layers(network: NetworkCost, errors: LayerErrors | None) -> str:
    costs = [item.multiply_accumulates or 0 for item in network.layers]
    places = {item.layer: place for place, item in enumerate(network.layers, 1)}
    points = [] if errors is None else [
        (places[item.layer], item.sqnr_db) for item in errors.layers
        if item.layer in places and item.sqnr_db is not None
    ]

    def draw(axes: Any) -> None:
        above, below = axes if points else (None, axes)
        if above is not None:
            above.plot(*zip(*points, strict=True), "o-", color=SERIES[0], markersize=3, linewidth=1)
            above.set_ylabel("SQNR, dB")
        below.bar(range(1, len(costs) + 1), [cost / 1e6 for cost in costs], color=SERIES[1])
        below.xaxis.get_major_locator().set_params(integer=True)
        below.set_ylabel("million MACs")
        below.set_xlabel("layer, in the order in which they run")

    described = f"Multiply-accumulates of the {len(costs)} layers of {network.artifact}"
    if points:
        return svg_of(draw, height=3.8, panels=2, described=f"{described}, and their SQNR against float")
    return svg_of(draw, height=2.4, described=described)


def _count(value: int | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,}"


def _share(value: int | None, whole: int | None) -> str:
    return NOT_MEASURED if value is None or not whole else share_percent(value / whole, 1)


def _bytes(value: int | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,} B"
