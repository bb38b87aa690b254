"""What was measured of a row that ran on and on: does the device keep its speed when it gets warm?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Window:
    """About ten seconds without a pause, and the device at their end; None: it does not tell."""

    seconds: float  # how long it took
    inferences: int
    median_ms: float
    clock_mhz: float | None
    temperature_c: float | None

    @property
    def per_second(self) -> float:
        """Inferences in a second."""
        return self.inferences / self.seconds


@dataclass(frozen=True, kw_only=True)
class Sustained:
    """The windows in the order in which they were measured, one right behind the other, by one process."""

    windows: tuple[Window, ...]

    @property
    def seconds(self) -> float:
        """How long the row ran in all."""
        return sum(window.seconds for window in self.windows)

    @property
    def held(self) -> float:
        """The throughput of the last window as a share of the first one's."""
        return self.windows[-1].per_second / self.windows[0].per_second
