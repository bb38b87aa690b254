"""What a comparison is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.errors import ConfigError

# A maker's tool on a phone gives one observation per launch, its arms do not take turns, and a phone is noisier.
PRESET, TOOL_PRESET = (0.02, 0.05), (0.03, 0.08)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Shares are of the baseline's time: 0.02 is 2 %. None: the preset of the kind of runtime."""

    tolerance: float | None = None
    limit: float | None = None
    max_seconds: float = 300.0  # for the timed part of each check
    threads: int = 1
    pin: bool = True
    cpus: tuple[int, ...] = ()  # to draw from; none: those that may be used
    exact: bool = True
    timing: bool = True
    self_test: bool = False
    timeout_seconds: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        for tolerance, limit in (PRESET, TOOL_PRESET):
            tolerance = tolerance if self.tolerance is None else self.tolerance
            limit = limit if self.limit is None else self.limit
            if not 0 <= tolerance < limit < 1:
                raise ConfigError(
                    f"--tolerance {tolerance:.1%} --limit {limit:.1%}: expected 0 <= tolerance < limit < 100 %; a "
                    "change up to the tolerance is no regression, one above the limit must not pass"
                )
        if self.max_seconds <= 0:
            raise ConfigError(f"--max-seconds: expected a number above 0, found {self.max_seconds:g}")
        if self.threads < 1:
            raise ConfigError(f"--threads: expected 1 or more, found {self.threads}")
        if not (self.exact or self.timing):
            raise ConfigError("--no-exact and --no-timing together leave nothing to compare")

    def thresholds(self, *, tool: bool) -> tuple[float, float]:
        """(tolerance, limit) for a runtime."""
        tolerance, limit = TOOL_PRESET if tool else PRESET
        return tolerance if self.tolerance is None else self.tolerance, limit if self.limit is None else self.limit
