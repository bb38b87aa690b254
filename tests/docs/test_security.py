"""docs/security.md names the test that attacks each way in: they are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:tests|edgeship)/[\w./]+)`", (ROOT / "docs" / "security.md").read_text()))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
