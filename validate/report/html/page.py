"""Blocks -> one page: the templates, filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeship.core.measurement import Report
from edgeship.validate.report.html.blocks import Section
from edgeship.validate.report.html.pictures import Pictures
from edgeship.validate.report.html.sections.table import sections_of
from edgeship.validate.report.markdown import headline

TEMPLATES = Path(__file__).parent / "templates"


def report_to_html(report: Report, pictures: Pictures | None = None) -> str:
    """Return `report.html`; the same report gives the same text.

    Raises:
        ModuleNotFoundError: Jinja2 or matplotlib is not installed (edgeship[report]).
    """
    found = {} if pictures is None else pictures.data_uris()
    return page_of(
        title=f"Validation of {report.bundle}", verdict=report.verdict, headline=headline(report),
        facts=(report.created_by, report.created_at), sections=sections_of(report, found), pictures=found,
    )


def page_of(
    *, title: str, verdict: str, headline: str, facts: Sequence[str], sections: Sequence[Section],
    pictures: Mapping[int, str] | None = None,
) -> str:
    """Return a page of sections under a verdict.

    Args:
        verdict: one word, which gives the headline its colour.
        facts: of the line under the headline.
        pictures: `data:` addresses, by the place of the example.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    values: dict[str, Any] = {
        "title": title, "verdict": verdict, "headline": headline, "facts": facts, "sections": sections,
        "pictures": pictures or {}, "style": (TEMPLATES / "style.css").read_text(encoding="utf-8"),
    }
    return environment.get_template("page.html").render(values)
