"""Progress of everything that takes longer than a second: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

# Progress goes to standard error: standard output is for results.
console = Console(stderr=True, highlight=False, soft_wrap=True)

# In a log a stage says when it begins and what it made. In between there is no more than a sign of life: some CI
# services end a job that has been silent for 10 minutes.
LOG_EVERY_SECONDS = 300.0
_listener: list[Callable[[str], None] | None] = [None]


def say(message: str) -> None:
    """One line about what is being done."""
    if _listener[0] is not None:
        _listener[0](message)
    else:
        console.print(message, markup=False)


@contextlib.contextmanager
def lines_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Give every line to a function while this lasts, and draw no bars."""
    before = _listener[0]
    _listener[0] = listener
    try:
        yield
    finally:
        _listener[0] = before


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is said while this lasts: of work that is only a trial."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def track(
    items: Iterable[Item], *, label: str, total: int, describe: Callable[[], str] | None = None
) -> Iterator[Item]:
    """Yield `items`, showing how many of `total` are done.

    `describe` adds a changing text, for example the loss. In a log a line is written at most every 5 minutes.
    """
    if console.is_terminal and _listener[0] is None:
        yield from _track_with_bar(items, label=label, total=total, describe=describe)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= LOG_EVERY_SECONDS:
            last = time.monotonic()
            say(f"{label} {done}/{total} {describe() if describe else ''}".rstrip())


def _track_with_bar(
    items: Iterable[Item], *, label: str, total: int, describe: Callable[[], str] | None
) -> Iterator[Item]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, note="")
        for item in items:
            yield item
            progress.update(task, advance=1, note=describe() if describe else "")
