"""GitHub-flavoured Markdown: tables, lists, and text that must not become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# A bracket before a parenthesis would be a link; every other sign means something alone. All of ASCII's punctuation
# may be escaped with a backslash (GFM specification 6.1).
MARKUP = re.compile(r"[\\`*_~|]|(?<=\])\(")


def escaped(text: str) -> str:
    """Return `text` on one line, showing what it holds: `__init__`, `a|b`, `<b>`."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are plain text."""
    lines = [[escaped(cell) for cell in line] for line in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Iterable[str]) -> list[str]:
    """Return a list of plain text as one block; nothing without lines."""
    text = "\n".join(f"- {escaped(line)}" for line in lines)
    return [text] if text else []


def section(title: str, lines: Iterable[str]) -> list[str]:
    """Return a heading and a list of plain text; nothing without lines."""
    items = bullets(lines)
    return [f"## {title}", *items] if items else []
