"""`report.json`: written, and read again for a comparison. Markdown and terminal are drawn from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from edgeship.core.decode import read_record
from edgeship.core.encode import encode
from edgeship.core.errors import InputError
from edgeship.core.files import read_text, write_atomically
from edgeship.core.measurement import OLDER_SCHEMAS, REPORT_FILE, REPORT_SCHEMA, Report
from edgeship.validate.report.consistency import check_report
from edgeship.validate.report.html.pictures import Pictures, write_pictures
from edgeship.validate.report.html.write import write_report_page
from edgeship.validate.report.markdown import report_to_markdown

MARKDOWN_FILE = "report.md"


def write_report(report: Report, folder: Path, pictures: Pictures | None = None) -> None:
    """Write `report.json`, `report.md`, `examples.npz` (the pictures) and `report.html` into `folder`.

    Raises:
        StorageError: a file could not be written.
    """
    write_atomically(folder / REPORT_FILE, encode(report).encode())
    write_atomically(folder / MARKDOWN_FILE, report_to_markdown(report).encode())
    write_pictures(pictures, folder)
    write_report_page(report, folder, pictures)


def load_report(path: Path) -> Report:
    """Return the report of a `report.json`.

    Raises:
        InputError: no such file, not a report, another schema version, a field missing or unknown.
    """
    text = read_text(path, expected=f"a {REPORT_FILE}", advice="validate again", error=InputError)
    return read_record(
        Report, text, where=path, schema=REPORT_SCHEMA, older=OLDER_SCHEMAS, what="report", again="validate again",
        check=check_report,
    )


def report_to_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values."""
    return dataclasses.asdict(report)
