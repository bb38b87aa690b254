"""`history.csv`: a line per check of every comparison, for trends over commits that no single comparison shows.

It decides nothing: a slow creep within the tolerance of each step is found by looking at many of them, for example with
Apache Otava in an environment of its own (docs/ci.md).
"""

from __future__ import annotations

import csv
import io
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edgeship.core.comparison import Check, Comparison
from edgeship.core.errors import InputError
from edgeship.validate.compare.forms.columns import processor

# Of the candidate; a figure that was not measured is an empty cell. median_ms and p90_ms are wall time.
COLUMNS = (
    "time", "commit", "name", "runtime", "target", "metric", "ratio", "ratio_low", "ratio_high", "median_ms",
    "median_cpu_ms", "p90_ms", "size_bytes", "instructions", "verdict", "interrupted", "cpu",
)
GIT_SECONDS = 10


def history_rows(comparison: Comparison, *, time: str) -> list[dict[str, object]]:
    """Column -> value for each check. `time` is the commit's, or where that is not known the comparison's."""
    return [{"time": time, **_row(comparison, check)} for check in comparison.checks]


def appended(history: str, rows: list[dict[str, object]]) -> str:
    """The text of a history file with more rows; of an empty one, a new file with its header."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    if not history:
        writer.writeheader()
    elif not history.endswith("\n"):
        stream.write("\n")
    writer.writerows(rows)
    return history + stream.getvalue()


def read_history(path: Path) -> str:
    """The text of a history file; "" where there is none yet.

    Raises:
        InputError: it cannot be read, or has other columns.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a history file, found none that can be read ({error})") from error
    header = tuple(next(csv.reader(text.splitlines()[:1]), []))
    if text and header != COLUMNS:
        raise InputError(
            f"{path}: expected the columns {','.join(COLUMNS)}, found {','.join(header)[:200]!r}; it is another file's "
            "or another version's: begin a new one"
        )
    return text


def commit_time(commit: str | None) -> str | None:
    """When a commit of the repository here was made, ISO 8601 in UTC; None where git does not tell."""
    if commit is None:
        return None
    try:
        done = subprocess.run(
            ["git", "show", "--no-patch", "--format=%ct", commit], capture_output=True, text=True,
            timeout=GIT_SECONDS, check=True,
        )
        return datetime.fromtimestamp(int(done.stdout), UTC).isoformat(timespec="seconds")
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _row(comparison: Comparison, check: Check) -> dict[str, object]:
    timing = check.timing
    arm = None if timing is None else timing.candidate
    return {
        "commit": comparison.commit, "name": check.name, "runtime": check.runtime, "target": check.target,
        **{name: getattr(timing, name, None) for name in ("metric", "ratio", "ratio_low", "ratio_high")},
        **{name: getattr(arm, name, None) for name in ("median_ms", "median_cpu_ms", "p90_ms")},
        "size_bytes": check.candidate.size_bytes,
        "instructions": next(_instructions(check), None),
        "verdict": check.verdict, "interrupted": str(comparison.interrupted).lower(),
        "cpu": processor(comparison, check),
    }


def _instructions(check: Check) -> Iterator[int]:
    for item in check.exact:
        if item.gate == "instructions" and item.candidate is not None:
            yield round(item.candidate)
