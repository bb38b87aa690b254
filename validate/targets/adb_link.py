"""The user's own `adb`, bound to one device by its serial: shell scripts, push, pull, hashes.

`adb` cannot be believed about success: where the link is cut while a command runs, `adb shell` ends with exit code
0 and what was printed so far (seen with client 29.0.6), and before Android 7 it never passed exit codes on. So
every script here ends by printing its own exit code, and without that line the link was cut.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship.core.errors import TargetFailure
from edgeship.validate.targets.target import NO_SPACE, quoted

SHELL_SECONDS = 60.0
TRANSFER_SECONDS = 600.0
END = "edgeship-exit-code="
TOO_OLD = "doesn't support PTY args"  # `shell -T`, without which bytes are altered on the way
# What adb says when there is no device behind the serial any more.
CUT = ("device offline", "device not found", "no devices/emulators found", "error: closed", "protocol fault",
       "cannot connect to daemon", "failed to read from", "connect failed")


@dataclass(frozen=True)
class Done:
    """A script that came to its end on the device."""

    exit_code: int
    text: str  # standard output and error together, in the order in which they came

    @property
    def last_lines(self) -> str:
        """What it said last, for a message."""
        return quoted(self.text.splitlines())


@dataclass(frozen=True)
class Adb:
    """`name` is the target's, which every message starts with.

    Raises (from every method):
        TargetFailure: the device is not there (any more), is full, or does not answer.
    """

    binary: str
    serial: str
    name: str

    def command(self, *words: str) -> list[str]:
        """An adb command for this device and no other."""
        return [self.binary, "-s", self.serial, *words]

    def list_devices(self) -> str:
        """The output of `adb devices -l`, which concerns all devices; starts the server where none runs."""
        exit_code, text = self._run([self.binary, "devices", "-l"], timeout_seconds=SHELL_SECONDS)
        if exit_code != 0:
            words = quoted(text.splitlines())
            raise TargetFailure(f"{self.name}: adb devices failed with exit code {exit_code}{words}")
        return text

    def shell_command(self, script: str) -> list[str]:
        """Start a script there with its pipes for us: `-T` keeps terminals, which alter bytes, away."""
        return self.command("shell", "-T", script)

    def shell(self, script: str, *, timeout_seconds: float = SHELL_SECONDS) -> Done:
        """Run a shell script there to its end; its standard input ends when the link is cut or we are killed."""
        # A subshell, so that `exit` in the script does not take our last line away.
        command = self.shell_command(f"( {script}\n) 2>&1; e=$?; echo; echo {END}$e")
        read_end, write_end = os.pipe()  # nothing is ever written
        try:
            text = self._run(command, timeout_seconds=timeout_seconds, stdin=read_end)[1].replace("\r\n", "\n")
        finally:
            os.close(read_end)
            os.close(write_end)
        output, found, exit_code = text.rpartition(f"\n{END}")
        if not found or not exit_code.strip().isdigit():
            if TOO_OLD in text:
                raise TargetFailure(
                    f"{self.name}: expected Android 7 or newer there, found an older adbd{quoted([text])}"
                )
            raise self.cut(text.splitlines())
        return Done(int(exit_code), output)

    def checked(self, script: str, *, timeout_seconds: float = SHELL_SECONDS) -> str:
        """The same, and it must succeed; what it printed."""
        done = self.shell(script, timeout_seconds=timeout_seconds)
        if done.exit_code != 0:
            self._raise_if_full(done.text)
            raise TargetFailure(
                f"{self.name}: a command failed there with exit code {done.exit_code}{done.last_lines}"
            )
        return done.text

    def push(self, local: Sequence[Path], there: str) -> None:
        """Copy a file to a path, or several into a folder that exists."""
        self._transfer("push", *(str(path.resolve()) for path in local), there)

    def pull(self, there: Sequence[str], local: Path) -> None:
        """Copy a file to a path, or several into a folder that exists."""
        self._transfer("pull", *there, str(local.resolve()))

    def sha256(self, there: str) -> str | None:
        """The hash of a file there; None where the device has no tool for it."""
        quoted = shlex.quote(there)
        done = self.shell(
            f"sha256sum {quoted} 2>/dev/null || toybox sha256sum {quoted} 2>/dev/null", timeout_seconds=TRANSFER_SECONDS
        )
        match = re.match(r"\\?([0-9a-f]{64})\b", done.text.strip())
        return None if match is None else match.group(1)

    def is_there(self) -> bool:
        """Whether adb still sees the device and could talk to it."""
        try:
            return self._run(self.command("get-state"), timeout_seconds=SHELL_SECONDS)[1].strip() == "device"
        except TargetFailure:
            return False

    def cut(self, words: Sequence[str]) -> TargetFailure:
        """The error that says the link is gone."""
        return TargetFailure(f"{self.name}: the link was cut{quoted(words)}")

    def _transfer(self, *words: str) -> None:
        exit_code, text = self._run(self.command(*words), timeout_seconds=TRANSFER_SECONDS)
        if exit_code == 0:
            return
        self._raise_if_full(text)
        if any(sign in text for sign in CUT) or f"'{self.serial}' not found" in text:
            raise self.cut(text.splitlines())
        raise TargetFailure(f"{self.name}: adb {words[0]} failed with exit code {exit_code}{quoted(text.splitlines())}")

    def _raise_if_full(self, text: str) -> None:
        if any(sign in text for sign in NO_SPACE):
            raise TargetFailure(
                f"{self.name}: no space left there{quoted(text.splitlines())}; free some, or choose another folder "
                "with validate.device_folder"
            )

    def _run(
        self, command: Sequence[str], *, timeout_seconds: float, stdin: int = subprocess.DEVNULL
    ) -> tuple[int, str]:
        try:
            done = subprocess.run(
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=timeout_seconds, check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TargetFailure(
                f"{self.name}: no answer for {timeout_seconds:g} s; check the link, and what the device is busy with"
            ) from error
        except OSError as error:
            raise TargetFailure(f"{self.name}: {self.binary} could not be started ({error})") from error
        return done.returncode, done.stdout.decode(errors="replace")
