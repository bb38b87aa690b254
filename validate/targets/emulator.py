"""What the emulated targets share: QEMU's user mode, its refusals, and the counter of executed instructions."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgeship.core.errors import RefusedError
from edgeship.validate.runner.table import DEVICE_RUNTIMES
from edgeship.validate.targets.target import EMULATED, Target, TargetFailure

COUNTER_FILE = "libcount.so"
COUNTER_SOURCE = Path(__file__).with_name("count_instructions.c")
COMPILE_SECONDS = 60
# What QEMU says, as a warning, of each instruction of a processor that it does not emulate.
UNSUPPORTED = "TCG doesn't support requested feature: "
# Libraries of this machine, and settings for its processor.
HOST_ONLY = ("LD_LIBRARY_PATH", "LD_PRELOAD", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONHOME")


class EmulatedTarget(Target):
    """A processor that QEMU emulates for one process at a time: real kernels, real bits, no time.

    A guest process sees this machine's files, so nothing is copied.
    """

    kind = EMULATED
    runtimes = DEVICE_RUNTIMES
    measures_time = False
    float_on_golden_only = True
    qemu = ""  # the command

    def require_qemu(self) -> None:
        """Raise TargetFailure where the emulator is not installed."""
        if shutil.which(self.qemu) is None:
            raise TargetFailure(f"{self.name}: expected the command {self.qemu}, found none; apt install qemu-user")

    def explain(self, *, exit_code: int | None, last_words: Sequence[str]) -> TargetFailure | None:
        """QEMU's own refusals; a crash of the guest is the artifact's or the runtime's."""
        own = [
            line for line in last_words
            if line.startswith((f"{self.qemu}: ", "Could not open")) and UNSUPPORTED not in line
        ]
        return None if not own or "uncaught target signal" in own[0] else TargetFailure(f"{self.name}: {own[0]}")


def environment_options() -> list[str]:
    """Return the options of QEMU that leave out of a guest what is set for this machine."""
    # A fixed hash seed: the same run executes the same instructions.
    return [
        *(part for name in HOST_ONLY if name in os.environ for part in ("-U", name)), "-E", "PYTHONHASHSEED=0",
    ]


def counting_options(counter: Path, counts: Path) -> list[str]:
    """Return the options of QEMU that write executed instructions to `counts` at each mark."""
    return ["-plugin", f"{counter},counts={counts}"]


def build_counter(folder: Path) -> Path:
    """Compile the counter into a folder. The plug-in finds QEMU's functions when QEMU loads it: nothing is linked.

    Raises:
        RefusedError: there is no gcc, or it failed.
    """
    return compile_library(COUNTER_SOURCE, folder / COUNTER_FILE)


def compile_library(source: Path, library: Path) -> Path:
    """Compile a C file into a shared library. Raises RefusedError: there is no gcc, or it failed."""
    try:
        done = subprocess.run(
            ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=COMPILE_SECONDS, check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefusedError(f"gcc failed: {error}; apt install gcc") from error
    if done.returncode:
        raise RefusedError(f"gcc failed: {' | '.join(done.stderr.splitlines()[-3:])}")
    return library
