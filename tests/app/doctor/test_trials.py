"""The trials of `edgeship doctor`: what fails, crashes, hangs or computes wrongly is told, and ended."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import psutil
import pytest

from edgeship.app.doctor import trials as doctor_trials
from edgeship.app.doctor.trials import at_once, infer, output_of
from edgeship.core.errors import RuntimeFailure, TargetFailure
from edgeship.validate.targets.target import Target


class Program(Target):
    """A target that starts a Python program of the test's."""

    def __init__(self, program: str) -> None:
        super().__init__("tested")
        self._program = program

    def command(self, runtime: str) -> list[str]:
        return [sys.executable, "-c", self._program]


WRONG = """
import json, sys
import numpy as np
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "run":
        np.save(request["outputs"][0], -np.load(request["inputs"][0]))
    print('{"ok": {}}', flush=True)
"""


@pytest.mark.parametrize(("program", "said"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "^crashed .SIGSEGV. while"),
    ("import sys; sys.exit('libfoo.so: cannot open')", "ended with exit code 1 .*libfoo.so: cannot open"),
    ("print('hello')", "expected one JSON answer .*'hello'"),
    (WRONG, r"litert computes wrongly: relu.*is \[\[0.0, 2.0\]\], found \[\[1.0, -2.0\]\]"),
])
def test_an_inference_that_fails(program: str, said: str) -> None:
    with pytest.raises(RuntimeFailure, match=said):
        infer(Program(program), "litert")


def test_an_inference_that_hangs_is_ended(monkeypatch) -> None:
    monkeypatch.setattr(doctor_trials, "TRIAL_SECONDS", 1.0)
    program = "import time; time.sleep(601)"
    with pytest.raises(RuntimeFailure, match=r"^no answer after 1 s; where this machine is only busy, try again$"):
        infer(Program(program), "litert")
    assert not [child for child in psutil.Process().children() if program in child.cmdline()]


def test_an_inference_with_two_runtimes_in_one_process() -> None:
    assert infer(Target(), "litert", "onnxruntime") == {}


def test_trials_at_once_fail_alone(monkeypatch) -> None:
    """By a clock that stands while the first two are waited for, so that they end in time on any machine."""
    def fail() -> int:
        raise ValueError("no [such] thing")

    clock = iter([0.0, 0.0, 0.0, 600.0])  # the start, and each wait
    monkeypatch.setattr(doctor_trials, "time", SimpleNamespace(monotonic=clock.__next__))
    one, error, late = at_once([lambda: 1, fail, threading.Event().wait], seconds=60)
    assert one == 1
    assert (type(error), str(error)) == (ValueError, "no [such] thing")
    assert isinstance(late, TimeoutError)
    assert str(late).startswith("no answer after 60 s")


@pytest.mark.parametrize(("script", "said"), [
    ("echo no; echo and more; exit 3", r"failed with exit code 3: no \| and more"),
    ("exit 0", r"failed with exit code 0"),
])
def test_a_program_that_does_not_tell_its_version(script: str, said: str) -> None:
    with pytest.raises(TargetFailure, match=said):
        output_of(["sh", "-c", script])


def test_a_program_that_hangs_and_one_that_is_none() -> None:
    with pytest.raises(TargetFailure, match=r"no answer after 0.5 s"):
        output_of([sys.executable, "-c", "while True: pass"], seconds=0.5)
    with pytest.raises(TargetFailure, match=r"nowhere cannot be started \(No such file"):
        output_of(["nowhere"])
