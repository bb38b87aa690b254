"""`report.html` as text: what is in it, and what names of a bundle may not do."""

from __future__ import annotations

import dataclasses
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgeship.core.evidence import ClassCounts
from edgeship.core.measurement import Report
from edgeship.validate.report.html.blocks import Table
from edgeship.validate.report.html.page import report_to_html
from edgeship.validate.report.html.sections.accuracy import against_latency, pareto_front
from edgeship.validate.report.html.sections.classes import per_class
from edgeship.validate.report.html.sections.table import SECTIONS
from edgeship.validate.report.html.write import write_report_page
from edgeship.validate.report.report import write_report
from tests.support.report_records import HOSTILE, classifier, pictures, regression

SECTIONS_OF_VALUES = {"outputs"}
SECTIONS_OF_CLASSES = {"confusion", "classes", "changed"}


class Elements(HTMLParser):
    """Every element's name and attributes, and every text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def section_ids(page: str) -> set[str]:
    return {str(attributes["id"]) for tag, attributes in Elements(page).elements if tag == "section"}


@pytest.fixture(scope="module")
def page() -> str:
    return report_to_html(classifier(), pictures())


def test_every_section_is_there_and_in_the_navigation(page: str) -> None:
    assert section_ids(page) == {id for id, _ in SECTIONS if id != "sustained"} - SECTIONS_OF_VALUES
    links = {attributes.get("href") for tag, attributes in Elements(page).elements if tag == "a"}
    assert {f"#{id}" for id in section_ids(page)} < links


def test_figures_are_there_with_their_names(page: str) -> None:
    text = " ".join(" ".join(Elements(page).texts).split())
    for expected in (
        "FAIL: at least one gate does not hold", "int8-qat.onnx / onnxruntime: crashed",
        "Largest drop: three, from 4 to 3 of 5 right (-20.0 points of recall)", "2 of 25 answers changed (8.00 %)",
        "float: three (60.0 %)", "file: <b>two (50.0 %)", "36,864", "1,024 B", "75.0 %", "21.9", "1.7 M instructions",
        "phones and boards, LiteRT int8-qat.tflite 26 % -4.00 [-12.00, +4.00] not measured pass: the integer file",
        "edgeship validate out/int8-qat.tflite --on cpu --on arm64:cortex-a53", "energy", "not measured",
    ):
        assert expected in text, expected


def test_classes_by_hand(page: str) -> None:
    """Class three: 4 of 4 answers right in float, 3 of 3 after; recall 80 % and 60 %; F1 8/9 and 6/8."""
    rows = re.findall(r'<th scope="row">three</th>\s*(?:<td[^>]*>.*?</td>\s*)+', page)
    cells = next(row for row in map(cells_of, rows) if len(row) == 8)
    assert cells == ["5", "100.0 %", "100.0 %", "80.0 %", "60.0 %", "88.9 %", "75.0 %", "-20.0"]


def test_a_file_that_is_made_for_other_processors_is_no_choice_here() -> None:
    report = classifier()
    rows = [row for row in report.rows if row.target == "cpu" and row.latency is not None and row.accuracy is not None]
    best = min(pareto_front(rows), key=lambda row: row.latency.median_ms if row.latency is not None else 0)
    other = dataclasses.replace(best, for_others="x86-vnni")
    changed = dataclasses.replace(report, rows=tuple(other if row is best else row for row in report.rows))
    (table, *_) = [block for block in against_latency(changed) if isinstance(block, Table)]
    (line,) = [line for line in table.rows if line[1:3] == [best.artifact, best.runtime]]
    assert line[-1] == "made for other processors"
    assert any(line[-1] == "yes" for line in table.rows)


def test_a_class_that_is_never_answered_has_no_precision() -> None:
    counts = ClassCounts(examples=(2, 2, 0), answered=(4, 0, 0), right=(2, 0, 0), confusion=None)
    report = classifier()
    rows = tuple(dataclasses.replace(row, classes=counts if row.classes is not None else None) for row in report.rows)
    changed = dataclasses.replace(report, rows=rows, float_classes=counts, labels=("one", "two", "three"))
    (table,) = [block for block in per_class(changed) if isinstance(block, Table)]
    lines = {str(line[0]): line[1:] for line in table.rows}
    assert lines["two"] == ["2", "never answered", "never answered", "0.0 %", "0.0 %", "0.0 %", "0.0 %", "+0.0"]
    assert lines["three"] == ["0", *["never answered"] * 2, *["no examples"] * 5]


def cells_of(row: str) -> list[str]:
    return re.findall(r"<td[^>]*>(.*?)</td>", row)


def test_the_page_needs_nothing_else_and_repeats(page: str) -> None:
    assert page == report_to_html(classifier(), pictures())
    assert len(page.encode()) < 3_000_000
    for tag, attributes in Elements(page).elements:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/png;base64,")), address
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    ids = [attributes["id"] for _, attributes in Elements(page).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{id}" for id in ids} >= {
        attributes["href"] for _, attributes in Elements(page).elements if "href" in attributes
        and str(attributes["href"]).startswith("#")
    }


def test_names_of_a_bundle_are_text_and_nothing_else() -> None:
    page = report_to_html(classifier(name=HOSTILE, label=HOSTILE), pictures())
    elements = Elements(page).elements
    assert not any(tag == "script" for tag, _ in elements)
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
    assert HOSTILE in " ".join(Elements(page).texts)
    assert "49" not in "".join(text for text in Elements(page).texts if "alert" in text)
    assert page.count("$x^2$") > 10  # in plots too: it is no formula


def test_values_have_residuals_and_pairs_and_no_classes() -> None:
    page = report_to_html(regression())
    assert section_ids(page) == {id for id, _ in SECTIONS if id != "sustained"} - SECTIONS_OF_CLASSES
    assert "Residuals: mean_absolute_error of each test example" in page
    assert "1.1, 2.2" in page and "1, 2<" in page


def older() -> Report:
    """Return a report as the version before wrote it, without what the new sections draw."""
    import dataclasses

    whole = classifier()
    rows = tuple(dataclasses.replace(row, classes=None, changed=None, deviations=None) for row in whole.rows)
    return dataclasses.replace(whole, schema=7, rows=rows, networks=(), float_classes=None, labels=())


def test_a_report_of_an_older_version_says_what_it_lacks() -> None:
    page = report_to_html(older())
    assert page.count("not measured: an older version of edgeship wrote report.json; validate again") == 4


def test_without_its_packages_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    (tmp_path / "report.html").write_text("of a run before")
    assert not write_report_page(classifier(), tmp_path)
    write_report(classifier(), tmp_path, pictures())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["examples.npz", "report.json", "report.md"]
    assert 'report.html is not written: jinja2 is not installed' in capsys.readouterr().err
