"""What MkDocs is told beside mkdocs.yml: pages made from the code, and pages that lie outside docs/."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from site_reference import commands_page, configuration_page  # noqa: E402

# Page of the site -> the file that it is, outside docs/.
OUTSIDE = {
    "benchmarks.md": "benchmarks/README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s:]+)(#[^)]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that are no files in docs/."""
    for place, path in OUTSIDE.items():
        files.append(File.generated(config, place, content=(ROOT / path).read_text(encoding="utf-8")))
    for picture in (ROOT / "benchmarks").glob("*.svg"):
        files.append(File.generated(config, f"benchmarks/{picture.name}", abs_src_path=str(picture)))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    files.append(File.generated(config, "keys.md", content=configuration_page()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: Any, files: Files) -> str:
    """Links to files of the repository lead to their page, where they have one; the others become plain text."""
    pages = {path: place for place, path in OUTSIDE.items()}
    source = OUTSIDE.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def followed(found: re.Match[str]) -> str:
        text, link, part = found[1], found[2], found[3] or ""
        target = os.path.normpath(Path(source).parent / link)
        if target in pages:
            return f"[{text}]({pages[target]}{part})"
        if target.startswith("docs/"):
            return f"[{text}]({target.removeprefix('docs/')}{part})"
        if target.startswith("benchmarks/") and target.endswith(".svg"):
            return f"[{text}]({target})"
        return text

    return LINK.sub(followed, markdown)
