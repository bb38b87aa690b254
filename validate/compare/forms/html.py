"""`comparison.html`: a comparison as one page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp

from edgeship.core.comparison import Check, Comparison
from edgeship.validate.compare.forms.columns import (
    COLUMNS,
    LEGEND,
    advice,
    cells,
    differing_gates,
    figure,
    headlines,
    interval,
    machine_lines,
    reasons,
    title,
)
from edgeship.validate.compare.forms.self_test_sentences import self_test_sentences
from edgeship.validate.report.html.blocks import Block, Lines, Plot, Section, Table, missing
from edgeship.validate.report.html.page import page_of
from edgeship.validate.report.html.plots import Bar, rows_plot

HTML_FILE = "comparison.html"


def comparison_to_html(comparison: Comparison) -> str:
    """Return the page; the same comparison gives the same text.

    Raises:
        ModuleNotFoundError: Jinja2 or matplotlib is not installed (edgeship[report]).
    """
    sections: dict[tuple[str, str], list[Block]] = {
        ("reasons", "Reasons"): list(_reasons(comparison)),
        ("change", "Change of the time per inference"): list(_changes(comparison)),
        ("launches", "Launch by launch"): list(_launches(comparison)),
        ("checks", "All checks"): [
            Table(
                caption="All checks", columns=list(COLUMNS),
                rows=[cells(comparison, check) for check in comparison.checks],
            ),
            Lines(items=LEGEND),
        ],
        ("exact", "Exact gates"): list(_exact(comparison)),
        ("environment", "Environment"): [Lines(items=[*machine_lines(comparison), *comparison.notes])],
    }
    return page_of(
        title=title(comparison), verdict=comparison.verdict, headline="; ".join(headlines(comparison)),
        facts=(comparison.created_by, comparison.created_at),
        sections=[Section(id=id, title=name, blocks=blocks) for (id, name), blocks in sections.items()],
    )


def _reasons(comparison: Comparison) -> Iterator[Block]:
    lines = [*reasons(comparison), *self_test_sentences(comparison), *advice(comparison)]
    yield Lines(items=lines or ["Every check says the same as the verdict."])


def _changes(comparison: Comparison) -> Iterator[Block]:
    timed = [(check, timing) for check in comparison.checks if (timing := check.timing) is not None]
    if not timed:
        yield from missing("no check needed times, or none could be taken")
        return
    bars = [
        Bar(
            label=f"{check.label}: {check.verdict}, {interval(timing)}", value=_percent(timing.ratio),
            low=_percent(timing.ratio_low), high=_percent(timing.ratio_high), series=place,
        )
        for place, (check, timing) in enumerate(timed)
    ]
    yield Plot(
        svg=rows_plot(bars, unit="change of the time per inference, %", zero=True, described=(
            "Change of each check with its bounds; the figures are in the table of all checks"
        )),
        caption="To the right of 0 the candidate is slower. Tolerance and limit: "
        + ", ".join(dict.fromkeys(f"{item.tolerance:.0%} and {item.limit:.0%}" for _, item in timed)) + ".",
    )


def _launches(comparison: Comparison) -> Iterator[Block]:
    bars = [bar for place, check in enumerate(comparison.checks) if (bar := _bar(check, place)) is not None]
    if not bars:
        yield from missing("no launch was made")
        return
    yield Plot(
        svg=rows_plot(bars, unit="change in one launch, %", zero=True, described=(
            "Change in each launch of each check; the samples are in comparison.json"
        )),
        caption="A dot is one launch: both artifacts in fresh processes within the same seconds.",
    )


def _bar(check: Check, place: int) -> Bar | None:
    if check.timing is None or check.timing.ratio is None:
        return None
    kept = [launch for launch in check.timing.samples if launch.discarded is None]
    return Bar(
        label=f"{check.label}: {len(kept)} launches", value=_percent(check.timing.ratio), series=place,
        points=[(exp(launch.log_ratio) - 1) * 100 for launch in kept],
    )


def _exact(comparison: Comparison) -> Iterator[Block]:
    rows = [
        [check.label, item.gate, item.outcome, figure(item.baseline), figure(item.candidate), item.sentence]
        for check, item in differing_gates(comparison)
    ]
    if rows:
        columns = ("check", "gate", "outcome", "baseline", "candidate", "finding")
        yield Table(caption="Exact gates that are not the same", columns=columns, rows=rows)
    else:
        yield Lines(items=["All exact gates that were looked at are the same."])


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else (ratio - 1) * 100
