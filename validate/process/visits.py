"""The targets of one run: entered at its start, looked at again at its end."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure, TargetFailure
from edgeship.core.measurement import TargetRecord
from edgeship.core.progress import say
from edgeship.validate.targets.table import make_target
from edgeship.validate.targets.target import Target


@dataclass(kw_only=True)
class Visit:
    """A target while it is used; `error` where it could not be."""

    target: Target
    machine: dict[str, Any] | None = None
    state_before: dict[str, Any] | None = None
    state_after: dict[str, Any] | None = None
    error: RuntimeFailure | None = None

    def look_again(self) -> None:
        """The state at the end; a target that is gone by then has no state."""
        if self.error is None:
            with contextlib.suppress(TargetFailure):
                self.state_after = self.target.state()

    def record(self) -> TargetRecord:
        """As the report keeps it."""
        return TargetRecord(
            name=self.target.name, kind=self.target.kind, machine=self.machine, state_before=self.state_before,
            state_after=self.state_after, error=None if self.error is None else str(self.error),
        )


def visit_target(name: str, config: ValidateConfig, stack: ExitStack) -> Visit:
    """Enter a target. One that is not there becomes rows with an error: the others go on."""
    target = make_target(name, config)
    visit = Visit(target=target)
    try:
        stack.enter_context(target)
        visit.machine, visit.state_before = target.describe(), target.state()
    except TargetFailure as error:
        say(str(error))
        visit.error = error
    return visit
