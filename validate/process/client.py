"""The parent's end of a worker process: start it, ask it, and say clearly how it failed."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from edgeship.core.child import child_environment
from edgeship.core.errors import RuntimeFailure, TargetFailure
from edgeship.core.parts import INSTALL, how_to_install
from edgeship.core.signals import signal_name
from edgeship.validate.targets.target import Target

STDERR_LINES = 20
PATIENCE_SECONDS = 5.0  # for a process that was asked to end, or whose pipe has just closed

# What `do` means in a sentence: "crashed (SIGSEGV) while ..."
DOING = {
    "pin": "binding it to processors", "import": "importing the runtime", "load": "loading the file",
    "probe": "loading the file",
    "run": "running inferences",
    "sustain": "running without a pause",
    "time": "timing inferences", "plan": "planning the operations", "mark": "counting instructions",
    "memory": "reading its memory", "tensors": "keeping its tensors",
    "layers": "running single layers", "shapes": "inferring its shapes",
    "state": "reading its state", "canary": "timing a fixed piece of work",
    "profile": "timing single operations",
}


# Of Python modules that are named otherwise than their packages.
PACKAGES = {"ai_edge_litert": "ai-edge-litert"}
RUNTIMES_KEY = "validate.runtimes"
MISSING_ADVICE = f"; install it, or leave the runtime out of {RUNTIMES_KEY}"

# (the worker, its line); None: the pipe closed.
Inbox = queue.SimpleQueue[tuple["Worker", str | None]]


class Worker:
    """A child process with one model. Use it in `with`: leaving ends the process, whatever happened.

    Raises (when it starts, from `ask` and `receive`):
        RuntimeFailure: the runtime refused, crashed, hung or answered nonsense; the message starts with
            `label`, for example "int8-qat.tflite / litert". The process is ended, the worker of no more use.
        TargetFailure: the same, where the target is to blame: the link was cut, the runtime is not installed.
    """

    def __init__(
        self,
        label: str,
        *,
        timeout_seconds: float,
        threads: int = 1,
        target: Target | None = None,
        runtime: str = "",
        command: Sequence[str] | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        """`target` is where the process runs (None: here); `command` replaces the target's own."""
        self.label = label
        self._target = target or Target()
        command = self._target.command(runtime) if command is None else command
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
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to what was sent; for a worker with an inbox of its own."""
        return receive(self._inbox, timeout_seconds=self._timeout_seconds, waiting=[self])[1]

    def understand(self, line: str | None) -> dict[str, Any] | None:
        """A line of the child as its answer; None for mere progress."""
        if line is None:
            raise self._ended()
        try:
            message = json.loads(line)
            (kind, content), = message.items()
        except (ValueError, AttributeError, RecursionError) as error:
            raise self._nonsense(line) from error
        if kind == "progress":
            return None
        if kind == "ok" and isinstance(content, dict):
            return content
        if kind == "error" and isinstance(content, dict):
            self.close(at_once=True)
            raise self._refused(content)
        if kind == "ended" and isinstance(content, int):  # a supervisor on a device says so
            raise self._ended(content)
        raise self._nonsense(line)

    def hung(self) -> RuntimeFailure:
        """End the process; the error that says it hung."""
        explained = self._target.explain(exit_code=None, last_words=tuple(self._stderr))
        self.close(at_once=True)
        if explained is not None:
            return type(explained)(f"{self.label}: {explained} while {self._doing}")
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

    def _refused(self, content: dict[str, Any]) -> RuntimeFailure:
        """The runtime's own error, or the target's where it lacks the runtime or the file was altered."""
        kind, message = content.get("type"), str(content.get("message"))
        if kind == "ModuleNotFoundError":
            module = message.rpartition("'")[0].rpartition("'")[2] or message
            missing = self._target.missing(PACKAGES.get(module.split(".")[0], module.split(".")[0]))
            if missing is not None:
                return type(missing)(f"{self.label}: {missing}")
            part = how_to_install(module)
            message += MISSING_ADVICE if part is None else f"; {INSTALL}, or leave the runtime out of {RUNTIMES_KEY}"
        if kind == "TargetFailure":  # of a bridge, which knows the target itself
            return TargetFailure(f"{self.label}: {message}")
        if kind == "AlteredInTransit":
            return TargetFailure(
                f"{self.label}: altered on the way to {self._target.name}: {message}; check the link and the "
                "target's storage, then try again"
            )
        return RuntimeFailure(f"{self.label}: {kind} while {self._doing}: {message}")

    def _ended(self, on_device: int | None = None) -> RuntimeFailure:
        """The process closed its output: the error that says how it ended.

        `on_device` is the exit code of the process behind a link, if its supervisor still could tell; without
        it, what ended is the link's own process, and the target explains that.
        """
        try:
            code: int | None = self._process.wait(PATIENCE_SECONDS) if on_device is None else on_device
        except subprocess.TimeoutExpired:
            code = None
        self.close(at_once=True)
        explained = None if on_device is not None else self._target.explain(
            exit_code=code, last_words=tuple(self._stderr)
        )
        if explained is not None:
            return type(explained)(f"{self.label}: {explained} while {self._doing}")
        how = "closed its output" if code is None else (
            f"crashed ({signal_name(-code)})" if code < 0 else f"ended with exit code {code}"
        )
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
    """That of our children, with libraries that thread by themselves held back."""
    return child_environment(
        PYTHONIOENCODING="utf-8", OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS="1"
    )
