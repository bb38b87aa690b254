"""The gate of speed: how many times as fast as its float32 file a file is, on the processors it is shipped to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeship.core.config import ValidateConfig
from edgeship.core.ship import BY_TIME, ShipLine
from edgeship.core.text import some
from edgeship.validate.questions.findings import FAIL, INCONCLUSIVE, PASS, REFUSED, Finding
from edgeship.validate.timing.speedup import FEWEST_LAUNCHES


def speed_verdict(speedup: float, interval: tuple[float, float] | None, config: ValidateConfig) -> str:
    """Return the verdict on a speed-up that was measured by time: the whole interval is on one side of the limit."""
    if config.min_speedup is None:
        return PASS
    if interval is None:
        return INCONCLUSIVE
    lower, upper = interval
    return PASS if lower >= config.min_speedup else FAIL if upper < config.min_speedup else INCONCLUSIVE


def speed_findings(ship: Sequence[ShipLine], config: ValidateConfig) -> Iterator[Finding]:
    """Yield what `validate.min_speedup` finds; instructions are no time, so they are not judged."""
    if config.min_speedup is None:
        return
    limit, timed = f"validate.min_speedup is {config.min_speedup:g}", False
    for line in ship:
        if line.speedup is None or line.speedup_by != BY_TIME:
            continue
        timed = True
        verdict = speed_verdict(line.speedup, line.speedup_ci95, config)
        found = f"{line.speedup_of}: {line.speedup:.2f} times as fast as {line.float_file}"
        if line.speedup_ci95 is None:
            needed = f"its 95 % interval needs {FEWEST_LAUNCHES} launches (validate.latency_launches)"
            yield Finding(verdict=verdict, sentence=f"{found}; {limit}, and {needed}")
        elif verdict != PASS:
            lower, upper = line.speedup_ci95
            wide = ", which is too wide to decide" if verdict == INCONCLUSIVE else ""
            yield Finding(
                verdict=verdict, sentence=f"{found} (95 % interval {lower:.2f} to {upper:.2f}){wide}; {limit}"
            )
    if not timed:
        reasons = dict.fromkeys(line.speedup_missing for line in ship if line.speedup_missing is not None)
        yield Finding(verdict=REFUSED, sentence=(
            f"{limit}, and no file was timed beside its float file: {some([str(reason) for reason in reasons])}"
        ))
