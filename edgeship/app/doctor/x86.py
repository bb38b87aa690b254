"""What `edgeship doctor` says of the emulated x86 processors: two of them run an inference of each runtime."""

from __future__ import annotations

import functools
import platform
import shutil
from collections.abc import Callable

from edgeship.app.doctor.findings import Finding
from edgeship.app.doctor.trials import GROUP_SECONDS, at_once, infer
from edgeship.core.errors import RuntimeFailure
from edgeship.validate.runner.table import DEVICE_RUNTIMES, RUNTIMES
from edgeship.validate.targets.x86 import ARCHITECTURES, QEMU, STANDS_FOR, X86Target

TRIED = tuple(name for name in DEVICE_RUNTIMES if RUNTIMES[name].production)


def examine_x86() -> list[Finding]:
    """QEMU, and with it the CPU models that documentation names; one sentence on other machines than x86."""
    if platform.machine().lower() not in ARCHITECTURES:
        detail = f"expected an x86-64 machine, whose Python and wheels it runs, found {platform.machine()}"
        return [_finding("x86", detail, works=False)]
    if shutil.which(QEMU) is None:
        return [_finding(
            "x86", f"expected the command {QEMU}, found none", works=False, install="apt install qemu-user"
        )]
    jobs: list[Callable[[], str]] = [functools.partial(_trouble, name) for name in STANDS_FOR]
    troubles = map(str, at_once(jobs, seconds=GROUP_SECONDS))
    return [_cpu(name, trouble) for name, trouble in zip(STANDS_FOR, troubles, strict=True)]


def _cpu(name: str, trouble: str) -> Finding:
    if trouble:
        return _finding(f"x86:{name}", trouble, works=False)
    gcc = shutil.which("gcc") is not None
    counted = "instructions are counted" if gcc else "instructions are not counted: expected gcc, found none"
    return _finding(
        f"x86:{name}", f"{' and '.join(TRIED)} ran; {STANDS_FOR[name]}; {counted}", works=True,
        install=None if gcc else "apt install gcc",
    )


def _trouble(name: str) -> str:
    """What keeps the runtimes from an inference on this CPU model; empty where they answer rightly."""
    try:
        with X86Target(f"x86:{name}") as target:
            infer(target, *TRIED)
    except RuntimeFailure as error:
        return str(error)
    return ""


def _finding(name: str, detail: str, *, works: bool, install: str | None = None) -> Finding:
    return Finding(name=name, kind="target", works=works, detail=detail, how_to_install=install)
