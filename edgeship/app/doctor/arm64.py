"""What `edgeship doctor` says of the emulated Arm processors: each CPU model runs an inference of each runtime."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgeship.app.doctor.findings import Finding
from edgeship.app.doctor.trials import BUSY, GROUP_SECONDS, TRIAL_SECONDS, at_once, infer, output_of
from edgeship.core.errors import RuntimeFailure, TargetFailure
from edgeship.validate.runner.machine import version_of
from edgeship.validate.runner.session import MARK_DESCRIPTOR
from edgeship.validate.runner.table import DEVICE_RUNTIMES, RUNTIMES
from edgeship.validate.targets.arm64 import QEMU, Arm64Target
from edgeship.validate.targets.arm64_processors import PROCESSORS
from edgeship.validate.targets.arm64_root import TOOLS, installed_versions, root_folder

SET_UP = "edgeship setup arm64"
# What users run; the same packages hold the reference kernels.
TRIED = tuple(name for name in DEVICE_RUNTIMES if RUNTIMES[name].production)
COUNTED, NOT_COUNTED = "instructions are counted", "instructions are not counted"
# A guest that the counter must see twice.
MARK_PROGRAM = f"""
import os
for _ in range(2):
    try:
        os.close({MARK_DESCRIPTOR})
    except OSError:
        print("marked")
"""


def examine_arm64() -> list[Finding]:
    """QEMU and the root file system; with both, the CPU models and the instruction counter."""
    versions = installed_versions()
    missing = [f"expected the command {QEMU}, found none"] if shutil.which(QEMU) is None else []
    if versions is None:
        missing.append(f"expected a root file system in {root_folder()}, found none that is complete")
    if versions is None or missing:
        return [_finding("arm64", "; ".join(missing), works=False, install=_how_to_set_up(root=versions is None))]
    jobs: list[Callable[[], str]] = [*(functools.partial(_trouble, name) for name in PROCESSORS), _counter]
    *troubles, counter = map(str, at_once(jobs, seconds=GROUP_SECONDS))
    cpus = [_cpu(name, trouble) for name, trouble in zip(PROCESSORS, troubles, strict=True)]
    return [_root_file_system(versions, counter, works=any(cpu.works for cpu in cpus)), *cpus]


def _finding(name: str, detail: str, *, works: bool, install: str | None = None) -> Finding:
    return Finding(name=name, kind="target", works=works, detail=detail, how_to_install=install)


def _how_to_set_up(*, root: bool) -> str:
    """`root`: the root file system is to be made, which needs more tools than its use."""
    tools = TOOLS if root else {QEMU: TOOLS[QEMU]}
    missing = [package for tool, package in tools.items() if shutil.which(tool) is None]
    return " && ".join([f"apt install {' '.join(missing)}"] * bool(missing) + [SET_UP] * root)


def _cpu(name: str, trouble: str) -> Finding:
    target = Arm64Target(f"arm64:{name}")
    if trouble:
        return _finding(target.name, trouble, works=False, install=None if trouble.endswith(BUSY) else SET_UP)
    return _finding(target.name, f"{' and '.join(TRIED)} ran; {PROCESSORS[name].stands_for}", works=True)


def _trouble(name: str) -> str:
    """What keeps the runtimes from an inference on this CPU model; empty where they answer rightly."""
    target = Arm64Target(f"arm64:{name}")
    try:
        infer(target, *TRIED)
    except RuntimeFailure as error:
        return str(error)
    return ""


def _root_file_system(versions: dict[str, str], counter: str, *, works: bool) -> Finding:
    found = ", ".join(f"{package} {version}" for package, version in versions.items())
    here = {package: version_of(package) or "none" for package in versions}
    others = ", ".join(f"{package} {version}" for package, version in here.items() if version != versions[package])
    compared = f"not the same as here ({others}), set up again to compare one release" if others else "the same as here"
    none = "" if works else "; none of the CPU models runs"
    # A counter that this QEMU does not load will not be loaded either when it is set up again.
    again = others or not (root_folder() / "libcount.so").is_file()
    return _finding(
        "arm64", f"{_qemu_version()}; {found}: {compared}; {counter}{none}", works=works,
        install=SET_UP if again else None,
    )


def _qemu_version() -> str:
    try:
        return output_of([QEMU, "--version"])[0].split(" (")[0]
    except TargetFailure as error:
        return str(error)


def _counter() -> str:
    """Whether QEMU loads the instruction counter, and the counter counts."""
    with tempfile.TemporaryDirectory(prefix="edgeship-doctor-") as folder:
        counts = Path(folder) / "counts.txt"
        try:
            *guest, _runner = Arm64Target("arm64").counting_command(counts)
            output_of([*guest, "-I", "-S", "-c", MARK_PROGRAM], seconds=TRIAL_SECONDS)
            marks = [int(line) for line in counts.read_text(encoding="ascii").split()]
        except (RuntimeFailure, OSError, ValueError) as error:
            return f"{NOT_COUNTED}: {error}"
    if len(marks) != 2 or not 0 < marks[0] < marks[1]:
        return f"{NOT_COUNTED}: expected two rising counts, found {marks}"
    return COUNTED
