"""A candidate's times against stored ones of another day: enough to pass, or to be suspicious, never a regression.

In our measurements a rule "5 % slower than the stored median fails" raised a false alarm in four of ten comparisons
of a file with itself, because machines differ from day to day. So a stored session is one observation, the interval
is that of one more session, and what it cannot clear is decided by running both artifacts (see check.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from edgeship.core.comparison import PASS, REFUSED
from edgeship.validate.compare.baseline import Protocol, Recording, Session
from edgeship.validate.compare.environment import differences, refusals
from edgeship.validate.timing.launches import round_times
from edgeship.validate.timing.sequential import ALPHA, BETA
from edgeship.validate.timing.signed_rank import hodges_lehmann, student_t_quantile

SUSPECT = "suspect"
MIN_SESSIONS = 5  # from which their spread is estimated: with fewer, Student's t makes the interval useless
NORMAL = 10**6  # degrees of freedom of a standard deviation that is declared, not estimated
MAD_TO_SD = 1.4826  # of a normal distribution
MIN_LAUNCHES = 5  # of a session
SD_PER_LIMIT = 1 / 4  # the most that sessions may spread: then a change of the limit is four standard deviations
MAX_PRESSURE_PERCENT = 10.0
MAX_CANARY_CHANGE = 0.03  # a clock that differs by more is another machine


@dataclass(frozen=True, kw_only=True)
class StoredComparison:
    """What stored times say. Ratios are candidate / baseline: 1.03 is 3 % slower.

    Where the sessions' times are independent and normal, the true ratio is above `ratio_low` except with probability
    `alpha`, and below `ratio_high` except with probability `beta`.
    """

    verdict: str  # "pass", "suspect" (run both artifacts) or "refused" (these times say nothing)
    reasons: tuple[str, ...]  # sentences
    set_aside: tuple[str, ...]  # stored sessions that were not used, and why
    sessions: int  # that were used
    ratio: float | None  # None: refused
    ratio_low: float | None
    ratio_high: float | None
    alpha: float
    beta: float
    limit: float  # a share: 0.05 is 5 %
    session_sd: float | None  # between sessions, of the logarithms
    session_sd_assumed: bool  # it is what a dedicated machine is declared to have at most, not an estimate


def compare_stored(
    baseline: Recording,
    candidate: Recording,
    *,
    limit: float,
    dedicated: bool = False,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> StoredComparison:
    """Compare the one session of `candidate` with the sessions of `baseline`.

    `dedicated` is the user's word that nothing else runs on this machine: that sessions spread by a quarter of
    `limit` at most, which otherwise at least five stored sessions must show.

    Raises:
        ValueError: `candidate` has not exactly one session.
    """
    (session,) = candidate.sessions
    metric = baseline.protocol.metric
    reasons = [
        *differences(baseline.fingerprint, candidate.fingerprint),
        *_different_protocols(baseline.protocol, candidate.protocol),
        *(f"the candidate's session: {sentence}" for sentence in unfit(session)),
    ]
    if reasons:
        return _refused(reasons, (), 0, limit=limit, alpha=alpha, beta=beta)
    fit, set_aside = _sort_out(baseline.sessions, like=session)
    centers = [center_of(item, metric) for item in fit]
    reasons = [
        *_too_little(centers, limit=limit, dedicated=dedicated),
        *_too_rough(session, fit, metric, limit=limit),
    ]
    if reasons:
        return _refused(reasons, set_aside, len(fit), limit=limit, alpha=alpha, beta=beta)
    few = len(fit) < MIN_SESSIONS
    session_sd, degrees = (_declared_sd(limit), NORMAL) if few else (stdev(centers), len(fit) - 1)
    # One more draw beside the mean of k others. It is no wider than they are: it has as many launches (_too_rough).
    spread = session_sd * math.sqrt(1 + 1 / len(fit))
    estimate = center_of(session, metric) - fmean(centers)
    low = estimate - student_t_quantile(1 - alpha, degrees) * spread
    high = estimate + student_t_quantile(1 - beta, degrees) * spread
    verdict = PASS if high < math.log1p(limit) else SUSPECT
    return StoredComparison(
        verdict=verdict, reasons=(_sentence(estimate, low, high, len(fit), limit, verdict),), set_aside=set_aside,
        sessions=len(fit), ratio=math.exp(estimate), ratio_low=math.exp(low), ratio_high=math.exp(high),
        alpha=alpha, beta=beta, limit=limit, session_sd=session_sd, session_sd_assumed=few,
    )


def center_of(session: Session, metric: str) -> float:
    """What a session is worth: Hodges-Lehmann over its launches, since a launch in ten may be 20 % slow by itself."""
    return hodges_lehmann(log_times(session, metric))


def log_times(session: Session, metric: str) -> list[float]:
    """The logarithm of each launch's median over its rounds, in ns per inference: what a launch is worth."""
    return [math.log(median(round_times(launch.side, metric))) for launch in session.launches]


def unfit(session: Session) -> tuple[str, ...]:
    """Why a session's times cannot be held against another day's, as sentences; empty: they can."""
    return tuple(_unfit(session))


def _unfit(session: Session) -> Iterator[str]:
    before, after = session.state_before, session.state_after
    if len(session.launches) < MIN_LAUNCHES:
        yield f"expected at least {MIN_LAUNCHES} launches, found {len(session.launches)}"
    if any(launch.canary_ns is None for launch in session.launches):
        yield "the machine's speed was not measured (no canary), so a changed clock would look like a changed artifact"
    if before is None or after is None:
        yield "how busy the machine was is not recorded"
        return
    yield from dict.fromkeys((*refusals(before), *refusals(after, since=before)))
    pressures = [state.get("cpu_pressure_percent") for state in (before, after)]
    if None in pressures:
        yield "how busy the machine was is not told (no /proc/pressure/cpu; some kernels need the option psi=1)"
    elif (most := max(float(value) for value in pressures if value is not None)) >= MAX_PRESSURE_PERCENT:
        yield (
            f"in {most:.0f} % of 10 s a process waited for a processor, expected less than {MAX_PRESSURE_PERCENT:.0f} %"
        )


def _sort_out(sessions: Sequence[Session], *, like: Session) -> tuple[list[Session], tuple[str, ...]]:
    """The sessions made in as quiet a state and at the same clock as `like`, and why the others are not used."""
    fit, set_aside = [], []
    for session in sessions:
        why = list(unfit(session))
        if not why and abs(change := _canary_ns(like) / _canary_ns(session) - 1) > MAX_CANARY_CHANGE:
            why = [f"a fixed piece of work took {change:+.1%} now, expected within {MAX_CANARY_CHANGE:.0%}"]
        if why:
            set_aside.append(f"session of {session.created_at}: {'; '.join(why)}")
        else:
            fit.append(session)
    return fit, tuple(set_aside)


def _canary_ns(session: Session) -> float:
    return median(launch.canary_ns for launch in session.launches if launch.canary_ns is not None)


def _too_little(centers: Sequence[float], *, limit: float, dedicated: bool) -> Iterator[str]:
    allowed, few = _declared_sd(limit), len(centers) < MIN_SESSIONS
    if not centers:
        yield "no stored session was made in a comparable state"
    elif few and not dedicated:
        yield (
            f"expected at least {MIN_SESSIONS} comparable sessions, or a machine that is declared dedicated, found "
            f"{len(centers)}"
        )
    elif len(centers) > 1 and (few or not dedicated) and (sd := stdev(centers)) > allowed:
        advice = f"save {MIN_SESSIONS - len(centers)} more, to know" if few else "stored times cannot tell so much here"
        yield (
            f"the {len(centers)} comparable sessions on this machine spread by {sd:.1%}, expected at most a quarter of "
            f"the limit ({allowed:.1%}); {advice}"
        )


def _too_rough(session: Session, fit: Sequence[Session], metric: str, *, limit: float) -> Iterator[str]:
    """Whether the candidate's session is known less well than the spread of the stored ones allows for."""
    most, count = max((len(item.launches) for item in fit), default=0), len(session.launches)
    if count < most:
        yield f"the candidate's session: expected {most} launches, as the stored sessions have, found {count}"
    times, center = log_times(session, metric), center_of(session, metric)
    own_sd = MAD_TO_SD * median(abs(value - center) for value in times) / math.sqrt(count)
    if len(fit) < MIN_SESSIONS and own_sd > _declared_sd(limit):
        yield (
            f"the candidate's session: its {count} launches tell its time to {own_sd:.1%} only, expected "
            f"{_declared_sd(limit):.1%}; make more launches"
        )


def _declared_sd(limit: float) -> float:
    """What sessions on a dedicated machine spread by at most."""
    return math.log1p(limit) * SD_PER_LIMIT


def _different_protocols(one: Protocol, other: Protocol) -> Iterator[str]:
    for field in dataclasses.fields(Protocol):
        before, now = getattr(one, field.name), getattr(other, field.name)
        if before != now:
            yield f"{field.name.replace('_', ' ')}: {before} in the baseline, {now} now"


def _sentence(estimate: float, low: float, high: float, sessions: int, limit: float, verdict: str) -> str:
    change, least, most = (f"{math.expm1(value):+.1%}" for value in (estimate, low, high))
    found = f"{change} [{least}, {most}] against {sessions} stored session{'s' if sessions > 1 else ''}"
    if verdict == PASS:
        return f"{found}, below the limit of {limit:.1%}"
    return f"{found}, and a slowdown of {limit:.1%} is not excluded; run both artifacts to know"


def _refused(
    reasons: Sequence[str], set_aside: tuple[str, ...], sessions: int, *, limit: float, alpha: float, beta: float
) -> StoredComparison:
    return StoredComparison(
        verdict=REFUSED, reasons=tuple(reasons), set_aside=set_aside, sessions=sessions, ratio=None, ratio_low=None,
        ratio_high=None, alpha=alpha, beta=beta, limit=limit, session_sd=None, session_sd_assumed=False,
    )
