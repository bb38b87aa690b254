"""What a user sees of work that takes longer than a second: lines in a log, one bar per stage on a terminal.

In a log a stage is one line when it begins, and one when it ends with what it made. What must not wait for the end (a
warning, a file that fails) is a line of its own.

    say     a line at once
    fact    what a stage has made or found: it stands in the stage's last line
    doing   what a stage works at: beside its bar
    track   counts items; inside a stage they fill the stage's bar, or the part of it that is theirs
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

# Progress goes to standard error: standard output is for results.
console = Console(stderr=True, highlight=False, soft_wrap=True)

# Some CI services end a job that has been silent for 10 minutes.
LOG_EVERY_SECONDS = 300.0
# The time left is told from the speed of the last hour: the steps of a stage are not of one length.
SPEED_SECONDS = 3600.0


@dataclass
class _Now:
    """What lines and facts go to while something runs."""

    listener: Callable[[str], None] | None = None
    facts: list[str] | None = None  # of the stage that runs; None: no stage does
    bar: _Bar | None = None


_now = _Now()


def say(message: str) -> None:
    """Write a line at once."""
    if _now.listener is not None:
        _now.listener(message)
    else:
        (console if _now.bar is None else _now.bar.console).print(message, markup=False)


def fact(message: str) -> None:
    """Keep a fact for the last line of the stage that runs; outside of a stage, write it at once."""
    if _now.facts is None:
        say(message)
    else:
        _now.facts.append(message)


def doing(message: str) -> None:
    """Show what a stage works at beside its bar; a log does not have it."""
    if _now.bar is not None:
        _now.bar.show(message)


@contextlib.contextmanager
def lines_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Give every line to a function while this lasts, and draw no bars."""
    with _with(listener=listener, bar=None):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Write nothing while this lasts, and keep no facts: of work that is only a trial."""
    with _with(listener=_nobody, facts=[]):
        yield


@contextlib.contextmanager
def stage(name: str, about: str) -> Iterator[None]:
    """Write that a stage begins, and when it ends its facts and how long it took; a stage that raises has no end.

    On a terminal a bar takes the first line's place. A stage inside a stage fills the outer one's bar.
    """
    started, facts = time.monotonic(), list[str]()
    with contextlib.ExitStack() as stack:
        if not _is_drawn():
            say(f"{name}: {about}")
        elif _now.bar is None:
            stack.enter_context(_drawn(name, about))
        else:
            doing(f"{name}: {about}")
        stack.enter_context(_with(facts=facts))
        yield
    say(f"{name}: {'; '.join(facts) or 'done'} ({_duration(time.monotonic() - started)})")


@contextlib.contextmanager
def up_to(share: float) -> Iterator[None]:
    """Let what follows fill the bar of the stage up to a share of it, from 0 to 1."""
    bar = _now.bar
    if bar is None:
        yield
        return
    with bar.part(bar.share, share):
        yield


def track(
    items: Iterable[Item], *, label: str, total: int, describe: Callable[[], str] | None = None, share: float = 1.0
) -> Iterator[Item]:
    """Yield `items`, showing how many of `total` are done. In a log a line is written at most every 5 minutes.

    Args:
        describe: adds a changing text, for example the loss.
        share: up to here the items fill the bar of the stage.
    """
    with contextlib.ExitStack() as stack:
        if _now.bar is None and _is_drawn():
            stack.enter_context(_drawn(label, ""))
        bar, last = _now.bar, time.monotonic()
        begin = 0.0 if bar is None else bar.share
        step = (share - begin) / max(total, 1)
        for done, item in enumerate(items, start=1):
            if bar is None:
                yield item
            else:
                with bar.part(begin + step * (done - 1), begin + step * done):
                    yield item
            is_due = bar is None and time.monotonic() - last >= LOG_EVERY_SECONDS
            if bar is not None or is_due:
                text = f"{label} {done}/{total} {describe() if describe else ''}".rstrip()
                doing(text)
            if is_due:
                last = time.monotonic()
                say(text)


class _Bar:
    """One line on a terminal: the stage, how much of it is done, the time left, and what it works at."""

    def __init__(self, console: Console, progress: Progress, name: str, about: str) -> None:
        self.console, self._progress = console, progress
        self._task = progress.add_task(name, total=1.0, doing=about)
        self._start, self._end = 0.0, 1.0  # what runs now fills the bar from here to there
        self.share = 0.0  # how much of that is full

    @property
    def completed(self) -> float:
        """How much of the bar is full, from 0 to 1."""
        return float(self._progress.tasks[0].completed)

    def show(self, text: str) -> None:
        """Show what the stage works at."""
        self._progress.update(self._task, doing=text)

    @contextlib.contextmanager
    def part(self, start: float, end: float) -> Iterator[None]:
        """Let what runs inside fill the bar from one share to another; afterwards it is full up to there."""
        outer = self._start, self._end
        width = self._end - self._start
        self._start, self._end, self.share = self._start + width * start, self._start + width * end, 0.0
        try:
            yield
            self._progress.update(self._task, completed=self._end)
        finally:
            (self._start, self._end), self.share = outer, end


@contextlib.contextmanager
def _drawn(name: str, about: str) -> Iterator[None]:
    """Draw a bar while this lasts."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[doing]}"),
    )
    with _terminal() as terminal:
        progress = Progress(*columns, console=terminal, transient=True, speed_estimate_period=SPEED_SECONDS)
        with progress, _with(bar=_Bar(terminal, progress, name, about)):
            yield


@contextlib.contextmanager
def _terminal() -> Iterator[Console]:
    """Yield a console on a copy of standard error: the bar goes on while native code's notices are held back."""
    try:
        descriptor = os.dup(console.file.fileno())
    except (OSError, ValueError, AttributeError):  # what stands in for standard error has none
        yield console
        return
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        yield Console(file=file, highlight=False, soft_wrap=True)


def _is_drawn() -> bool:
    return console.is_terminal and _now.listener is None


@contextlib.contextmanager
def _with(**changes: object) -> Iterator[_Now]:
    """Change what lines and facts go to while this lasts."""
    before = {name: getattr(_now, name) for name in changes}
    vars(_now).update(changes)
    try:
        yield _now
    finally:
        vars(_now).update(before)


def _nobody(message: str) -> None:
    """Hear nothing."""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
