"""A target: it takes files, starts the process that answers a runtime's requests, and brings files back.

What a target starts speaks the runner's protocol (validate/runner/protocol.py) on its standard input and output,
whether it is a process on this machine, one behind ssh or adb, or a bridge to a browser. So a runtime knows
nothing of targets, and a target nothing of runtimes but which ones it has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeship.core.errors import TargetFailure
from edgeship.validate.runner.table import RUNTIMES

__all__ = [
    "DEVICE", "EMULATED", "NATIVE", "NO_SPACE", "Target", "TargetFailure", "quoted",
]

NO_SPACE = ("No space left on device", "Disk quota exceeded")  # what a full device says
NATIVE, EMULATED, DEVICE = "native", "emulated", "device"


class Target:
    """This machine, and the base of the other targets. Use it in `with`.

    Raises (when entered, and from every method):
        TargetFailure: the target is not there or not fit; the message starts with the target's name.
    """

    kind = NATIVE  # "native", "emulated" or "device"
    runtimes: tuple[str, ...] = tuple(name for name, runtime in RUNTIMES.items() if runtime.by_runner)
    measures_time = True  # False: an emulator's time is no device's
    times_together = True  # False: its processes are too large to be all alive while they take turns
    # Float artifacts only on the golden images: one inference takes seconds under emulation.
    float_on_golden_only = False

    def __init__(self, name: str = "cpu") -> None:
        self.name = name

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing behind on the target."""

    @property
    def processes(self) -> int | None:
        """How many processes share the accuracy run; None: one for each core of this machine."""
        return None

    def command(self, runtime: str) -> Sequence[str]:
        """The command on this machine that starts a process answering requests for `runtime`."""
        return (sys.executable, "-P", "-m", "edgeship.validate.process.worker")

    def counting_command(self, counts: Path) -> Sequence[str] | None:
        """The same, writing executed instructions to `counts` at each mark; None: they cannot be counted here."""
        return None

    def put(self, local: Path) -> str:
        """Bring a file to the target; its path there."""
        return str(local)

    def new_path(self, name: str) -> str | None:
        """Where on the target a file of this name can be written; None: where the caller likes."""
        return None

    def get(self, there: str, local: Path) -> None:
        """Bring a file back."""

    def remove(self, there: str) -> None:
        """Remove a file that `put` or the target's process made there."""

    def explain(self, *, exit_code: int | None, last_words: Sequence[str]) -> TargetFailure | None:
        """What the end of a process says of the target, if anything; exit_code is None while it is alive."""
        return None

    def missing(self, package: str) -> TargetFailure | None:
        """The error for a Python package that the runtime needs and the target lacks; None: not the target's."""
        return None

    def describe(self) -> dict[str, Any] | None:
        """The machine behind the target, as plain JSON values; None: this machine, which the report has."""
        return None

    def state(self) -> dict[str, Any] | None:
        """Temperature, clock, throttling and battery at this moment; None where the target cannot tell."""
        return None


def quoted(words: Sequence[str]) -> str:
    """The last words in parentheses, or nothing."""
    said = [word.strip() for word in words if word.strip()]
    return f" ({' | '.join(said[-3:])})" if said else ""
