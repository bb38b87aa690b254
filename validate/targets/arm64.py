"""The emulated target: `arm64` or `arm64:CPU`. The CPU model is always named, in reports too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeship.core.errors import ConfigError, RefusedError
from edgeship.validate.runner.pack import packed_runner
from edgeship.validate.runner.table import DEVICE_RUNTIMES
from edgeship.validate.targets.arm64_processors import DEFAULT, PROCESSORS
from edgeship.validate.targets.arm64_root import guest_python, installed_versions, root_folder
from edgeship.validate.targets.target import EMULATED, Target, TargetFailure

QEMU = "qemu-aarch64"
# Libraries of this machine, and settings for its processor.
HOST_ONLY = ("LD_LIBRARY_PATH", "LD_PRELOAD", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONHOME")


class Arm64Target(Target):
    """A guest process sees this machine's files, so nothing is copied."""

    kind = EMULATED
    runtimes = DEVICE_RUNTIMES
    measures_time = False
    float_on_golden_only = True

    def __init__(self, name: str) -> None:
        cpu = name.partition(":")[2] or DEFAULT
        if cpu not in PROCESSORS:
            raise ConfigError(f"target {name!r}: expected arm64:CPU with one of {', '.join(PROCESSORS)}; found {cpu!r}")
        super().__init__(f"arm64:{cpu}")
        self._cpu = cpu
        self._root = root_folder()

    def __enter__(self) -> Arm64Target:
        if shutil.which(QEMU) is None:
            raise TargetFailure(f"{self.name}: expected the command {QEMU}, found none; apt install qemu-user")
        if installed_versions() is None:
            raise TargetFailure(
                f"{self.name}: no root file system in {self._root}; run `edgeship setup arm64` (about 70 MB)"
            )
        return self

    def command(self, runtime: str) -> list[str]:
        """The runner in the guest's Python."""
        return self._guest([])

    def counting_command(self, counts: Path) -> list[str]:
        """The same, with the executed instructions written to `counts` at each mark."""
        return self._guest(["-plugin", f"{self._root / 'libcount.so'},counts={counts}"])

    def explain(self, *, exit_code: int | None, last_words: Sequence[str]) -> TargetFailure | None:
        """QEMU's own refusals; a crash of the guest is the artifact's or the runtime's."""
        own = next((line for line in last_words if line.startswith((f"{QEMU}: ", "Could not open"))), None)
        return None if own is None or "uncaught target signal" in own else TargetFailure(f"{self.name}: {own}")

    def missing(self, package: str) -> TargetFailure:
        """The set-up has all packages, so it is of another version."""
        return TargetFailure(f"{self.name}: {package} is not in {self._root}; run `edgeship setup arm64` again")

    def describe(self) -> dict[str, Any]:
        """The CPU model and the versions in the guest."""
        processor = PROCESSORS[self._cpu]
        return {
            "cpu_model": f"{self._cpu} (emulated; stands for {processor.stands_for})",
            "cpu_flags": processor.features.split(),
            "architecture": "aarch64",
            "emulator": f"{QEMU} -cpu {processor.qemu}",
            "versions": installed_versions(),
        }

    def _guest(self, options: Sequence[str]) -> list[str]:
        try:
            python = guest_python(self._root)
        except RefusedError as error:
            raise TargetFailure(f"{self.name}: {error}") from error
        return [
            QEMU, "-cpu", PROCESSORS[self._cpu].qemu, "-L", str(self._root / "cpus" / self._cpu),
            *(part for name in HOST_ONLY if name in os.environ for part in ("-U", name)),
            # A fixed hash seed: the same run executes the same instructions.
            "-E", f"PYTHONPATH={self._root / 'wheels'}", "-E", "PYTHONHASHSEED=0", *options, str(python),
            str(packed_runner()),
        ]
