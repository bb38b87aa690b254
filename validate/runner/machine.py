"""What this machine is: processor, memory, system, and the packages that are installed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from typing import Any

from . import system
from .table import PACKAGES

NATIVE_ENDS = (".so,", ".so.", ".pyd,", ".dll,", ".dylib,")  # in a line of RECORD: path,hash,size


def describe() -> dict[str, Any]:
    """What this machine is: processor, memory, system, and the packages that are installed.

    `identity` is what must be equal, besides, for times of another day to be comparable; reports for people leave it
    out.
    """
    pairs = [line.split(":", 1) for line in system.text("/proc/cpuinfo").split("\n\n")[0].splitlines() if ":" in line]
    known = {key.strip(): value.strip() for key, value in pairs}
    flags = known.get("flags") or known.get("Features")
    memory = [line.split() for line in system.text("/proc/meminfo").splitlines() if line.startswith("MemTotal:")]
    siblings = set(system.texts("/sys/devices/system/cpu", "cpu*/topology/thread_siblings_list"))
    return {
        "model": system.text("/proc/device-tree/model").strip("\0\n ") or None,
        "cpu_model": known.get("model name") or _arm_part(known) or platform.processor() or None,
        "cpu_flags": None if flags is None else flags.split(),
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count(),
        "usable_cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": int(memory[0][1]) * 1024 if memory else None,
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in (*PACKAGES, "numpy")},
        "identity": {
            "cpu_stepping": known.get("stepping") or known.get("CPU revision"),
            "microcode": known.get("microcode"),
            "hypervisor": _hypervisor(known.get("flags")),
            "physical_cores": len(siblings) or None,
            "cgroup_cpu_max": cgroup_cpu_max(),
            "kernel": platform.release(),
            "board_serial": system.text("/proc/device-tree/serial-number").strip("\0\n ") or None,
            "firmware": system.vcgencmd("version"),
            "hostname": platform.node() or None,
            "libraries_sha256": {name: _libraries_sha256(name) for name in (*PACKAGES, "numpy")},
        },
    }


def _arm_part(known: dict[str, str]) -> str | None:
    """Arm systems name the core by numbers."""
    part = known.get("CPU part")
    return None if part is None else f"CPU implementer {known.get('CPU implementer')} part {part}"


def _hypervisor(x86_flags: str | None) -> bool | None:
    """Whether this is a virtual machine; None where the system does not tell, as most Arm ones."""
    if x86_flags is not None:
        return "hypervisor" in x86_flags.split()
    signs = ("/sys/hypervisor/type", "/proc/device-tree/hypervisor/compatible")
    return True if any(map(system.text, signs)) else None


def _libraries_sha256(distribution: str) -> str | None:
    """One hash over the native libraries' lines of the package's RECORD, which has a hash of each file.

    Not over all lines: those of Python files that the installer compiled or wrote itself differ between installers.
    """
    try:
        record = importlib.metadata.distribution(distribution).read_text("RECORD") or ""
    except importlib.metadata.PackageNotFoundError:
        return None
    lines = sorted(line for line in record.splitlines() if any(end in line for end in NATIVE_ENDS))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


def version_of(distribution: str) -> str | None:
    """Return the installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def cgroup_cpu_max() -> str | None:
    """The tightest limit as "quota period" in microseconds, "max" where there is none; None: no control groups."""
    folders = system.cgroups()
    pairs = [system.text(f"{folder}/cpu.max").split() for folder in folders]
    pairs += [system.text(f"{folder}/cpu.cfs_quota_us").split() + system.text(f"{folder}/cpu.cfs_period_us").split()
              for folder in folders]
    limits = [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2 and pair[0].isdigit()]  # not "max", "-1"
    if not limits:
        return "max" if folders else None
    quota, period = min(limits, key=lambda limit: limit[0] / limit[1])
    return f"{quota} {period}"
