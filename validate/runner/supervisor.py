"""The modes of a device: the runner in a child that is watched, and the keeper of a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from .machine import describe
from .state import device_state


def supervise() -> None:
    """Run this same program without arguments in a child; say how it ended; end it when standard input closes."""
    child = subprocess.Popen(
        [sys.executable, sys.argv[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdin is not None and child.stdout is not None
    child_input = child.stdin

    def forward() -> None:
        try:
            for line in sys.stdin.buffer:
                child_input.write(line)
                child_input.flush()
            child_input.close()
            child.wait(5)  # a child that is idle ends by itself
        except (OSError, subprocess.TimeoutExpired):
            child.kill()

    threading.Thread(target=forward, daemon=True).start()
    for line in child.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    print(json.dumps({"ended": child.wait()}), flush=True)  # noqa: T201
    os._exit(0)  # the thread may still be reading; an ordinary exit would wait for it, or abort on its lock


def keep(parent: str) -> None:
    """Make a folder, tell of it and of this machine, and remove it when standard input closes."""
    folder = tempfile.mkdtemp(prefix="edgeship-", dir=parent or None)

    def end(*_: object) -> None:
        # The removal is in the handler, not in what an exception unwinds: a cut link often brings a signal just after
        # the closed input, and an exception in the middle of a removal would end that.
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, end)
    try:
        print(json.dumps({"ok": {"folder": folder, **describe(), "state": device_state()}}), flush=True)  # noqa: T201
        for line in sys.stdin:  # one more look at the machine for each line
            if line.strip():
                print(json.dumps({"ok": device_state()}), flush=True)  # noqa: T201
    finally:
        shutil.rmtree(folder, ignore_errors=True)
