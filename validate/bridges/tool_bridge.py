"""A bridge: a process here that answers the runner's requests by running a maker's own tool on an adb device.

The tools know nothing of the runner's protocol: they are started anew for each request, read and write raw bytes,
and print for people. The paths in requests are the device's, as for every other target.
"""

from __future__ import annotations

import argparse
import functools
import secrets
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeship.validate.runner.protocol import require_hash, serve_pipes
from edgeship.validate.runner.session import Session
from edgeship.validate.targets.adb_link import Adb

LAUNCH_SECONDS = 300.0  # longer than a script of launches should take
# A tool would go on after the link is cut or this process is killed, and disturb what is measured next. So while it
# runs, a second process over there waits for the end of standard input, and ends it.
TOOL = """exec 3<&0
tool() {{
    {binary} "$@" </dev/null 3<&- & t=$!
    {{ read x; kill $t; }} <&3 >/dev/null 2>&1 & w=$!
    wait $t; s=$?
    kill $w 2>/dev/null
    return $s
}}
"""
LAST_LINES = 3


class ToolFailed(Exception):
    """The tool on the device ended with an error, or left out what it was asked for."""


class ToolBridge(Session):
    """What the bridges share. `binary` and `folder` are paths on the device."""

    def __init__(self, send: Callable[[dict[str, Any]], None], *, adb: Adb, binary: str, folder: str) -> None:
        super().__init__(send)
        self.adb, self._binary, self._folder = adb, binary, folder
        self._prefix = f"tool-{secrets.token_hex(4)}"  # other bridges share the folder
        self.path = ""
        self.threads = 1

    def check(self, path: str, sha256: str | None) -> None:
        """That a file on the device is the one that was sent, where the device can tell."""
        found = None if sha256 is None else self.adb.sha256(path)
        if found is not None and sha256 is not None:
            require_hash(path, found=found, expected=sha256)

    def call(self, *flags: str) -> str:
        """The tool with these flags, as words of a shell script for `run`."""
        return f"tool {shlex.join(flags)}"

    def run(self, script: str) -> str:
        """Run a script of `call`s there; what was printed. Raises ToolFailed."""
        done = self.adb.shell(
            TOOL.format(binary=shlex.quote(self._binary)) + script, timeout_seconds=LAUNCH_SECONDS
        )
        if done.exit_code != 0:
            lines = [line.strip() for line in done.text.splitlines() if line.strip()]
            raise ToolFailed(
                f"{Path(self._binary).name} ended with exit code {done.exit_code}: {' | '.join(lines[-LAST_LINES:])}"
            )
        return done.text

    def there(self, name: str) -> str:
        """A path on the device of our own."""
        return f"{self._folder}/{self._prefix}-{name}"

    def remove(self, *there: str) -> None:
        """Remove files on the device."""
        self.adb.checked(f"rm -f {shlex.join(there)}")

    def do_import(self, *, runtime: str) -> dict[str, Any]:
        """Nothing: the tool has everything in it."""
        return {}

    def do_memory(self) -> dict[str, Any]:
        """Not told, unless a bridge knows better."""
        return {"peak_memory_bytes": None}

    def do_state(self) -> dict[str, Any]:
        """The target tells it; this process is not on the device."""
        return {}


def main(bridge: type[ToolBridge]) -> None:
    """Answer requests on the standard pipes, as the command line says."""
    parser = argparse.ArgumentParser()
    for option in ("adb", "serial", "name", "binary", "folder"):
        parser.add_argument(f"--{option}", required=True)
    given = parser.parse_args()
    bound = functools.partial(
        bridge, adb=Adb(given.adb, given.serial, given.name), binary=given.binary, folder=given.folder
    )
    serve_pipes(bound)
