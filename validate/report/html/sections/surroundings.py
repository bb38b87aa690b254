"""Where it was measured, and how to measure it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from edgeship.core.measurement import Report
from edgeship.validate.report.html.blocks import Block, Code, Lines
from edgeship.validate.report.markdown import machine_lines, target_lines


def environment(report: Report) -> Iterator[Block]:
    """Yield the machine, the targets and the notes."""
    yield Lines(items=list(machine_lines(report)))
    others = [
        line for target in report.targets if target.machine is not None or target.error is not None
        for line in target_lines(target)
    ]
    if others:
        yield Lines(items=others)
    if report.notes:
        yield Lines(items=report.notes)


def reproduction(report: Report) -> Iterator[Block]:
    """Yield the command that measures the same again, and what it needs."""
    targets = dict.fromkeys(row.target for row in report.rows)
    runtimes = dict.fromkeys(row.runtime for row in report.rows)
    examples = {
        row.accuracy.images if row.accuracy is not None else row.score.examples if row.score is not None else None
        for row in report.rows
    } - {None}
    words = ["edgeship", "validate", report.bundle]
    words += [word for target in targets for word in ("--on", target)]
    words += [word for runtime in runtimes for word in ("--runtime", runtime)]
    if len(examples) == 1:
        words += ["--images", str(next(iter(examples)))]
    yield Code(text=shlex.join(words))
    yield Lines(items=[
        f"written by {report.created_by} at {report.created_at}; report.json beside this page has every figure and "
        "every sample",
        "gates other than the defaults: --data CONFIG with the configuration whose [validate] section has them; a "
        "bundle of arrays needs --data CONFIG for its examples",
        "this page again from report.json: edgeship report FOLDER",
    ])
