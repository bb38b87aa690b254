"""Where Linux tells of itself: files that may not be there, control groups, a Raspberry Pi's firmware."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def text(path: str) -> str:
    """Return the content of a file; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def texts(folder: str, pattern: str) -> list[str]:
    """Return what the files of a pattern hold, without those that are empty."""
    return [content for path in sorted(Path(folder).glob(pattern)) if (content := text(str(path)).strip())]


def cgroups() -> list[str]:
    """Where the control groups that limit this process's processor time may lie: its own first, then the parents.

    A container that shows its own group as the root has only the last of them.
    """
    folders: list[str] = []
    for line in text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        else:
            roots = ["/sys/fs/cgroup/cpu"] if "cpu" in controllers.split(",") else []
        parts = [part for part in path.split("/") if part]
        folders += ["/".join([root, *parts[:length]]) for root in roots for length in range(len(parts), -1, -1)]
    return folders


def vcgencmd(word: str) -> str | None:
    """What a Raspberry Pi's firmware answers; None on everything else."""
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, word], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
