"""Pages written, where the part of the installation that draws them is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeship.core.files import write_atomically
from edgeship.core.measurement import Report
from edgeship.core.parts import REPORT, how_to_install
from edgeship.core.progress import say
from edgeship.validate.report.html.page import report_to_html
from edgeship.validate.report.html.pictures import Pictures

HTML_FILE = "report.html"


def write_report_page(report: Report, folder: Path, pictures: Pictures | None = None) -> bool:
    """Write `report.html`; return whether it could be. Raises StorageError."""
    return write_page(folder / HTML_FILE, lambda: report_to_html(report, pictures))


def write_page(path: Path, draw: Callable[[], str]) -> bool:
    """Write the page that `draw` returns, or say which part of the installation it needs. Raises StorageError."""
    try:
        text = draw()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in REPORT:
            raise
        say(f"{path.name} is not written: {how_to_install(error.name)}")
        path.unlink(missing_ok=True)  # of other figures than those that were written now
        return False
    write_atomically(path, text.encode())
    return True
