"""What Linux says about the processor; other systems say nothing here."""

from __future__ import annotations

import hashlib
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is no such file."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def cpu_flags() -> frozenset[str] | None:
    """The first processor's instructions, called flags on x86 and features on Arm; None where not known."""
    known = cpuinfo()
    words = known.get("flags") or known.get("Features")
    return None if words is None else frozenset(words.split())


def processor_identity() -> dict[str, str | None]:
    """What decides which integer kernels a runtime chooses: the model, and a hash of the flags; None: not known."""
    flags = cpu_flags()
    digest = None if flags is None else hashlib.sha256(" ".join(sorted(flags)).encode()).hexdigest()
    return {"cpu_model": cpuinfo().get("model name"), "cpu_flags_sha256": digest}
