"""Every section of `report.html`, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from edgeship.core.measurement import Report
from edgeship.validate.report.html.blocks import Block, Section, missing
from edgeship.validate.report.html.sections import (
    accuracy,
    changed,
    classes,
    latency,
    layers,
    surroundings,
    sustained,
    verdict,
)

# The section's id and title -> what draws it, from the report and the examples that have pictures.
Draw = Callable[[Report, Collection[int]], Iterable[Block]]
SECTIONS: dict[tuple[str, str], Draw] = {
    ("failures", "Failures, and what is not judged"): lambda report, _: verdict.failures(report),
    ("ship", "What to ship"): lambda report, _: verdict.ship(report),
    ("accuracy-latency", "Accuracy against latency"): lambda report, _: accuracy.against_latency(report),
    ("differences", "Differences from float Keras"): lambda report, _: accuracy.paired(report),
    ("confusion", "Confusion matrices"): lambda report, _: classes.confusion(report),
    ("classes", "Class by class"): lambda report, _: classes.per_class(report),
    ("changed", "Examples whose answer changed"): changed.changed,
    ("outputs", "Outputs that are values"): lambda report, _: changed.moved(report),
    ("latency", "Latency per launch"): lambda report, _: latency.launches(report),
    ("sustained", "Sustained speed"): lambda report, _: sustained.sustained(report),
    ("layers", "Layer by layer"): lambda report, _: layers.layers(report),
    ("time", "Where the time goes"): lambda report, _: layers.where_the_time_goes(report),
    ("targets", "Targets side by side"): lambda report, _: latency.targets(report),
    ("memory", "Memory and sizes"): lambda report, _: latency.memory(report),
    ("formats", "The same integers in both formats"): lambda report, _: verdict.formats(report),
    ("rows", "All figures"): lambda report, _: accuracy.everything(report),
    ("environment", "Environment"): lambda report, _: surroundings.environment(report),
    ("reproduce", "How to reproduce"): lambda report, _: surroundings.reproduction(report),
}
OF_CLASSES, OF_VALUES = ("confusion", "classes", "changed"), ("outputs",)
FIRST_WITH_EVIDENCE = 8  # the schema of report.json


def sections_of(report: Report, pictures: Collection[int]) -> list[Section]:
    """Return the sections of a report.

    Args:
        pictures: the places of the test examples that have pictures.
    """
    has_values = any(row.deviations is not None for row in report.rows)
    unfit = ("failures" if report.verdict == "pass" and not report.not_judged else "", *(
        OF_CLASSES if has_values else OF_VALUES
    ), "" if any(row.sustained is not None for row in report.rows) else "sustained")
    return [
        Section(id=id, title=title, blocks=_blocks(id, draw, report, pictures))
        for (id, title), draw in SECTIONS.items() if id not in unfit
    ]


def _blocks(id: str, draw: Draw, report: Report, pictures: Collection[int]) -> list[Block]:
    if report.schema < FIRST_WITH_EVIDENCE and id in (*OF_CLASSES, *OF_VALUES, "layers"):
        return missing("an older version of edgeship wrote report.json; validate again")
    return list(draw(report, pictures))
