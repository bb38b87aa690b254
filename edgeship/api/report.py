"""What `Bundle.validate` returns: the report of the command line, as an object that prints well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.api.text import as_html, as_text
from edgeship.core.measurement import Report as Measured
from edgeship.core.measurement import Row
from edgeship.core.ship import ShipLine
from edgeship.validate.report.html.pictures import Pictures
from edgeship.validate.report.report import report_to_json, write_report
from edgeship.validate.report.terminal import report_to_terminal

WIDTH = 160  # characters of the printed table


class Report:
    """What was measured of a bundle, and the verdict.

    `print(report)` gives the summary of the command line; a notebook shows it as HTML.
    """

    def __init__(self, measured: Measured, pictures: Pictures | None = None) -> None:
        self.measured = measured
        self._pictures = pictures

    @property
    def verdict(self) -> str:
        """"pass", "fail", "inconclusive" or "refused"."""
        return self.measured.verdict

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the verdict is not "pass", one sentence each."""
        return self.measured.failures

    @property
    def not_judged(self) -> tuple[str, ...]:
        """What the verdict says nothing of, and why ("accuracy: no targets were given")."""
        return self.measured.not_judged

    @property
    def rows(self) -> tuple[Row, ...]:
        """One row per file, runtime and target: accuracy or score, parity, coverage, latency, or an error."""
        return self.measured.rows

    @property
    def ship(self) -> tuple[ShipLine, ...]:
        """Which file goes where (a class of processors or a runtime), and whether it is good enough there."""
        return self.measured.ship

    def to_dict(self) -> dict[str, Any]:
        """Return the content of report.json."""
        return report_to_json(self.measured)

    def save(self, folder: str | Path) -> Path:
        """Write report.json, report.md and report.html into a folder, and return the folder. Raises StorageError."""
        where = Path(folder)
        write_report(self.measured, where, self._pictures)
        return where

    def __str__(self) -> str:
        """Return the summary as text."""
        return as_text(report_to_terminal(self.measured, width=WIDTH, everything=True), width=WIDTH)

    def __repr__(self) -> str:
        """Return the summary as text: what an interactive Python shows."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the summary as HTML: what a notebook shows."""
        return as_html(report_to_terminal(self.measured, width=WIDTH, everything=True), width=WIDTH)
