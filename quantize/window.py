"""The window of a range: the values that its readers tell apart. What lies outside it does not count for the range."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from edgeship.core.output_forms import softmax_window
from edgeship.quantize.calibration import Seen

# Of the largest logits of all answers, these few smallest say how fast their distribution falls.
TAIL_SHARE, LEAST_TAIL = 0.1, 10
# One example in so many times those that were seen has a largest logit below the margin.
UNSEEN = 100


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a range must hold; None: that end has no bound."""

    low: float | None = None
    high: float | None = None
    softmax: bool = False  # the last axis goes into a softmax; the lower end follows the largest logits

    @property
    def bounds_something(self) -> bool:
        """Whether anything may be left out."""
        return self.softmax or self.low is not None or self.high is not None


OPEN = Window()
SOFTMAX = Window(softmax=True)
# A sigmoid is 1/1024 at -ln(1023), a quarter of a step of 1/256: below it every code is 0. Its last code is 255, which
# is every value from 254.75/256 on: ln(254.75 / 1.25). tanh(x) = 2 sigmoid(2 x) - 1 has steps of 1/128: half of both.
SIGMOID = Window(low=-math.log(1023), high=math.log(254.75 / 1.25))
TANH = Window(low=-math.log(1023) / 2, high=math.log(254.75 / 1.25) / 2)


def reach_of(classes: int, tops: np.ndarray) -> float:
    """Return how far below the smallest largest logit a softmax's window reaches: `softmax_window`, and a margin.

    The margin is for examples that were not seen. Where a distribution's lower end falls exponentially (most do, far
    enough out), the k smallest of n values lie on average one `scale` below the k-th (Pickands 1975), and a value
    that is `scale * ln(r)` below the smallest comes once in r * n examples.

    Args:
        tops: the largest logit of every answer that was seen, (n,).
    """
    count = min(len(tops), max(LEAST_TAIL, round(TAIL_SHARE * len(tops))))
    tail = np.partition(tops, count - 1)[:count]
    return softmax_window(classes) + float(tail.max() - tail.mean()) * math.log(UNSEEN)


def seen_inside(seen: Seen, window: Window) -> Seen:
    """Return what was seen inside of a window: extremes are moved to its ends, values outside are left out.

    They are left out and not moved, since no error of theirs counts, however much an end is moved further.
    """
    low = -math.inf if window.low is None else window.low
    high = math.inf if window.high is None else window.high
    extremes = {
        member: [(min(max(least, low), high), min(max(most, low), high)) for least, most in batches]
        for member, batches in seen.extremes.items()
    }
    if not seen.samples:
        return dataclasses.replace(seen, extremes=extremes)
    values = seen.values
    inside = values[(values >= low) & (values <= high)]
    return dataclasses.replace(
        seen, extremes=extremes, samples=[inside if len(inside) else np.clip(values, low, high)]
    )
