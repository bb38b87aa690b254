"""The keeper: a process on the device that holds our folder there, and removes it when the link ends.

However this side comes to its end (done, killed, network cut), the keeper's standard input closes over there, and
nothing of ours stays on the device. It also says what the device is (validate/runner/supervisor.py, `keep`).
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

STDERR_LINES = 20


class KeeperEnded(Exception):
    """It did not answer; the exit code is None where it is alive but silent."""

    def __init__(self, exit_code: int | None, last_words: tuple[str, ...]) -> None:
        super().__init__(" | ".join(last_words))
        self.exit_code, self.last_words = exit_code, last_words


class Keeper:
    """`command` is the command on this machine that starts it over there."""

    def __init__(self, command: Sequence[str], *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                encoding="utf-8", errors="replace", start_new_session=True,
            )
        except OSError as error:
            raise KeeperEnded(None, (str(error),)) from error
        self._readers = [
            threading.Thread(target=read, daemon=True) for read in (self._read_answers, self._read_stderr)
        ]
        for reader in self._readers:
            reader.start()

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises KeeperEnded."""
        try:
            line = self._lines.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise self._end(None) from None
        if line is None:
            raise self._end(self._process.wait(self._timeout_seconds))
        try:
            content = json.loads(line)["ok"]
            if not isinstance(content, dict):
                raise ValueError(line)
        except (ValueError, TypeError, KeyError) as error:
            self._stderr.append(f"expected one line of JSON, found {line.strip()[:80]!r}")
            raise self._end(None) from error
        return content

    def state(self) -> dict[str, Any]:
        """Ask for another look at the device. Raises KeeperEnded."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("state\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._end(self._process.poll()) from error
        return self.answer()

    def ended(self) -> KeeperEnded | None:
        """Ask whether it is still there; None where it answers."""
        try:
            self.state()
        except KeeperEnded as error:
            return error
        return None

    def close(self) -> None:
        """Let it remove the folder and end; kill our end of it where it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(self._timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(self._timeout_seconds)

    def _end(self, exit_code: int | None) -> KeeperEnded:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(1)
        return KeeperEnded(exit_code, tuple(line for line in self._stderr if line))

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            self._stderr.extend(line.strip() for line in lines)
