"""The parent's end of a worker process: start it, ask it, and say clearly how it failed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import edgeship
import validate
from edgeship.errors import RuntimeFailure

COMMAND = (sys.executable, "-P", "-m", "validate.runtimes.worker")
STDERR_LINES = 20
PATIENCE_SECONDS = 5.0  # for a process that was asked to end, or whose pipe has just closed

# What `do` means in a sentence: "crashed (SIGSEGV) while ..."
DOING = {
    "load": "loading the file", "run": "running inferences", "time": "timing inferences",
    "coverage": "planning the operations", "memory": "reading its memory", "tensors": "keeping its tensors",
    "layers": "running single layers",
}

MISSING_ADVICE = "; install it, or leave the runtime out of validate.runtimes"

# (the worker, its line); None: the pipe closed.
Inbox = queue.SimpleQueue[tuple["Worker", str | None]]


class Worker:
    """A child process with one model. Use it in `with`: leaving ends the process, whatever happened.

    Raises (when it starts, from `ask` and `receive`):
        RuntimeFailure: the runtime refused, crashed, hung or answered nonsense; the message starts with
            `label`, for example "int8-qat.tflite / litert". The process is ended, the worker of no more use.
    """

    def __init__(
        self,
        label: str,
        *,
        timeout_seconds: float,
        threads: int = 1,
        command: Sequence[str] = COMMAND,
        inbox: Inbox | None = None,
    ) -> None:
        self.label = label
        self._timeout_seconds = timeout_seconds
        self._inbox: Inbox = queue.SimpleQueue() if inbox is None else inbox
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._doing = "starting"
        try:
            self._process = subprocess.Popen(
                command, env=_environment(threads), encoding="utf-8", errors="replace",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                # Ctrl-C reaches the parent only; it ends its children in order.
                start_new_session=True,
            )
        except OSError as error:
            raise RuntimeFailure(f"{label}: its process could not be started ({error})") from error
        self._readers = [
            threading.Thread(target=read, daemon=True) for read in (self._read_answers, self._read_stderr)
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(at_once=kind is not None)

    def send(self, do: str, **arguments: Any) -> None:
        """Send a request; its answer comes through `receive`."""
        self._doing = DOING[do]
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self.send(do, **arguments)
        return receive(self._inbox, timeout_seconds=self._timeout_seconds, waiting=[self])[1]

    def understand(self, line: str | None) -> dict[str, Any] | None:
        """A line of the child as its answer; None for mere progress."""
        if line is None:
            raise self._ended()
        try:
            message = json.loads(line)
            (kind, content), = message.items()
        except (ValueError, AttributeError) as error:
            raise self._nonsense(line) from error
        if kind == "progress":
            return None
        if kind == "ok" and isinstance(content, dict):
            return content
        if kind == "error" and isinstance(content, dict):
            self.close(at_once=True)
            advice = MISSING_ADVICE if content.get("type") == "ModuleNotFoundError" else ""
            raise RuntimeFailure(
                f"{self.label}: {content.get('type')} while {self._doing}: {content.get('message')}{advice}"
            )
        raise self._nonsense(line)

    def hung(self) -> RuntimeFailure:
        """End the process; the error that says it hung."""
        self.close(at_once=True)
        return RuntimeFailure(
            f"{self.label}: hung while {self._doing}: no answer for {self._timeout_seconds:g} s; if the "
            "machine is only slow, raise validate.timeout_seconds" + self._last_words()
        )

    def close(self, *, at_once: bool = False) -> None:
        """End the process: by closing its input, or `at_once` by killing it."""
        if at_once:
            self._process.kill()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died with a request unread
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)

    def _ended(self) -> RuntimeFailure:
        """The process closed its output: the error that says how it ended."""
        try:
            code = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.close(at_once=True)
            return RuntimeFailure(f"{self.label}: closed its output while {self._doing}" + self._last_words())
        self.close(at_once=True)
        how = f"crashed ({_signal_name(-code)})" if code < 0 else f"ended with exit code {code}"
        return RuntimeFailure(f"{self.label}: {how} while {self._doing}" + self._last_words())

    def _nonsense(self, line: str) -> RuntimeFailure:
        self.close(at_once=True)
        return RuntimeFailure(
            f"{self.label}: expected one JSON answer while {self._doing}, found {line.strip()[:80]!r}"
            + self._last_words()
        )

    def _last_words(self) -> str:
        lines = [line for line in self._stderr if line]
        return "; its last words: " + " | ".join(lines) if lines else ""

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._inbox.put((self, line))
        self._inbox.put((self, None))

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            self._stderr.extend(line.strip() for line in lines)


def receive(
    inbox: Inbox, *, timeout_seconds: float, waiting: Sequence[Worker]
) -> tuple[Worker, dict[str, Any]]:
    """The next answer of any of the `waiting` workers. Raises RuntimeFailure."""
    while True:
        try:
            worker, line = inbox.get(timeout=timeout_seconds)
        except queue.Empty:
            raise waiting[0].hung() from None
        answer = worker.understand(line)
        if answer is not None:
            return worker, answer


def _environment(threads: int) -> dict[str, str]:
    """The parent's, with our packages first on the path and libraries that thread by themselves held back."""
    roots = [str(Path(str(package.__file__)).resolve().parent.parent) for package in (validate, edgeship)]
    # The parent's own path too: the modules beside a configuration file are on it.
    path = [*roots, *(str(Path(entry).resolve()) for entry in sys.path)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "PYTHONIOENCODING": "utf-8",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
