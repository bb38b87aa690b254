"""The commands `report` and `history`: figures on disk -> a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeship.app.cli.commands import Add
from edgeship.app.cli.console import print_line
from edgeship.core.comparison import COMPARISON_FILE
from edgeship.core.errors import PASS, InputError
from edgeship.core.files import write_atomically
from edgeship.core.measurement import REPORT_FILE


def add_report(add: Add) -> None:
    """`edgeship report` and `edgeship history`."""
    report = add("report", _report, "draw the page of a report.json or comparison.json again, in the same folder")
    report.add_argument("folder", type=Path, metavar="FOLDER")
    report.add_argument(
        "--card", type=Path, metavar="BUNDLE", help="also write MODEL_CARD.md into this bundle, from its report.json"
    )
    history = add("history", _history, "one page of many reports, or of a history.csv: the trend over commits")
    history.add_argument("folder", type=Path, metavar="FOLDER")
    history.add_argument("--out", type=Path, metavar="DIR", help="where history.html goes (default: FOLDER)")


def _report(options: argparse.Namespace) -> int:
    """Draw every page that the folder has figures for. Raises InputError."""
    drawn = [page for draw in (_of_report, _of_comparison) if (page := draw(options.folder)) is not None]
    if not drawn:
        raise InputError(
            f"{options.folder}: expected a folder with {REPORT_FILE} or {COMPARISON_FILE}, found neither; name the "
            "folder that `edgeship validate` or `edgeship compare` wrote into"
        )
    for page in drawn:
        print_line(f"report: {page}")
    if options.card is not None:
        print_line(f"card: {_card(options.folder, options.card)}")
    return PASS


def _of_report(folder: Path) -> Path | None:
    from edgeship.validate.report.html.page import report_to_html
    from edgeship.validate.report.html.pictures import read_pictures
    from edgeship.validate.report.html.write import HTML_FILE
    from edgeship.validate.report.report import load_report

    if not (folder / REPORT_FILE).exists():
        return None
    text = report_to_html(load_report(folder / REPORT_FILE), read_pictures(folder))
    write_atomically(folder / HTML_FILE, text.encode())
    return folder / HTML_FILE


def _card(folder: Path, bundle: Path) -> Path:
    """Write the bundle's model card. Raises InputError, BundleError."""
    from edgeship.validate.compare.run import checked_out_commit
    from edgeship.validate.report.model_card import write_model_card
    from edgeship.validate.report.report import load_report
    from edgeship.validate.subject.bundle import load_bundle

    manifest, report = load_bundle(bundle).manifest, load_report(folder / REPORT_FILE)
    return write_model_card(manifest, report, bundle, commit=checked_out_commit())


def _of_comparison(folder: Path) -> Path | None:
    from edgeship.validate.compare.forms.html import HTML_FILE, comparison_to_html
    from edgeship.validate.compare.report import load_comparison

    if not (folder / COMPARISON_FILE).exists():
        return None
    text = comparison_to_html(load_comparison(folder / COMPARISON_FILE))
    write_atomically(folder / HTML_FILE, text.encode())
    return folder / HTML_FILE


def _history(options: argparse.Namespace) -> int:
    """Draw the trend. Raises InputError."""
    from edgeship.validate.report.html.history import HTML_FILE, history_to_html, read_entries

    folder = options.folder.parent if options.folder.is_file() else options.folder
    page = (options.out or folder) / HTML_FILE
    text = history_to_html(read_entries(options.folder), title=f"History of {folder.resolve().name}")
    write_atomically(page, text.encode())
    print_line(f"history: {page}")
    return PASS
