"""The workers that tests fork (tests/support/warm_workers.py) look like those that users start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tf2onnx
import tf_keras

from edgeship.core.child import child_environment
from edgeship.core.errors import RuntimeFailure
from edgeship.validate.process.client import Worker
from edgeship.validate.subject.rows import KERAS
from edgeship.validate.targets.target import Target
from tests.support.warm_workers import CLIENT, REAL_COMMAND, SERVER

LITERT, ONNXRUNTIME = "litert", "onnxruntime"
REQUESTS = {
    "no request": (LITERT, ""),
    "an import": (KERAS, '{"do": "import", "runtime": "keras"}\n'),
    "an import of what the server has not imported": (ONNXRUNTIME, '{"do": "import", "runtime": "onnxruntime"}\n'),
    "a request that does not exist": (LITERT, '{"do": "fly"}\n'),
    "no JSON": (KERAS, "fly\n"),
    "a file that is not there":
        (KERAS, '{"do": "load", "runtime": "keras", "path": "gone.keras", "options": {"threads": 1}}\n'),
    "a file that is not there, of another runtime":
        (LITERT, '{"do": "load", "runtime": "litert", "path": "gone.tflite", "options": {"threads": 1}}\n'),
}


@pytest.fixture
def command() -> tuple[str, ...]:
    if not hasattr(os, "pidfd_open"):
        pytest.skip("needs Linux")
    assert tf_keras and tf2onnx  # which set variables of the environment, with which workers are forked all the same
    found = tuple(Target().command(KERAS))
    assert str(CLIENT) in found
    return found


@pytest.fixture
def worker(command: tuple[str, ...]) -> Iterator[Worker]:
    with Worker("row", timeout_seconds=60, command=command) as worker:
        worker.ask("import", runtime=KERAS)
        yield worker


def fork() -> psutil.Process:
    """The one worker that is alive: a child of a child of a server. (What has ended has no command any more.)"""
    (found,) = (
        worker for server in psutil.Process().children() if is_server(server)
        for keeper in server.children() for worker in keeper.children() if is_server(worker)
    )
    return found


def is_server(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie
        return str(SERVER) in process.cmdline()
    return False


@pytest.mark.parametrize(("runtime", "requests"), REQUESTS.values(), ids=REQUESTS.keys())
def test_it_says_and_ends_as_a_fresh_one(
    command: tuple[str, ...], tmp_path: Path, runtime: str, requests: str
) -> None:
    ends = []
    for words in (Target().command(runtime), REAL_COMMAND(Target(), runtime)):
        done = subprocess.run(
            words, input=requests, capture_output=True, text=True, check=False, cwd=tmp_path, env=child_environment()
        )
        ends.append((done.returncode, done.stdout, done.stderr.strip().rpartition("\n")[2]))
    assert ends[0] == ends[1]


def test_a_crash_is_a_crash(worker: Worker) -> None:
    fork().send_signal(signal.SIGSEGV)
    with pytest.raises(RuntimeFailure, match=r"row: crashed \(SIGSEGV\) while importing the runtime"):
        worker.ask("import", runtime=KERAS)


def test_a_worker_that_is_killed_leaves_nothing(worker: Worker) -> None:
    process = fork()
    worker.close(at_once=True)
    process.wait(60)


def test_a_worker_that_stands_still_hangs(command: tuple[str, ...]) -> None:
    with Worker("row", timeout_seconds=60, command=command) as worker:
        worker.ask("import", runtime=KERAS)
        process = fork()
        process.suspend()
        worker._timeout_seconds = 0.1
        with pytest.raises(RuntimeFailure, match="row: hung while importing the runtime"):
            worker.ask("import", runtime=KERAS)
        process.wait(60)


def test_another_environment_is_started_anew(monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "1")
    assert Target().command(KERAS) == REAL_COMMAND(Target(), KERAS)
