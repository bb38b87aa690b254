"""The machine a measurement was made on: a latency or an int8 accuracy means little without it."""

from __future__ import annotations

import os
import platform
from typing import Any

import psutil

from edgeship.core.cpu import cpu_flags, cpuinfo
from edgeship.validate.runner.machine import version_of
from edgeship.validate.runner.table import PINNED_PACKAGES

# The instructions that decide how fast integer kernels are, and on x86 whether they saturate.
FLAGS_THAT_MATTER = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve",
)
VERSIONS = (*PINNED_PACKAGES, "onnx", "numpy", "tensorflow", "tf-keras")


def describe_machine() -> dict[str, Any]:
    """CPU, memory, operating system and versions, as plain JSON values; what is unknown is None."""
    flags = cpu_flags()
    return {
        "cpu_model": cpuinfo().get("model name") or platform.processor() or None,
        "cpu_flags": [flag for flag in FLAGS_THAT_MATTER if flag in flags] if flags else None,
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in VERSIONS},
        "load_average_1min": psutil.getloadavg()[0],
    }


def usable_cores() -> int:
    """The cores this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
