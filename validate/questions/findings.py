"""A reason why the verdict is not "pass", and the words of the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeship.core.measurement import Row
from edgeship.core.text import some
from edgeship.validate.subject.rows import row_label

PASS, FAIL, INCONCLUSIVE, REFUSED = "pass", "fail", "inconclusive", "refused"
PRECEDENCE = (FAIL, REFUSED, INCONCLUSIVE, PASS)
NAMED_OPERATIONS = 5  # of a long list in a sentence; report.json has them all


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One reason why the verdict is not "pass"."""

    verdict: str
    sentence: str
    label: str = ""  # of the row it is about, where other rows may have the same
    artifacts: tuple[str, ...] = ()  # whose answers on this machine are the reason


def worst(*verdicts: str) -> str:
    """Return the verdict that outweighs the others; "pass" of none."""
    return next(verdict for verdict in PRECEDENCE if verdict in {PASS, *verdicts})


def label_of(row: Row) -> str:
    """Return how a row is named in reports."""
    return row_label(row.artifact, row.runtime, row.target)


def sentences_of(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the reasons; what is found alike of many rows is said once."""
    subjects: dict[str, list[str]] = {}
    for finding in findings:
        subjects.setdefault(finding.sentence, []).extend([finding.label] if finding.label else [])
    for sentence, labels in subjects.items():
        yield f"{some(labels, shown=NAMED_OPERATIONS, by='; ')}: {sentence}" if labels else sentence
