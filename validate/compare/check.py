"""One check: two artifacts of one name, on one runtime of one target. Exact gates first, then time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship.core.artifact import TensorSpec
from edgeship.core.comparison import CHANGED, INCONCLUSIVE, NOT_MEASURED, PASS, REFUSED, REGRESSION, WORSE, Check, Exact
from edgeship.core.errors import RefusedError, RuntimeFailure, TargetFailure
from edgeship.core.progress import fact, stage
from edgeship.validate.compare.arms import Pair, save_example, shifted
from edgeship.validate.compare.exact import judge_facts
from edgeship.validate.compare.facts import Facts, measure_facts
from edgeship.validate.compare.place import Place
from edgeship.validate.compare.settings import Settings
from edgeship.validate.compare.timing import Timed, measure
from edgeship.validate.process.client import Worker
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.subject.rows import ends_for_tools
from edgeship.validate.timing.launches import Contender
from edgeship.validate.timing.sequential import ADJACENT_LOOKS, ALPHA, BETA, LOOKS, Design
from edgeship.validate.timing.summary import BASELINE, CANDIDATE

# (pair, place, a file per input) -> what is known before both arms are timed: "pass" ends the check, anything else
# becomes a reason why they are.
First = Callable[[Pair, Place, Sequence[Path]], Timed]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A check, and whether Ctrl-C ended it."""

    check: Check
    interrupted: bool = False


def run_check(
    pair: Pair, place: Place, settings: Settings, *, checks: int, folder: Path, first: First | None = None
) -> Outcome:
    """Compare one pair, with a line when it begins and one with its verdict.

    Args:
        checks: how many are made in all; each spends its part of the level, so that one false alarm among all of
            them stays as rare as asked.
        folder: for files on the way.
        first: asked after the exact gates and before both arms are timed.
    """
    blank = _blank(pair, place, settings)
    if blank.baseline.sha256 == blank.candidate.sha256 and not settings.self_test:
        return Outcome(check=replace(blank, verdict=PASS, reasons=("identical artifact: the same bytes",)))
    with stage(blank.label, f"{pair.baseline} against {pair.candidate}"):
        outcome = _checked(blank, pair, place, settings, checks=checks, folder=folder, first=first)
        fact("; ".join([outcome.check.verdict, *outcome.check.reasons[:1]]))
    return outcome


def _checked(
    blank: Check, pair: Pair, place: Place, settings: Settings, *, checks: int, folder: Path, first: First | None
) -> Outcome:
    """Return the check of two files that differ, gate by gate."""
    try:
        specs = pair.inputs or _probe(pair, place, settings)
    except RuntimeFailure as error:
        return Outcome(check=replace(blank, verdict=REFUSED, reasons=(str(error),)))
    inputs = _write_inputs(pair, specs, folder)
    facts: dict[str, Facts] = {}
    if settings.exact and not settings.self_test:
        blank, facts = _through_exact_gates(blank, pair, place, settings, inputs, folder)
        if blank.reasons:  # it ends here
            return Outcome(check=blank)
    if not place.target.measures_time or not settings.timing:
        return Outcome(check=_by_exact_gates_alone(blank, place))
    known = None if first is None else first(pair, place, inputs[CANDIDATE])
    if known is not None and known.verdict == PASS:
        return Outcome(check=replace(blank, verdict=PASS, reasons=known.reasons))
    timed = _time(pair, place, settings, inputs, checks=checks)
    reasons = (*(() if known is None else known.reasons), *timed.reasons)
    timing = timed.timing
    if timing is not None and facts:
        timing = replace(timing, **{
            arm: replace(found, peak_memory_bytes=facts[arm].peak_memory_bytes)
            for arm in (BASELINE, CANDIDATE) if (found := getattr(timing, arm)) is not None
        })
    return Outcome(
        check=replace(blank, verdict=timed.verdict, reasons=reasons, advice=timed.advice, timing=timing),
        interrupted=timed.interrupted,
    )


def _write_inputs(pair: Pair, specs: Sequence[TensorSpec], folder: Path) -> dict[str, tuple[Path, ...]]:
    """Write one example for both arms; where one takes int8 and the other uint8, the same points of the grid."""
    example = pair.example(specs)
    shifts = pair.shifts or (0,) * len(example)
    return {
        BASELINE: save_example(folder, f"compare-{BASELINE}", example),
        CANDIDATE: save_example(folder, f"compare-{CANDIDATE}", list(map(shifted, example, shifts))),
    }


def _interface(pair: Pair) -> tuple[Exact, ...]:
    if pair.interface is None:
        return ()
    return (Exact(
        gate="interface", outcome=CHANGED, baseline=None, candidate=None,
        sentence=f"{pair.interface}; an application that exchanges the files must follow",
    ),)


def _blank(pair: Pair, place: Place, settings: Settings) -> Check:
    return Check(
        name=pair.name, runtime=place.runtime, target=place.target.name, kind=place.target.kind,
        threads=settings.threads, baseline=pair.arm(pair.baseline), candidate=pair.arm(pair.candidate),
        verdict=INCONCLUSIVE, reasons=(), advice=(), exact=(), timing=None,
    )


def _through_exact_gates(
    blank: Check, pair: Pair, place: Place, settings: Settings, inputs: Mapping[str, Sequence[Path]], folder: Path
) -> tuple[Check, dict[str, Facts]]:
    """The check with its exact gates, and both arms' facts. Where an arm or a gate fails it has its verdict already."""
    facts: dict[str, Facts] = {}
    for arm, path in ((BASELINE, pair.baseline), (CANDIDATE, pair.candidate)):
        try:
            facts[arm] = measure_facts(
                label=f"{arm} {path.name} / {place.runtime}", path=path, format=pair.format, runtime=place.runtime,
                target=place.target, threads=settings.threads, timeout_seconds=settings.timeout_seconds,
                inputs=inputs[arm], options=tool_options(pair, place), folder=folder,
            )
        except RuntimeFailure as error:
            alone = arm == CANDIDATE and not isinstance(error, TargetFailure)
            verdict, prefix = (REGRESSION, "only the candidate fails: ") if alone else (REFUSED, "")
            return replace(blank, verdict=verdict, reasons=(f"{prefix}{error}",)), facts
    tolerance, limit = settings.thresholds(tool=RUNTIMES[place.runtime].tool)
    exact = (*_interface(pair), *judge_facts(facts[BASELINE], facts[CANDIDATE], tolerance=tolerance, limit=limit))
    worse = tuple(item.sentence for item in exact if item.outcome == WORSE)
    return replace(blank, exact=exact, verdict=REGRESSION if worse else blank.verdict, reasons=worse), facts


def _by_exact_gates_alone(blank: Check, place: Place) -> Check:
    """Where time is not measured, the counted instructions are the figure."""
    missing = [item.sentence for item in blank.exact if item.gate == "instructions" and item.outcome == NOT_MEASURED]
    if not place.target.measures_time and missing:
        return replace(blank, verdict=REFUSED, reasons=tuple(missing))
    why = "its time is not measured" if place.target.measures_time else "an emulator's time is no device's"
    return replace(blank, verdict=PASS, reasons=(f"all exact gates passed; {why}",))


def _time(
    pair: Pair, place: Place, settings: Settings, inputs: Mapping[str, Sequence[Path]], *, checks: int
) -> Timed:
    tool = RUNTIMES[place.runtime].tool
    tolerance, limit = settings.thresholds(tool=tool)
    design = Design(
        tolerance=tolerance, limit=limit, looks=ADJACENT_LOOKS if tool else LOOKS, alpha=ALPHA / checks,
        beta=BETA / checks,
    )
    try:
        contenders = {
            arm: contender(pair, place, path, arm=arm, inputs=inputs[arm])
            for arm, path in ((BASELINE, pair.baseline), (CANDIDATE, pair.candidate))
        }
    except TargetFailure as error:
        return Timed(verdict=REFUSED, reasons=(str(error),))
    return measure(
        contenders, place.bench(settings), design, max_seconds=settings.max_seconds, seed=settings.seed,
        full=settings.self_test,
    )


def contender(pair: Pair, place: Place, path: Path, *, arm: str, inputs: Sequence[Path]) -> Contender:
    """Return an arm, its file and its example brought to the target. Raises TargetFailure."""
    return Contender(
        label=f"{arm} {path.name} / {place.runtime}", path=place.target.put(path),
        inputs=tuple(map(place.target.put, inputs)), options=tool_options(pair, place),
    )


def tool_options(pair: Pair, place: Place) -> dict[str, Any]:
    """A maker's tool is told what the inputs and the outputs are."""
    if not RUNTIMES[place.runtime].tool or pair.inputs is None or pair.outputs is None:
        return {}
    return ends_for_tools(pair.inputs, pair.outputs)


def _probe(pair: Pair, place: Place, settings: Settings) -> tuple[TensorSpec, ...]:
    """Return the inputs of files that only their runtime can read (.ort), which must be the same in both."""
    ends: dict[str, Mapping[str, Any]] = {}
    for arm, path in ((BASELINE, pair.baseline), (CANDIDATE, pair.candidate)):
        with Worker(
            f"{arm} {path.name} / {place.runtime}", timeout_seconds=settings.timeout_seconds, target=place.target,
            runtime=place.runtime,
        ) as worker:
            ends[arm] = worker.ask(
                "load", runtime=place.runtime, path=place.target.put(path), options={"threads": settings.threads}
            )
    kinds = [
        [[(tensor["dtype"], tensor["shape"]) for tensor in ends[arm][key]] for key in ("inputs", "outputs")]
        for arm in (BASELINE, CANDIDATE)
    ]
    if kinds[0] != kinds[1]:
        raise RefusedError(
            f"{pair.baseline} and {pair.candidate}: expected the same inputs and outputs, found "
            f"{kinds[0]} and {kinds[1]}; only artifacts that an application can exchange are compared"
        )
    return tuple(
        TensorSpec(
            name=tensor["name"], dtype=tensor["dtype"],
            shape=tuple(size if isinstance(size, int) and size > 0 else 1 for size in tensor["shape"]),
        )
        for tensor in ends[BASELINE]["inputs"]
    )
