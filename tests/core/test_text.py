"""Lists in messages."""

from __future__ import annotations

import pytest

from edgeship.core.text import some


@pytest.mark.parametrize(("items", "shown", "by", "text"), [
    ([], 5, ", ", "none"),
    (["a"], 5, ", ", "a"),
    (["a", "b"], 2, ", ", "a, b"),
    (["a", "b", "c"], 2, ", ", "a, b and 1 more"),
    (["a", "b", "c", "d"], 2, "; ", "a; b; and 2 more"),
])
def test_a_long_list_is_cut_with_the_number_of_the_rest(items: list[str], shown: int, by: str, text: str) -> None:
    assert some(items, shown=shown, by=by) == text
