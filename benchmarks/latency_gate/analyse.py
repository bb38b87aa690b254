"""False alarms and detection of four designs, from recorded launches: a table in Markdown, and a plot.

    python -m benchmarks.latency_gate.analyse --out DIR [--plot benchmarks/latency_gate.svg] [--draws 1000]

Where there is a long recording (DIR/SIZE/FORMAT[-load]-long.jsonl: "base", "base2" and the 5 % slower arm), edgeship's
checks of these two arms are replayed from it, one after the other, each launch used once. All other checks are drawn at
random from the recorded launches of their cell, so they share launches: an interval is that of as many independent
checks as these launches would have made. Intervals are one-sided 95 % Clopper-Pearson bounds.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.latency_gate.designs import DESIGNS, Record, clopper_pearson, log_ratio, percent, replay
from edgeship.validate.timing.signed_rank import hodges_lehmann

NOMINAL = ("base2", "+1", "+3", "+5", "+10")
METRICS = {"edgeship": "cpu_ns", "stored median, 5 %": "wall_ns", "one pair, Mann-Whitney": "cpu_ns",
           "9 repetitions, U test": "cpu_ns"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One recording: a size and a format, with or without load."""

    size: str
    format: str
    load: bool
    records: tuple[Record, ...]
    long: tuple[Record, ...] = ()

    def arm(self, nominal: str) -> str:
        """What the arm is called in this recording."""
        return nominal if nominal in self.records[0]["sides"] else f"{self.format}{nominal}"

    def true_percent(self, nominal: str) -> float:
        """The slowdown over all launches, of CPU time."""
        arm = self.arm(nominal)
        return percent(hodges_lehmann([
            log_ratio(item, arm, "cpu_ns") for item in (*self.records, *self.long) if arm in item["sides"]
        ]))


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often a design said "regression", and could not say anything."""

    regression: float
    inconclusive: float
    checks: int  # independent ones
    replayed: bool
    launches: float  # mean per check
    low: float
    high: float


def main() -> None:
    """Draw, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    cells = list(read_cells(options.out))
    rates = {
        (index, design, nominal): rate(cell, design, nominal, draws=options.draws)
        for index, cell in enumerate(cells) for design in DESIGNS for nominal in NOMINAL
    }
    print("\n".join(table(cells, rates)))
    print("\n".join(real_checks(options.out)))
    if options.plot:
        plot(cells, rates, options.plot)


def read_cells(out: Path) -> Iterator[Cell]:
    """Every recording in the folder."""
    for size in ("digits", "full"):
        for format_ in ("tflite", "onnx"):
            for load in (False, True):
                stem = out / size / f"{format_}{'-load' if load else ''}"
                records = _read(stem.with_suffix(".jsonl"))
                if records:
                    long = _read(stem.with_name(f"{stem.name}-long.jsonl"))
                    yield Cell(size=size, format=format_, load=load, records=records, long=long)


def _read(path: Path) -> tuple[Record, ...]:
    return tuple(json.loads(line) for line in path.read_text().splitlines()) if path.exists() else ()


def rate(cell: Cell, design: str, nominal: str, *, draws: int) -> Rate:
    """Replay the long recording, or draw `draws` checks."""
    arm = cell.arm(nominal)
    replayed = design == "edgeship" and bool(cell.long) and arm in cell.long[0]["sides"]
    if replayed:
        answers = replay(cell.long, arm)
    else:
        draw = random.Random(f"{cell.size} {cell.format} {cell.load} {design} {nominal}")
        answers = [DESIGNS[design](cell.records, arm, METRICS[design], draw) for _ in range(draws)]
    regression = np.mean([answer is True for answer, _ in answers])
    launches = float(np.mean([count for _, count in answers]))
    checks = len(answers) if replayed else max(round(len(cell.records) / launches), 1)
    low, high = clopper_pearson(round(regression * checks), checks)
    return Rate(
        regression=float(regression), inconclusive=float(np.mean([answer is None for answer, _ in answers])),
        launches=launches, low=low, high=high, checks=checks, replayed=replayed,
    )


def table(cells: Sequence[Cell], rates: dict[tuple[int, str, str], Rate]) -> Iterator[str]:
    """A row per cell and design."""
    yield "| network | load | design | " + " | ".join(
        "identical" if nominal == "base2" else f"{nominal} %" for nominal in NOMINAL
    ) + " | launches per check |"
    yield "|---" * (len(NOMINAL) + 4) + "|"
    for index, cell in enumerate(cells):
        name = f"{cell.size} {cell.format}"
        load = "second process" if cell.load else "none"
        true = " | ".join(f"{cell.true_percent(nominal):+.2f} %" for nominal in NOMINAL)
        recorded = f"{len(cell.records)}{f' + {len(cell.long)}' if cell.long else ''} launches"
        yield f"| {name} | {load} | *true slowdown, {recorded}* | {true} | |"
        for design in DESIGNS:
            found = [rates[index, design, nominal] for nominal in NOMINAL]
            cells_text = " | ".join(_cell(item) for item in found)
            launches = f"{found[0].launches:.1f} / {found[3].launches:.1f}" if design == "edgeship" else "1"
            yield f"| {name} | {load} | {design} | {cells_text} | {launches} |"


def real_checks(out: Path) -> Iterator[str]:
    """What `edgeship compare` itself said and took (checks.py)."""
    yield ""
    yield "| network | load | pair | checks | verdicts | launches, median | seconds per check, median (most) |"
    yield "|---|---|---|---|---|---|---|"
    for size in ("digits", "full"):
        path = out / size / "checks.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for key in dict.fromkeys((item["format"], item["load"], item["arm"]) for item in lines):
            own = [item for item in lines if (item["format"], item["load"], item["arm"]) == key]
            verdicts = [item["verdict"] for item in own]
            told = ", ".join(f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts))
            seconds = [item["seconds"] for item in own]
            pair = "identical" if key[2] == "same" else f"+{key[2].partition('+')[2]} %"
            yield (
                f"| {size} {key[0]} | {'second process' if key[1] else 'none'} | {pair} | {len(own)} | {told} | "
                f"{np.median([item['launches'] for item in own]):.0f} | {np.median(seconds):.0f} ({max(seconds):.0f}) |"
            )


def plot(cells: Sequence[Cell], rates: dict[tuple[int, str, str], Rate], path: Path) -> None:
    """The share of "regression" over the true slowdown, a panel per cell."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = (len(cells) + 1) // 2
    figure, axes = pyplot.subplots(rows, 2, figsize=(9, 2.6 * rows), sharey=True, squeeze=False)
    for index, cell in enumerate(cells):
        axis = axes[index // 2][index % 2]
        for design in DESIGNS:
            axis.plot(
                [cell.true_percent(nominal) for nominal in NOMINAL],
                [100 * rates[index, design, nominal].regression for nominal in NOMINAL],
                marker="o", markersize=3, linewidth=2 if design == "edgeship" else 1, label=design,
            )
        axis.axvspan(2, 5, color="0.93")  # between tolerance and limit either answer is right
        axis.set_title(f"{cell.size} {cell.format}, {'second process' if cell.load else 'no load'}", fontsize=9)
        axis.set_xlabel("true slowdown, %", fontsize=8)
        axis.set_ylabel("called a regression, %", fontsize=8)
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _cell(item: Rate) -> str:
    inconclusive = f", {item.inconclusive:.1%} none" if item.inconclusive else ""
    replayed = f" of {item.checks}" if item.replayed else ""
    return f"{item.regression:.1%}{replayed} [{item.low:.0%}, {item.high:.1%}]{inconclusive}"


if __name__ == "__main__":
    main()
