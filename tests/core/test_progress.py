"""What is said of a stage: two lines in a log, one bar on a terminal."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from edgeship.core import progress
from edgeship.core.native_output import quiet_native_output
from edgeship.core.progress import doing, fact, lines_to, quiet, say, stage, track, up_to

Lines = Callable[[], list[str]]
TIME = re.compile(r" \((\d+ min )?\d+ s\)$")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: [TIME.sub(" (time)", line) for line in capsys.readouterr().err.splitlines()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(
        file=screen, force_terminal=True, color_system=None, highlight=False, width=160,
    ))
    return screen


def work() -> None:
    with stage("export", "2 files"):
        doing("converting")
        for number in track(range(3), label="files", total=3, describe=lambda: "going well"):
            if number == 1:
                say("a warning comes at once")
        fact("a.tflite 1 MB")
        fact("both answer alike")


def test_a_log_has_a_line_when_a_stage_begins_and_one_when_it_ends(log: Lines) -> None:
    work()
    assert log() == [
        "export: 2 files", "a warning comes at once", "export: a.tflite 1 MB; both answer alike (time)",
    ]


def test_a_stage_inside_a_stage_keeps_its_own_facts(log: Lines) -> None:
    with stage("outer", "first"):
        fact("before")
        with stage("inner", "second"):
            fact("inside")
        fact("after")
    fact("of no stage")
    with stage("empty", "third"):
        pass
    assert log() == [
        "outer: first", "inner: second", "inner: inside (time)", "outer: before; after (time)", "of no stage",
        "empty: third", "empty: done (time)",
    ]


def test_a_stage_that_raises_has_no_last_line_and_leaves_nothing_behind(log: Lines) -> None:
    with pytest.raises(ValueError, match="broken"), stage("export", "2 files"):
        fact("half")
        raise ValueError("broken")
    fact("next")
    assert log() == ["export: 2 files", "next"]


def test_a_log_has_a_sign_of_life_of_what_takes_long(log: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    assert list(track("ab", label="steps", total=2, describe=lambda: "loss 1")) == ["a", "b"]
    assert log() == ["steps 1/2 loss 1", "steps 2/2 loss 1"]


def test_a_trial_says_nothing_and_a_function_gets_every_line(log: Lines) -> None:
    heard: list[str] = []
    with lines_to(heard.append):
        work()
        with quiet():
            work()
    with quiet():
        work()
    assert log() == []
    assert [line.split(":")[0] for line in heard] == ["export", "a warning comes at once", "export"]


def test_a_terminal_has_one_bar_with_the_time_left(terminal: io.StringIO) -> None:
    work()
    shown = CONTROL.sub("", terminal.getvalue())
    assert "export: 2 files" not in shown  # the bar has its place
    assert "files 3/3 going well" in shown and "100%" in shown and re.search(r"\d:\d\d:\d\d", shown)
    lines = shown.splitlines()
    assert shown.count("a warning comes at once") == 1
    assert [TIME.sub("", line) for line in lines if line.startswith("export:")] == [
        "export: a.tflite 1 MB; both answer alike"
    ]


def test_parts_of_parts_fill_the_bar_in_order(terminal: io.StringIO) -> None:
    """0.5 for two items of which the first has four steps, then a stage inside, then the rest."""
    seen: list[float] = []

    def look() -> None:
        assert progress._now.bar is not None
        seen.append(round(progress._now.bar.completed, 4))

    with stage("outer", "all"):
        for item in track("ab", label="items", total=2, share=0.5):
            for _ in track(range(4), label="steps", total=4) if item == "a" else ():
                look()
            look()
        with up_to(0.75), stage("inner", "part"), up_to(0.5):
            pass
        look()
        for _ in track(range(1), label="last", total=1):
            pass
        look()
    assert seen == [0.0, 0.0625, 0.125, 0.1875, 0.25, 0.25, 0.75, 1.0]
    assert TIME.sub("", CONTROL.sub("", terminal.getvalue()).splitlines()[-1]) == "outer: done"


def test_a_bar_is_drawn_while_native_notices_are_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with progress._terminal() as console, quiet_native_output():
        console.print("drawn")
        os.write(2, b"a notice\n")
    assert capfd.readouterr().err == "drawn\n"
