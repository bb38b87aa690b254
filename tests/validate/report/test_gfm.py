from __future__ import annotations

import pytest

from edgeship.validate.report.gfm import escaped, section, table


@pytest.mark.parametrize(("text", "shown"), [
    ("__init__", r"\_\_init\_\_"),
    ("two\nlines", "two lines"),
    ("a|b", r"a\|b"),
    (r"C:\*", r"C:\\\*"),
    ("<img src=x> & more", "&lt;img src=x> &amp; more"),
    ("![x](http://y) [1, 2]", r"![x]\(http://y) [1, 2]"),
    ("`code` ~~gone~~", r"\`code\` \~\~gone\~\~"),
])
def test_text_shows_what_it_holds(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_table_has_as_many_cells_in_every_line_whatever_they_hold() -> None:
    lines = table(["a", "b"], [["1", "x|y"], ["two\nlines", ""]]).splitlines()
    assert lines == ["| a | b |", "| --- | --- |", r"| 1 | x\|y |", "| two lines |  |"]


def test_a_section_without_lines_is_nothing() -> None:
    assert section("Notes", []) == []
    assert section("Notes", ["*one*"]) == ["## Notes", r"- \*one\*"]
