"""Keeps one Chromium, and leaves neither a process nor a folder of it behind.

    python -P -m edgeship.validate.bridges.browser_keeper CHROMIUM URL

Chromium runs until it ends by itself or standard input closes; then all its processes are killed and its profile
is removed. This is a process of its own because the bridge may be killed with SIGKILL, which nothing survives to
clean up after: its end of the pipe closes even then. When Chromium ends, one line of JSON says how:
`{"code": exit code, "last_words": "..."}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO

import psutil

PREFIX = "edgeship-browser-"
LAST_WORDS = 3  # lines of Chromium's standard error
PATIENCE_SECONDS = 5.0  # until processes that were killed are gone
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

FLAGS = (
    "--headless=new", "--disable-gpu", "--mute-audio", "--log-level=3",
    # Nothing but the page: no questions, no extensions, no crash reports, no keyring.
    "--no-first-run", "--no-default-browser-check", "--disable-default-apps", "--disable-extensions",
    "--disable-breakpad", "--password-store=basic", "--use-mock-keychain",
    # Nothing from or to anywhere but this machine. Chromium asks for updates and lists by itself otherwise.
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    # Containers have 64 MB of /dev/shm, in which a large model's page crashes; files in the profile do as well.
    "--disable-dev-shm-usage",
)


def keep(chromium: str, url: str) -> None:
    """Run Chromium until it ends or standard input closes."""
    _adopt_orphans()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as profile:
        try:
            process = subprocess.Popen(
                [chromium, *FLAGS, *_root_flags(), f"--user-data-dir={profile}", url],
                env=_environment(profile), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
        except OSError as error:
            _say(code=None, last_words=f"it could not be started: {error}")
            return
        lines: deque[bytes] = deque(maxlen=LAST_WORDS)
        reader = threading.Thread(target=_read, args=(process.stderr, lines), daemon=True)
        reader.start()
        try:
            code = _wait(process)
        finally:
            _end(process)
        reader.join(PATIENCE_SECONDS)
        _say(code=code, last_words=" | ".join(line.decode(errors="replace").strip() for line in lines))


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for Chromium's end, which comes when it crashes, standard input closes or a signal arrives."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: process.kill())
    threading.Thread(target=_kill_when_abandoned, args=(process,), daemon=True).start()
    return process.wait()


def _kill_when_abandoned(process: subprocess.Popen[bytes]) -> None:
    # Unbuffered: a thread that waits inside a buffered reader would hold its lock when Python ends.
    while os.read(0, 1024):
        pass
    process.kill()


def _read(stream: IO[bytes], lines: deque[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        lines.extend(stream)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of Chromium: its session, and the crash handlers, which leave that session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + PATIENCE_SECONDS
    process.wait()
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline_s:
        for child in left:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(left, timeout=0.5)


def _adopt_orphans() -> None:
    """Become the parent of Chromium's processes whose own parent ended, so that none is missed or stays a zombie.

    Linux only; elsewhere the session's processes are all that is killed.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _root_flags() -> tuple[str, ...]:
    """Chromium refuses to run as root with its sandbox on. The page runs no code but the two npm modules'."""
    return ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()


def _environment(profile: str) -> dict[str, str]:
    """The parent's, with every folder Chromium writes to moved into the profile."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    return {**kept, "HOME": profile, "TMPDIR": profile}


def _say(*, code: int | None, last_words: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to hear it
        sys.stdout.write(json.dumps({"code": code, "last_words": last_words}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    keep(str(Path(sys.argv[1])), sys.argv[2])
