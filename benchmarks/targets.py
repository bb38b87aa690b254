"""The tables of targets in docs/results.md, from a report of several: parity with this machine, and instructions.

    edgeship validate BUNDLE --on cpu --on ssh://you@localhost --on arm64:cortex-a53 --on arm64:cortex-a76 \
        --on arm64:max --on browser --out REPORT
    python -m benchmarks.targets REPORT/report.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeship.core.measurement import Report, Row
from edgeship.validate.report.columns import share_percent
from edgeship.validate.report.report import load_report

HERE = "cpu"
NONE = "-"


def short(target: str) -> str:
    """A board's address is nobody's business."""
    return target.partition(":")[0] if target.startswith(("ssh:", "adb:")) else target


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Markdown."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def parity_cell(row: Row | None) -> str:
    """Largest difference, share of the outputs that differ, share of the images with the same top-1."""
    if row is None:
        return NONE
    if row.error is not None or row.parity is None:
        return "refused" if row.refused else "failed"
    parity = row.parity
    if parity.max_lsb is not None and parity.differing_share is not None and parity.sibling_agreement is not None:
        shares = share_percent(parity.differing_share), share_percent(parity.sibling_agreement)
        return f"{parity.max_lsb} LSB, {', '.join(shares)}"
    if parity.sibling_max_abs is None:
        return "not compared"
    same = "" if parity.sibling_agreement is None else f", {share_percent(parity.sibling_agreement)}"
    distance = f"{parity.sibling_max_abs:.0e}" if parity.sibling_max_abs else "equal"
    return f"{distance}{same}"


def parity_table(report: Report) -> Iterator[str]:
    """One row per artifact, one column per target besides this machine."""
    targets = list(dict.fromkeys(row.target for row in report.rows if row.target != HERE))
    cells = {(row.artifact, row.target): row for row in report.rows}
    artifacts = list(dict.fromkeys(row.artifact for row in report.rows if row.target != HERE))
    images = max(row.accuracy.images for row in report.rows if row.accuracy is not None)
    yield f"{images:,} test images; float files on emulated processors: the golden images"
    yield ""
    yield from table(
        ["artifact", *map(short, targets)],
        [[artifact, *(parity_cell(cells.get((artifact, target))) for target in targets)] for artifact in artifacts],
    )


def instruction_table(report: Report) -> Iterator[str]:
    """Millions of instructions per inference, and how many times as many the float file of that format takes."""
    counted = {(row.artifact, row.target): row for row in report.rows if row.instructions is not None}
    targets = list(dict.fromkeys(target for _, target in counted))
    rows = []
    for artifact in dict.fromkeys(artifact for artifact, _ in counted):
        cells = []
        for target in targets:
            row, floats = counted.get((artifact, target)), counted.get((f"float32{Path(artifact).suffix}", target))
            if row is None or row.instructions is None:
                cells.append(NONE)
                continue
            ratio = ""
            if row.scheme != "float32" and floats is not None and floats.instructions is not None:
                ratio = f" (float {floats.instructions / row.instructions:.1f}x)"
            cells.append(f"{row.instructions / 1e6:.2f}{ratio}")
        rows.append([artifact, *cells])
    yield from table(["M instructions per inference", *targets], rows)


def main() -> None:
    """Print both tables of each report."""
    for path in map(Path, sys.argv[1:]):
        report = load_report(path)
        flags = ", ".join(report.machine["cpu_flags"] or ["flags unknown"])
        print(f"{report.verdict}; this machine: {report.machine['cpu_model']} ({flags})\n")
        for lines in (parity_table(report), instruction_table(report)):
            print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
