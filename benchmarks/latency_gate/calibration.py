"""By how much each arm is slower: by its multiply-accumulates, its instructions, and its CPU time here. Markdown.

    python -m benchmarks.latency_gate.calibration --out DIR    after build.py, count.py and record.py

The arms were chosen by CPU time on the machine that recorded, so that "+5 %" is about that there. Instructions are
those of an emulated cortex-a76, whose kernels are others: their ratio is another figure and is not meant to agree.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.latency_gate.analyse import NOMINAL, Cell, read_cells
from benchmarks.latency_gate.build import ARMS
from edgeship.graph import read_graph
from edgeship.graph.costs import multiply_accumulates

NONE = "-"


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    print("\n".join(table(parser.parse_args().out)))


def table(out: Path) -> Iterator[str]:
    """A row per network and arm."""
    cells = list(read_cells(out))
    yield (
        "| network | arm | extra filters | multiply-accumulates | instructions | CPU time, no load | "
        "CPU time, second process |"
    )
    yield "|---|---|---|---|---|---|---|"
    for size, format_ in dict.fromkeys((cell.size, cell.format) for cell in cells):
        own = [cell for cell in cells if (cell.size, cell.format) == (size, format_)]
        for nominal in NOMINAL:
            if nominal != "base2":
                yield _row(out / size, own, nominal)


def _row(folder: Path, cells: list[Cell], nominal: str) -> str:
    arm, suffix = cells[0].arm(nominal), cells[0].format
    extra = json.loads(ARMS.read_text())[folder.name][arm]
    filters = ", ".join(f"{unit} {count}" for unit, count in extra.items())
    # The TFLite file of the same network: an ONNX file does not tell the shapes in between.
    costs = [multiply_accumulates(read_graph(folder / f"{name}.tflite")) for name in ("base", arm)]
    record = folder / "counts.json"
    counts = json.loads(record.read_text()) if record.exists() else {}
    counted = [counts.get(f"{name}.{suffix}") for name in ("base", arm)]
    times = []
    for load in (False, True):
        found = [cell for cell in cells if cell.load == load]
        times.append(f"{found[0].true_percent(nominal):+.2f} %" if found else NONE)
    return f"| {folder.name} {suffix} | {nominal} % | {filters} | {_change(*costs)} | {_change(*counted)} | " + (
        " | ".join(times) + " |"
    )


def _change(base: int | None, arm: int | None) -> str:
    return NONE if base is None or arm is None else f"{arm / base - 1:+.2%}".replace("%", " %")


if __name__ == "__main__":
    main()
