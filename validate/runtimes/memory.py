"""The most memory a process has held."""

from __future__ import annotations

from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory_bytes() -> int | None:
    """The peak resident memory of this process in bytes; None where the system does not tell.

    On Linux VmHWM, since `getrusage` still counts the parent that the process was forked from.
    """
    if STATUS.exists():
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        kibibytes = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
        return None if kibibytes is None else int(kibibytes) * 1024
    import psutil  # not on Linux, where every worker would pay for it

    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    return None if peak is None else int(peak)
