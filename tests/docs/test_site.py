"""The documentation as a site: it builds without a warning, and its generated pages have every command and key."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgeship.core.config import Config

ROOT = Path(__file__).parents[2]


class Text(HTMLParser):
    """The words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def words(page: Path) -> str:
    reader = Text()
    reader.feed(page.read_text(encoding="utf-8"))
    return " ".join(" ".join(reader.words).split())


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        place = site if page.stem == "index" else site / page.stem
        assert (place / "index.html").is_file(), page.name


def test_every_key_and_every_command_is_in_the_reference(site: Path) -> None:
    keys = words(site / "keys" / "index.html")
    for section in dataclasses.fields(Config):
        assert f"[{section.name}]" in keys and section.default_factory is not dataclasses.MISSING
        for field in dataclasses.fields(section.default_factory):
            assert field.name in keys
    assert "a lost worker" not in keys and "share of executed operations that are integer" in keys
    commands = words(site / "commands" / "index.html")
    for name in ("edgeship run", "edgeship compare", "edgeship baseline check", "edgeship doctor"):
        assert name in commands


def test_the_python_reference_has_the_docstrings(site: Path) -> None:
    api = words(site / "api" / "index.html")
    for name in ("quantize_model", "QuantizedModel", "load_bundle", "Report", "compare_files", "inspect_file"):
        assert name in api
    assert "Raises" in api and "calibration" in api


def test_no_page_asks_another_machine_for_anything(site: Path) -> None:
    """No script, style or picture comes from elsewhere: the site works without a network."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for kind in ('<script src="http', '<img src="http', 'rel="stylesheet" href="http'):
            assert kind not in text, f"{page}: {kind}"


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("mkdocs")
    assert spec is not None
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[gone](gone.md)\n")
    settings = (ROOT / "mkdocs.yml").read_text()
    own = settings[settings.index("validation:"): settings.index("nav:")]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: small\nstrict: true\n{own}")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "gone.md" in done.stderr
