"""Every form of a comparison, written; and `comparison.json` read again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from edgeship.core.comparison import COMPARISON_FILE, Comparison
from edgeship.core.errors import InputError, StorageError
from edgeship.core.files import read_text, write_atomically
from edgeship.validate.compare.forms.bencher import comparison_to_bencher
from edgeship.validate.compare.forms.comparison_json import comparison_from_json, comparison_to_json
from edgeship.validate.compare.forms.history import appended, commit_time, history_rows, read_history
from edgeship.validate.compare.forms.html import HTML_FILE, comparison_to_html
from edgeship.validate.compare.forms.junit import comparison_to_junit
from edgeship.validate.compare.forms.markdown import comparison_to_markdown
from edgeship.validate.compare.forms.smaller_is_better import comparison_to_smaller_is_better
from edgeship.validate.report.html.write import write_page

MARKDOWN_FILE = "comparison.md"
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"  # GitHub Actions shows this file's Markdown on the page of the run


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


FORMS: dict[str, Callable[[Comparison], bytes]] = {
    COMPARISON_FILE: lambda comparison: comparison_to_json(comparison).encode(),
    MARKDOWN_FILE: lambda comparison: comparison_to_markdown(comparison).encode(),
    "junit.xml": comparison_to_junit,
    "bencher.json": lambda comparison: _json(comparison_to_bencher(comparison)),
    "smaller_is_better.json": lambda comparison: _json(comparison_to_smaller_is_better(comparison)),
}


def write_comparison(
    comparison: Comparison,
    folder: Path,
    history: Path | None = None,
    *,
    variables: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write every form into `folder`, and where they are asked for append to the history and GitHub's job summary.

    Args:
        history: a CSV file that gets a line per check; made if it is not there. One writer at a time.
        variables: the environment's; None: the process's own.

    Returns:
        The files that were written, `comparison.json` first.

    Raises:
        StorageError: the disk is full, or a file cannot be written to; each file is the old or the new one, whole.
        InputError: the history is another kind of file. The forms are in `folder` by then.
    """
    written = []
    for name, form in FORMS.items():
        write_atomically(folder / name, form(comparison))
        written.append(folder / name)
    if write_page(folder / HTML_FILE, lambda: comparison_to_html(comparison)):
        written.append(folder / HTML_FILE)
    if history is not None:
        rows = history_rows(comparison, time=commit_time(comparison.commit) or comparison.created_at)
        write_atomically(history, appended(read_history(history), rows).encode())
        written.append(history)
    summary = (os.environ if variables is None else variables).get(SUMMARY_VARIABLE)
    if summary:
        _append(Path(summary), comparison_to_markdown(comparison))
        written.append(Path(summary))
    return written


def load_comparison(path: Path) -> Comparison:
    """Read a `comparison.json`.

    Raises:
        InputError: no such file, not a comparison, another schema version, a field missing or unknown.
    """
    text = read_text(path, expected=f"a {COMPARISON_FILE}", advice="compare again", error=InputError)
    return comparison_from_json(text, where=path)


def _append(path: Path, text: str) -> None:
    """Not replaced: the runner has the file open, and other steps of the job write to it."""
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); it is the file that {SUMMARY_VARIABLE} names"
        ) from error
