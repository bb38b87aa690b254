"""What `edgeship doctor` found, and the table of it."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

WORKS = {True: Text("yes", style="green"), False: Text("no", style="bold red"), None: Text("given by you")}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing examined. `detail` says what was found."""

    name: str
    kind: str  # "runtime", "target" or "tool"
    works: bool | None  # False: missing or broken; None: not on this machine to be found, the user brings it
    detail: str
    how_to_install: str | None = None  # a command, or None where nothing is to be installed


def render(findings: list[Finding]) -> Table:
    """The findings as a table for the terminal; a command to install something stands below what was found."""
    table = Table(title="edgeship on this machine", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("kind", "name", "works"):
        table.add_column(column, no_wrap=True)
    table.add_column("found", overflow="fold")
    for index, finding in enumerate(findings):
        first = index == 0 or findings[index - 1].kind != finding.kind
        if first and index:
            table.add_section()
        # Text, not str: a message in square brackets is not markup.
        found = Text(finding.detail)
        if finding.how_to_install is not None:
            found.append("\nto install: ").append(finding.how_to_install, style="bold")
        table.add_row(finding.kind if first else "", Text(finding.name), WORKS[finding.works], found)
    return table
