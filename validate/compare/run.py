"""Two artifacts or two bundles in, a comparison out: every pair on every target."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeship.core.comparison import COMPARISON_SCHEMA, INCONCLUSIVE, REFUSED, VERDICTS, Check, Comparison, Environment
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ConfigError, TargetFailure
from edgeship.core.progress import say
from edgeship.core.version import __version__
from edgeship.validate.compare.arms import Pair, Pairs
from edgeship.validate.compare.check import First, run_check
from edgeship.validate.compare.environment import refusals, state, warnings
from edgeship.validate.compare.place import place_of
from edgeship.validate.compare.settings import Settings
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.table import make_target
from edgeship.validate.targets.target import Target

GIT_SECONDS = 10


def compare(
    found: Pairs,
    settings: Settings,
    config: ValidateConfig,
    *,
    baseline: str,
    candidate: str,
    runtimes: tuple[str, ...] = (),
    first: First | None = None,
) -> Comparison:
    """Compare every pair on every target of `config.targets`.

    Args:
        found: what `pair_arms` returned.
        baseline, candidate: how they were given.
        runtimes: only these; none: the one that users run, for each format.
        first: see `run_check`.

    Raises:
        ConfigError: a target or a runtime that is not fit for these artifacts.
    """
    started_s, created_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    targets = [make_target(name, config) for name in dict.fromkeys(config.targets)]
    work = [
        (target, pair, runtime)
        for target in targets for pair in found.pairs for runtime in runtimes_for(target, pair, runtimes)
    ]
    _require_work(work, runtimes)
    made = _Made(notes=list(found.notes))
    with tempfile.TemporaryDirectory(prefix="edgeship-compare-") as folder:
        for target in targets:
            own = [(pair, runtime) for where, pair, runtime in work if where is target]
            if own and not made.interrupted:
                _compare_on(target, own, settings, made, total=len(work), folder=Path(folder), first=first)
    verdicts = {check.verdict for check in made.checks}
    return Comparison(
        schema=COMPARISON_SCHEMA, created_by=f"edgeship {__version__}", created_at=created_at,
        commit=checked_out_commit(), baseline=baseline, candidate=candidate, self_test=settings.self_test,
        verdict=next((verdict for verdict in VERDICTS if verdict in verdicts), INCONCLUSIVE),
        reasons=tuple(
            f"{check.label}: {check.verdict}: {reason}" for check in made.checks for reason in check.reasons
        ),
        notes=tuple(made.notes), interrupted=made.interrupted, seconds=time.monotonic() - started_s,
        environments=tuple(made.environments), checks=tuple(made.checks),
    )


@dataclass(eq=False, kw_only=True)
class _Made:
    """What is there so far, also when it ends early."""

    notes: list[str]
    checks: list[Check] = field(default_factory=list)
    environments: list[Environment] = field(default_factory=list)
    interrupted: bool = False


def _compare_on(
    target: Target,
    work: Sequence[tuple[Pair, str]],
    settings: Settings,
    made: _Made,
    *,
    total: int,
    folder: Path,
    first: First | None,
) -> None:
    """Add one target's checks, and what it is."""
    with ExitStack() as stack:
        try:
            stack.enter_context(target)
            before = state(target)
        except TargetFailure as error:
            say(str(error))
            made.checks += [refused(pair, target, runtime, settings, (str(error),)) for pair, runtime in work]
            return
        reasons = refusals(before)
        made.notes += [f"{target.name}: {warning}" for warning in warnings(before)]
        for pair, runtime in work:
            if reasons and target.measures_time and settings.timing:
                made.checks.append(refused(pair, target, runtime, settings, reasons))
                continue
            place = place_of(target, runtime, settings)
            try:
                outcome = run_check(pair, place, settings, checks=total, folder=folder, first=first)
            except KeyboardInterrupt:  # not while timing; what other checks measured is kept
                made.interrupted = True
                break
            made.checks.append(outcome.check)
            if outcome.interrupted:
                made.interrupted = True
                break
        with suppress(TargetFailure):  # a target that is gone by now has no environment; its checks say so
            made.environments += _environments(target, work, settings, before)


def _environments(
    target: Target, work: Sequence[tuple[Pair, str]], settings: Settings, before: dict[str, Any]
) -> list[Environment]:
    """One for each runtime. Raises TargetFailure."""
    after = state(target, since=before)
    return [
        Environment(
            target=target.name, state_before=before, state_after=after,
            fingerprint=place_of(target, runtime, settings).fingerprint(threads=settings.threads),
        )
        for runtime in dict.fromkeys(runtime for _, runtime in work)
    ]


def refused(pair: Pair, target: Target, runtime: str, settings: Settings, reasons: tuple[str, ...]) -> Check:
    """A check that was not made."""
    return Check(
        name=pair.name, runtime=runtime, target=target.name, kind=target.kind, threads=settings.threads,
        baseline=pair.arm(pair.baseline), candidate=pair.arm(pair.candidate), verdict=REFUSED, reasons=reasons,
        advice=(), exact=(), timing=None,
    )


def runtimes_for(target: Target, pair: Pair, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those asked for, or the first that users run: the runner's before a maker's tool."""
    fit = [
        name for name in RUNTIMES
        if name in target.runtimes and pair.format in RUNTIMES[name].takes and not RUNTIMES[name].float_tensors_only
    ]
    if wanted:
        return tuple(name for name in fit if name in wanted)
    return tuple([name for name in fit if RUNTIMES[name].production][:1])


def _require_work(work: Sequence[tuple[Target, Pair, str]], wanted: tuple[str, ...]) -> None:
    for name in wanted:
        if name not in RUNTIMES:
            raise ConfigError(f"--runtime {name}: expected one of {', '.join(RUNTIMES)}")
    for target, _, _ in work:
        if target.name == "browser":
            raise ConfigError("--on browser: a browser's clock is too coarse to compare by; use cpu, ssh:// or adb")
    if not work:
        raise ConfigError(
            f"no target has a runtime ({', '.join(wanted) or 'any'}) that takes these artifacts; leave --runtime out"
        )


def checked_out_commit() -> str | None:
    """The checked-out commit of the folder the command runs in; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
