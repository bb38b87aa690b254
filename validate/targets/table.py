"""A target's name -> the target: "cpu", "x86:haswell", "arm64:cortex-a53", "browser", "ssh://pi@board" ..."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ConfigError
from edgeship.validate.targets.adb import AdbTarget
from edgeship.validate.targets.arm64 import Arm64Target
from edgeship.validate.targets.browser import BrowserTarget
from edgeship.validate.targets.ssh import SshTarget
from edgeship.validate.targets.target import Target
from edgeship.validate.targets.x86 import X86Target


def _ssh(name: str, config: ValidateConfig) -> Target:
    return SshTarget(
        name, ssh=shlex.split(config.ssh_command), python=config.device_python, folder=config.device_folder
    )


def _adb(name: str, config: ValidateConfig) -> Target:
    return AdbTarget(
        name, device_python=config.device_python, device_folder=config.device_folder or "/data/local/tmp",
        benchmark_model=config.benchmark_model, perf_test=config.perf_test,
    )


# What stands before the first ":" -> how it is made.
TARGETS: dict[str, Callable[[str, ValidateConfig], Target]] = {
    "cpu": lambda name, config: Target(name),
    "arm64": lambda name, config: Arm64Target(name),
    "x86": lambda name, config: X86Target(name),
    "browser": lambda name, config: BrowserTarget(name),
    "ssh": _ssh,
    "adb": _adb,
}
PLAIN = ("cpu", "browser")  # take nothing after the name


def make_target(name: str, config: ValidateConfig) -> Target:
    """The target of this name, not entered yet. Raises ConfigError."""
    kind = name.partition(":")[0]
    if kind not in TARGETS or (kind in PLAIN and name != kind):
        raise ConfigError(
            f"target {name!r}: expected cpu, ssh://user@host[:port], adb[:SERIAL], arm64[:CPU], x86[:CPU] or browser"
        )
    return TARGETS[kind](name, config)
