"""The emulated target: `arm64` or `arm64:CPU`. The CPU model is always named, in reports too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeship.core.errors import ConfigError, RefusedError
from edgeship.validate.runner.pack import packed_runner
from edgeship.validate.targets.arm64_processors import DEFAULT, PROCESSORS
from edgeship.validate.targets.arm64_root import guest_python, installed_versions, root_folder
from edgeship.validate.targets.emulator import COUNTER_FILE, EmulatedTarget, counting_options, environment_options
from edgeship.validate.targets.target import TargetFailure

QEMU = "qemu-aarch64"
# The modules lie in a cache folder of our own. Without their byte code a start takes three times as long, since the
# compiler is emulated too.
KEEP_BYTE_CODE = ("-U", "PYTHONDONTWRITEBYTECODE")


class Arm64Target(EmulatedTarget):
    """An Arm processor, with the Python and the wheels of the root file system that `edgeship setup arm64` makes."""

    qemu = QEMU

    def __init__(self, name: str) -> None:
        cpu = name.partition(":")[2] or DEFAULT
        if cpu not in PROCESSORS:
            raise ConfigError(f"target {name!r}: expected arm64:CPU with one of {', '.join(PROCESSORS)}; found {cpu!r}")
        super().__init__(f"arm64:{cpu}")
        self._cpu = cpu
        self._root = root_folder()

    def __enter__(self) -> Arm64Target:
        self.require_qemu()
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
        return self._guest(counting_options(self._root / COUNTER_FILE, counts))

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
            *environment_options(), *KEEP_BYTE_CODE, "-E", f"PYTHONPATH={self._root / 'wheels'}", *options,
            str(python), str(packed_runner()),
        ]
