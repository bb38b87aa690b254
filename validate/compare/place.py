"""Where a check runs: a runtime on a target, and the cores that both arms may be bound to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from edgeship.core.errors import ConfigError
from edgeship.validate.compare.environment import fingerprint
from edgeship.validate.compare.settings import Settings
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.launches import Bench


@dataclass(frozen=True, kw_only=True)
class Place:
    """`cpus`: one of them is drawn for each launch; empty: not bound."""

    target: Target
    runtime: str
    cpus: tuple[int, ...]

    def bench(self, settings: Settings) -> Bench:
        """What the launches there share."""
        return Bench(
            target=self.target, runtime=self.runtime, threads=settings.threads, cpus=self.cpus,
            timeout_seconds=settings.timeout_seconds,
        )

    def fingerprint(self, *, threads: int) -> dict[str, Any]:
        """What its times depend on. Raises TargetFailure."""
        return fingerprint(
            self.target, runtime=self.runtime, threads=threads, pinned=bool(self.cpus), cpus=self.cpus
        )


def place_of(target: Target, runtime: str, settings: Settings) -> Place:
    """Raises ConfigError where no core can be bound to, and TargetFailure."""
    return Place(target=target, runtime=runtime, cpus=_usable_cpus(target, runtime, settings))


def _usable_cpus(target: Target, runtime: str, settings: Settings) -> tuple[int, ...]:
    """What both arms of a launch may be bound to: one core, since two are never equally fast."""
    if not settings.pin or settings.threads > 1 or not RUNTIMES[runtime].by_runner or not target.measures_time:
        return ()
    if settings.cpus:
        return settings.cpus
    about = target.describe()
    if about is not None:
        return tuple(about.get("usable_cpus") or ())
    if not hasattr(os, "sched_getaffinity"):
        raise ConfigError("this system cannot bind a process to a core; accept a noisier comparison with --no-pin")
    return tuple(sorted(os.sched_getaffinity(0)))
