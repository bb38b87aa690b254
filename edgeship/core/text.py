"""Words of messages: lists that are cut to a readable length."""

from __future__ import annotations

from collections.abc import Sequence


def some(items: Sequence[str], *, shown: int = 5, by: str = ", ") -> str:
    """The first of many: "a, b and 7 more"; "none" of an empty list.

    Args:
        items: what is listed, in the order of the list.
        shown: how many at most.
        by: what stands between them.
    """
    if not items:
        return "none"
    rest = len(items) - shown
    joint = " and " if by == ", " else f"{by}and "
    return by.join(items[:shown]) + (f"{joint}{rest} more" if rest > 0 else "")
