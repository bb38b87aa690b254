"""How many times as fast as its float file is a row? By time where time was measured, by instructions where not."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.measurement import Row
from edgeship.core.ship import BY_INSTRUCTIONS, BY_TIME
from edgeship.validate.timing.ratios import choose_metric
from edgeship.validate.timing.speedup import speedup


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Float file over own file: 2.0 is half the time, or half the instructions. Instructions are exact: no interval."""

    ratio: float
    interval: tuple[float, float] | None
    by: str  # "time" or "instructions"

    @property
    def is_loss(self) -> bool:
        """Whether the row is slower; a time whose interval has 1 in it is neither slower nor faster."""
        return self.ratio < 1 if self.interval is None else self.interval[1] < 1


def gain_of(row: Row, reference: Row) -> Gain | None:
    """Return the gain of a row over the row of its float file, on one runtime and target; None where not measured."""
    own, other = row.latency, reference.latency
    if own is not None and other is not None and own.launches and len(own.launches) == len(other.launches):
        told = all(launch.rounds_cpu_ms for launch in (*own.launches, *other.launches))
        metric = choose_metric(threads=row.threads, cpu_time_measured=told)
        ratio, interval = speedup(own.launches, other.launches, metric=metric)
        return Gain(ratio=ratio, interval=interval, by=BY_TIME)
    if row.instructions and reference.instructions:
        return Gain(ratio=reference.instructions / row.instructions, interval=None, by=BY_INSTRUCTIONS)
    return None
