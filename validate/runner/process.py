"""This process: the most memory that it held, and how often it was interrupted."""

from __future__ import annotations

from .system import text


def peak_memory_bytes() -> int | None:
    """The peak resident memory of this process in bytes; None where the system does not tell.

    On Linux VmHWM, since `getrusage` still counts the parent that the process was forked from.
    """
    lines = text("/proc/self/status").splitlines()
    kibibytes = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    if kibibytes is not None:
        return int(kibibytes) * 1024
    try:
        import psutil  # not on Linux, where every worker would pay for it
    except ImportError:
        return None
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    return None if peak is None else int(peak)


def involuntary_switches() -> int | None:
    """How often this process was put off its processor so far; None where the system does not tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)
