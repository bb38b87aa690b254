"""`comparison.md`: a comparison for people, in a pull request or a job's summary."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.core.comparison import Comparison
from edgeship.validate.compare.forms.columns import (
    COLUMNS,
    LEGEND,
    advice,
    cells,
    differing_gates,
    figure,
    headlines,
    machine_lines,
    reasons,
    title,
)
from edgeship.validate.compare.forms.self_test_sentences import self_test_sentences
from edgeship.validate.report.gfm import escaped, section, table


def comparison_to_markdown(comparison: Comparison) -> str:
    """The comparison as GitHub-flavoured Markdown; the same comparison gives the same text."""
    parts = [
        f"# {escaped(title(comparison))}",
        *(f"**{line}**" for line in headlines(comparison)),
        table(list(COLUMNS), [cells(comparison, check) for check in comparison.checks]),
        *section("Self-test", self_test_sentences(comparison)),
        *_exact(comparison),
        *section("Reasons", reasons(comparison)),
        *section("What to do", advice(comparison)),
        *section("Notes", comparison.notes),
        *section("Measured on", machine_lines(comparison)),
        *section("Legend", LEGEND),
    ]
    return "\n\n".join(parts) + "\n"


def _exact(comparison: Comparison) -> Iterator[str]:
    rows = [
        [check.label, item.gate, item.outcome, figure(item.baseline), figure(item.candidate), item.sentence]
        for check, item in differing_gates(comparison)
    ]
    if rows:
        yield "## Exact gates that are not the same"
        yield table(["check", "gate", "outcome", "baseline", "candidate", "finding"], rows)
