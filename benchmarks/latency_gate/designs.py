"""Ways to decide whether latency regressed, applied to recorded launches: True (it did), False, or None (no answer)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import beta, mannwhitneyu

from edgeship.core.comparison import REGRESSION
from edgeship.validate.timing.sequential import LOOKS, Design, look_at

Record = dict[str, Any]  # a line of record.py
DESIGN = Design(tolerance=0.02, limit=0.05)
THRESHOLD = 0.05
APART_SECONDS = 60.0  # a stored baseline is of another minute, at least
REPETITIONS = 9


def edgeship(records: Sequence[Record], arm: str, metric: str, draw: random.Random) -> tuple[bool | None, int]:
    """The sequential decision over launches in a random order; and how many it took. None: inconclusive."""
    ratios = []
    for record in draw.sample(list(records), min(LOOKS[-1], len(records))):
        ratio = log_ratio(record, arm, metric)
        # Two processes of one file are exchangeable, so which of them is called the candidate is drawn too.
        ratios.append(ratio * draw.choice((-1, 1)) if arm == "base2" else ratio)
    return decide(ratios)


def replay(records: Sequence[Record], arm: str) -> list[tuple[bool | None, int]]:
    """One check after the other in the order of the recording, each launch used once. The last may be unfinished."""
    ratios, answers = [log_ratio(record, arm, "cpu_ns") for record in records], []
    while len(ratios) >= LOOKS[0]:
        answer, count = decide(ratios[: LOOKS[-1]])
        if answer is None and len(ratios) < LOOKS[-1]:
            break
        answers.append((answer, count))
        ratios = ratios[count:]
    return answers


def decide(ratios: Sequence[float]) -> tuple[bool | None, int]:
    """What `edgeship compare` would have said, and after how many launches."""
    for number, count in enumerate(LOOKS):
        if count > len(ratios):
            break
        verdict = look_at(ratios[:count], number, DESIGN).verdict
        if verdict is not None:
            return verdict == REGRESSION, count
    return None, min(LOOKS[-1], len(ratios))


def stored_threshold(records: Sequence[Record], arm: str, metric: str, draw: random.Random) -> tuple[bool, int]:
    """The median of one process against a stored median of another minute: more than 5 % longer fails."""
    stored = draw.choice(list(records))
    others = [item for item in records if abs(item["started_at"] - stored["started_at"]) >= APART_SECONDS]
    now = draw.choice(others or list(records))
    ratio = np.median(now["sides"][arm][metric]) / np.median(stored["sides"]["base"][metric])
    return bool(ratio > 1 + THRESHOLD), 1


def one_pair(records: Sequence[Record], arm: str, metric: str, draw: random.Random) -> tuple[bool, int]:
    """Mann-Whitney, p < 0.01, over the rounds of one pair of processes that took turns."""
    sides = draw.choice(list(records))["sides"]
    return _longer(sides["base"][metric], sides[arm][metric], level=0.01), 1


def repetitions(records: Sequence[Record], arm: str, metric: str, draw: random.Random) -> tuple[bool, int]:
    """9 repetitions of the one, then 9 of the other, U test at 5 %: Google Benchmark's compare.py."""
    first = draw.randrange(len(records) - 1)
    before, now = records[first]["sides"]["base"][metric], records[first + 1]["sides"][arm][metric]
    return _longer(before[:REPETITIONS], now[:REPETITIONS], level=0.05), 1


DESIGNS: dict[str, Callable[..., tuple[bool | None, int]]] = {
    "edgeship": edgeship,
    "stored median, 5 %": stored_threshold,
    "one pair, Mann-Whitney": one_pair,
    "9 repetitions, U test": repetitions,
}


def log_ratio(record: Record, arm: str, metric: str) -> float:
    """The launch's median over rounds of ln(arm / base)."""
    base, other = (np.asarray(record["sides"][name][metric]) for name in ("base", arm))
    return float(np.median(np.log(other / base)))


def clopper_pearson(count: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """The exact bounds of a share, each one-sided at `level`."""
    tail = 1 - level
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))
    return low, high


def percent(log_value: float) -> float:
    """A log ratio as percent."""
    return math.expm1(log_value) * 100


def _longer(before: Sequence[float], now: Sequence[float], *, level: float) -> bool:
    p_value = mannwhitneyu(now, before, alternative="two-sided").pvalue
    return bool(p_value < level and np.median(now) > np.median(before))
