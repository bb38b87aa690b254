"""`report.html` in a real headless Chromium, light and dark; with axe and html-validate where npm has brought them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgeship.validate.compare.forms.html import comparison_to_html
from edgeship.validate.report.html.history import FIGURES, Entry, history_to_html
from edgeship.validate.report.html.page import report_to_html
from edgeship.validate.report.html.sections.table import SECTIONS
from tests.support.comparison_records import every_kind
from tests.support.page_in_browser import CHROMIUM, CONTRAST, console_of, run_in_page
from tests.support.report_records import HOSTILE, classifier, pictures, regression

NPM = Path(__file__).parents[3] / "npm"
AXE = NPM / "node_modules" / "axe-core" / "axe.min.js"
VALIDATOR = NPM / "node_modules" / ".bin" / "html-validate"
ENOUGH_CONTRAST = 4.5  # WCAG 2.2, 1.4.3 (AA), of text of ordinary size

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
needs_validator = pytest.mark.skipif(
    not VALIDATOR.exists() or shutil.which("node") is None, reason="needs npm install --prefix tests/npm"
)
ENTRIES = [
    Entry(
        time=f"2026-01-0{day}", name="int8.onnx / onnxruntime", verdict=verdict, source=HOSTILE,
        values={**dict.fromkeys(FIGURES), "accuracy": 97.5, "size": 1.5, "median ms": 0.5 * day},
    )
    for day, verdict in ((1, "pass"), (2, "fail"), (3, "inconclusive"))
]
PAGES = {
    "classifier": lambda: report_to_html(classifier(), pictures()),
    "hostile": lambda: report_to_html(classifier(name=HOSTILE, label=HOSTILE), pictures()),
    "values": lambda: report_to_html(regression()),
    "history": lambda: history_to_html(ENTRIES, title="History of runs"),
    "comparison": lambda: comparison_to_html(every_kind()),
}


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]()


@needs_browser
def test_the_console_says_nothing(page: str, tmp_path: Path) -> None:
    assert console_of(page, tmp_path) == []


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_light_and_dark(page: str, dark: bool, tmp_path: Path) -> None:
    script = CONTRAST + """
        const isDark = matchMedia('(prefers-color-scheme: dark)').matches;
        return {isDark, contrasts: contrasts.slice(0, 3), texts: contrasts.length};
    """
    found, _ = run_in_page(page, script, tmp_path, dark=dark)
    assert found["isDark"] == dark
    assert found["texts"] > 50
    assert found["contrasts"][0][0] >= ENOUGH_CONTRAST, found["contrasts"]


@needs_browser
def test_every_section_is_drawn_and_nothing_is_wider_than_the_window(tmp_path: Path) -> None:
    script = """
        const sections = [...document.querySelectorAll('section')];
        return {
            heights: Object.fromEntries(sections.map(at => [at.id, at.getBoundingClientRect().height])),
            plots: [...document.querySelectorAll('.plot svg')].map(at => at.getBoundingClientRect().height),
            pictures: [...document.querySelectorAll('.gallery svg')].map(at => at.getBoundingClientRect().width),
            wide: document.documentElement.scrollWidth, window: innerWidth,
            focusable: [...document.querySelectorAll('.scroll')].every(at => at.tabIndex === 0),
        };
    """
    for width in (1280, 500):  # Chromium makes no smaller window
        found, _ = run_in_page(report_to_html(classifier(), pictures()), script, tmp_path, width=width)
        assert set(found["heights"]) == {id for id, _ in SECTIONS} - {"outputs", "sustained"}
        assert min(found["heights"].values()) > 60
        assert len(found["plots"]) == 4 and min(found["plots"]) > 50
        assert len(found["pictures"]) == 2 and min(found["pictures"]) > 40
        assert found["wide"] <= found["window"]
        assert found["focusable"]


@needs_browser
def test_a_telephone_shows_what_to_ship_whole(tmp_path: Path) -> None:
    """Chromium makes no window of 390 pixels, but a frame of that width in one."""
    script = """
        const frame = document.createElement('iframe');
        frame.style.width = '390px';
        const copy = document.documentElement.cloneNode(true);
        copy.querySelectorAll('script').forEach(at => at.remove());  // this one would run in the frame, too
        frame.srcdoc = copy.outerHTML;
        const loaded = new Promise(done => { frame.onload = done; });
        document.body.append(frame);
        await loaded;
        const page = frame.contentDocument, cells = [...page.querySelectorAll('.stacked td')];
        return {
            cells: cells.length, right: Math.max(...cells.map(at => at.getBoundingClientRect().right)),
            labels: cells.every(at => frame.contentWindow.getComputedStyle(at, '::before').content.length > 4),
            wide: page.documentElement.scrollWidth, window: frame.contentWindow.innerWidth,
        };
    """
    found, _ = run_in_page(report_to_html(classifier(), pictures()), script, tmp_path, width=500)
    assert found["cells"] > 0 and found["cells"] % 5 == 0 and found["labels"]
    assert found["right"] <= 390 and found["wide"] <= found["window"] <= 390


@needs_browser
@pytest.mark.skipif(not AXE.exists(), reason="needs npm install --prefix tests/npm")
@pytest.mark.parametrize("dark", [False, True])
def test_accessibility(page: str, dark: bool, tmp_path: Path) -> None:
    script = """
        const found = await axe.run(document);
        return {passes: found.passes.length, violations: found.violations.map(
            item => [item.id, item.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])};
    """
    found, _ = run_in_page(page, script, tmp_path, dark=dark, libraries=(AXE,))
    assert found["violations"] == []
    assert found["passes"] > 10


@needs_validator
def test_the_page_is_valid_html(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page)
    done = subprocess.run(
        [VALIDATOR, "--config", NPM / ".htmlvalidate.json", path], capture_output=True, text=True, check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:]
