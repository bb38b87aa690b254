"""The emulated target `x86` or `x86:CPU`: an x86 processor with fewer instructions than this machine's."""

from __future__ import annotations

import functools
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeship.core.errors import ConfigError, RefusedError
from edgeship.validate.runner.machine import version_of
from edgeship.validate.runner.pack import packed_runner
from edgeship.validate.runner.table import PINNED_PACKAGES
from edgeship.validate.targets.emulator import (
    UNSUPPORTED,
    EmulatedTarget,
    build_counter,
    counting_options,
    environment_options,
)
from edgeship.validate.targets.target import TargetFailure, quoted

QEMU = "qemu-x86_64"
DEFAULT = "haswell"
ARCHITECTURES = ("x86_64", "amd64")
# Those that reports and documentation name; QEMU has more.
STANDS_FOR = {
    "haswell": "AVX2 without VNNI: Intel from 2013 to 2019, AMD before Zen 4",
    "nehalem": "SSE4.2 without AVX: Intel from 2008, later Pentium, Celeron and Atom processors",
}
# What ONNX Runtime and LiteRT choose kernels by. Where QEMU lacks one of a processor's, it is another processor.
KERNEL_FEATURES = ("sse4", "ssse3", "avx", "fma", "f16c", "vnni", "amx")  # and what begins so: avx2, avx512f ...
PROBE_SECONDS = 120.0
# NumPy asks the processor itself, as the runtimes do; QEMU shows programs this machine's /proc/cpuinfo.
PROBE = """
import json
from numpy._core._multiarray_umath import __cpu_features__ as found
print(json.dumps(sorted(name.lower() for name, there in found.items() if there)))
"""


class X86Target(EmulatedTarget):
    """An x86 processor with this machine's own Python and wheels: no root file system."""

    qemu = QEMU

    def __init__(self, name: str) -> None:
        cpu = name.partition(":")[2] or DEFAULT
        models = cpu_models()
        if models and cpu.lower() not in models:
            raise ConfigError(
                f"target {name!r}: expected x86:CPU with haswell, nehalem or another processor of `{QEMU} -cpu help`; "
                f"found {cpu!r}"
            )
        super().__init__(f"x86:{cpu.lower()}")
        self._cpu = cpu.lower()
        self._model = models.get(self._cpu, cpu)
        self._features: list[str] = []

    def __enter__(self) -> X86Target:
        machine = platform.machine()
        if machine.lower() not in ARCHITECTURES or sys.platform != "linux":
            raise TargetFailure(
                f"{self.name}: expected an x86-64 machine with Linux, whose Python and wheels the emulated processor "
                f"runs, found {machine} with {platform.system()}; run it there"
            )
        self.require_qemu()
        self._features = self._probe()
        return self

    def command(self, runtime: str) -> list[str]:
        """The runner in this machine's Python."""
        return self._guest([])

    def counting_command(self, counts: Path) -> list[str] | None:
        """The same, with the executed instructions written to `counts` at each mark; None where there is no gcc."""
        counter = _counter()
        return None if counter is None else self._guest(counting_options(counter, counts))

    def describe(self) -> dict[str, Any]:
        """The CPU model, the instructions that programs find there, and the versions of the wheels."""
        stands_for = STANDS_FOR.get(self._cpu)
        return {
            "cpu_model": f"{self._model} (emulated{f'; stands for {stands_for}' if stands_for else ''})",
            "cpu_flags": self._features,
            "architecture": "x86_64",
            "emulator": f"{QEMU} -cpu {self._model}",
            "versions": {name: version_of(name) for name in ("numpy", *PINNED_PACKAGES)},
        }

    def _guest(self, options: Sequence[str]) -> list[str]:
        return self._python([*options], [str(packed_runner())])

    def _python(self, options: Sequence[str], arguments: Sequence[str]) -> list[str]:
        return [QEMU, "-cpu", self._model, *environment_options(), *options, sys.executable, *arguments]

    def _probe(self) -> list[str]:
        """Return the instructions that a program finds. Raises TargetFailure where some of the processor's lack."""
        try:
            done = subprocess.run(
                self._python([], ["-P", "-c", PROBE]), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=PROBE_SECONDS, check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TargetFailure(f"{self.name}: {QEMU} did not run Python ({error})") from error
        lacking = lacking_features(done.stderr)
        if lacking:
            raise TargetFailure(
                f"{self.name}: expected a processor that {QEMU} emulates with all that kernels are chosen by, such as "
                f"x86:{DEFAULT}, found that it lacks {', '.join(lacking)} of this one"
            )
        try:
            features: list[str] = json.loads(done.stdout)
        except ValueError as error:
            raise TargetFailure(f"{self.name}: Python did not start there{quoted(done.stderr.splitlines())}") from error
        return features


def lacking_features(warnings: str) -> list[str]:
    """Return the instructions of KERNEL_FEATURES that QEMU says it lacks, in its own spelling."""
    # "... requested feature: CPUID.07H:EBX.avx512f [bit 16]"
    named = [
        line.partition(UNSUPPORTED)[2].split(" [")[0].rpartition(".")[2]
        for line in warnings.splitlines() if UNSUPPORTED in line
    ]
    return [name for name in dict.fromkeys(named) if name.startswith(KERNEL_FEATURES)]


def cpu_models() -> dict[str, str]:
    """Return the CPU models of the emulator that is installed: name in small letters -> name; none: no emulator."""
    try:
        done = subprocess.run(
            [QEMU, "-cpu", "help"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=PROBE_SECONDS, check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    words = [line.split() for line in done.stdout.splitlines()]
    return {row[1].lower(): row[1] for row in words if len(row) > 1 and row[0] == "x86"}


@functools.cache
def _counter() -> Path | None:
    """The counter, compiled once in this process; None where there is no gcc."""
    folder = tempfile.TemporaryDirectory(prefix="edgeship-counter-")
    _KEPT.append(folder)
    try:
        return build_counter(Path(folder.name))
    except RefusedError:
        return None


_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when this process ends
