"""Stored times: when they may be used, and how often they are wrong."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from edgeship.core.comparison import PASS, REFUSED
from edgeship.validate.compare.baseline import Recording
from edgeship.validate.compare.stored import SUSPECT, StoredComparison, compare_stored, log_times
from tests.support.baseline_records import FINGERPRINT, PROTOCOL, QUIET, recording, session

LIMIT = 0.05
LAUNCHES = 6


def draw(
    random: np.random.Generator, count: int, *, session_sd: float, launch_sd: float, shift: float = 0.0
) -> Recording:
    """Normal sessions of normal launches, all slower by `shift`."""
    times = shift + random.normal(0, session_sd, (count, 1)) + random.normal(0, launch_sd, (count, LAUNCHES))
    return recording(*(session(tuple(values)) for values in times))


def shares(
    *, sessions: int, session_sd: float, launch_sd: float, slower: float, checks: int, seed: int, **options: Any
) -> tuple[dict[str, float], list[StoredComparison]]:
    """How often each verdict is given where the candidate is slower by this share."""
    random, found = np.random.default_rng(seed), []
    for _ in range(checks):
        base = draw(random, sessions, session_sd=session_sd, launch_sd=launch_sd)
        candidate = draw(random, 1, session_sd=session_sd, launch_sd=launch_sd, shift=math.log1p(slower))
        found.append(compare_stored(base, candidate, limit=LIMIT, **options))
    verdicts = [item.verdict for item in found]
    return {name: verdicts.count(name) / checks for name in (PASS, SUSPECT, REFUSED)}, found


def at_most(count: int, probability: float) -> float:
    """The share that is exceeded in one of ten thousand such simulations."""
    return float(stats.binom.ppf(1 - 1e-4, count, probability)) / count


def sessions_at(*centers: float, **changes: Any) -> Recording:
    return recording(*(session((center,) * LAUNCHES) for center in centers), **changes)


STEADY = (0.0, 0.004, -0.004, 0.002, -0.002)


def test_it_is_the_prediction_interval_of_one_more_session() -> None:
    own = (0.01, 0.03, 0.02, 0.02, 0.01, 0.03)  # 0.02, also by Hodges and Lehmann
    found = compare_stored(sessions_at(*STEADY), recording(session(own)), limit=LIMIT)
    spread = math.sqrt(np.var(STEADY, ddof=1) * (1 + 1 / 5))
    assert found.ratio is not None and found.ratio_low is not None and found.ratio_high is not None
    assert math.log(found.ratio) == pytest.approx(0.02)
    # The quantile is within 0.2 % of scipy's at 4 degrees of freedom.
    assert 0.02 - math.log(found.ratio_low) == pytest.approx(stats.t.ppf(0.99, 4) * spread, rel=2e-3)
    assert math.log(found.ratio_high) - 0.02 == pytest.approx(stats.t.ppf(0.95, 4) * spread, rel=2e-3)
    assert found.session_sd == pytest.approx(np.std(STEADY, ddof=1)) and not found.session_sd_assumed
    assert (found.verdict, found.sessions, found.set_aside) == (PASS, 5, ())
    assert found.reasons == ("+2.0% [+0.7%, +2.8%] against 5 stored sessions, below the limit of 5.0%",)


def test_what_is_not_cleared_is_suspect_however_slow() -> None:
    for slower in (0.045, 0.06, 2.0):
        found = compare_stored(sessions_at(*STEADY), sessions_at(math.log1p(slower)), limit=LIMIT)
        assert found.verdict == SUSPECT and "run both artifacts to know" in found.reasons[0]


def test_a_launch_is_worth_the_median_of_its_rounds_in_the_protocol_s_metric() -> None:
    one = session()
    side = dataclasses.replace(one.launches[0].side, cpu_ns=(5.0, 1.0, 2.0), wall_ns=(7.0, 9.0, 8.0))
    changed = dataclasses.replace(one, launches=(dataclasses.replace(one.launches[0], side=side),))
    assert log_times(changed, "cpu_time") == [math.log(2)] and log_times(changed, "wall_time") == [math.log(8)]


@pytest.mark.parametrize(("session_sd", "launch_sd"), [(0.01, 0.0), (0.03, 0.01), (0.001, 0.02)])
def test_the_bounds_fail_as_often_as_they_say(session_sd: float, launch_sd: float) -> None:
    checks = 4000
    _, found = shares(
        sessions=6, session_sd=session_sd, launch_sd=launch_sd, slower=0.02, checks=checks, seed=1, dedicated=True
    )
    too_low = sum(item.ratio_high < 1.02 for item in found if item.ratio_high is not None) / checks
    too_high = sum(item.ratio_low > 1.02 for item in found if item.ratio_low is not None) / checks
    assert 1 - at_most(checks, 0.95) <= too_low <= at_most(checks, 0.05)
    assert 1 - at_most(checks, 0.99) <= too_high <= at_most(checks, 0.01)


@pytest.mark.parametrize("session_sd", [0.002, 0.012, 0.025, 0.05])
def test_a_slowdown_of_the_limit_passes_in_one_of_twenty_at_most(session_sd: float) -> None:
    checks = 2000
    found, _ = shares(sessions=5, session_sd=session_sd, launch_sd=0.01, slower=LIMIT, checks=checks, seed=2)
    assert found[PASS] <= at_most(checks, 0.05)


def test_a_machine_that_differs_from_day_to_day_is_refused_and_a_steady_one_passes() -> None:
    wild, _ = shares(sessions=6, session_sd=0.05, launch_sd=0.01, slower=0, checks=500, seed=3)
    steady, _ = shares(sessions=6, session_sd=0.005, launch_sd=0.01, slower=0, checks=500, seed=3)
    assert wild[REFUSED] > 0.9 and steady[PASS] > 0.9


def test_one_slow_launch_does_not_make_a_session_slow() -> None:
    odd = recording(session((0.0, 0.002, -0.001, 0.001, -0.002, 0.2)))
    found = compare_stored(sessions_at(*STEADY), odd, limit=LIMIT)
    assert found.verdict == PASS and found.ratio is not None and found.ratio < 1.002


@pytest.mark.parametrize("sessions", [1, 2, 4])
def test_a_dedicated_machine_needs_no_history_and_keeps_the_level(sessions: int) -> None:
    checks, declared = 2000, math.log1p(LIMIT) / 4
    session_sd = declared * 0.9  # with that of the launches just what is declared
    found, all_of_them = shares(
        sessions=sessions, session_sd=session_sd, launch_sd=0.01, slower=LIMIT, checks=checks, seed=4, dedicated=True
    )
    assert found[PASS] <= at_most(checks, 0.05)
    used = [item for item in all_of_them if item.ratio]
    assert len(used) > checks / 2 and all(item.session_sd == declared and item.session_sd_assumed for item in used)
    same, _ = shares(
        sessions=sessions, session_sd=declared / 4, launch_sd=0.005, slower=0, checks=500, seed=5, dedicated=True
    )
    assert same[PASS] > 0.9


def changed(record: Recording, number: int = 0, **changes: Any) -> Recording:
    sessions = list(record.sessions)
    sessions[number] = dataclasses.replace(sessions[number], **changes)
    return dataclasses.replace(record, sessions=tuple(sessions))


BUSY = {**QUIET, "cpu_pressure_percent": 10.0}
OTHER_KERNEL = {**FINGERPRINT, "must_match": {**FINGERPRINT["must_match"], "kernel": "6.7"}}
# Of one session: what makes its times incomparable, and the words for it.
UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"state_before": BUSY}, "in 10 % of 10 s a process waited for a processor, expected less than 10 %"),
    ({"state_after": BUSY}, "in 10 % of 10 s a process waited"),
    ({"state_after": None}, "how busy the machine was is not recorded"),
    ({"state_before": {}}, "is not told (no /proc/pressure/cpu"),
    ({"state_after": {**QUIET, "throttled": "0x4"}}, "throttled now"),
    ({"state_after": {**QUIET, "throttled": "0x40000"}}, "throttled in the meantime"),
    ({"launches": session((0.0,) * 4).launches}, "expected at least 5 launches, found 4"),
    ({"launches": session(canary_ns=None).launches}, "no canary"),
]


@pytest.mark.parametrize(("changes", "words"), UNFIT)
def test_a_candidate_in_no_fit_state_is_refused(changes: dict[str, Any], words: str) -> None:
    found = compare_stored(sessions_at(*STEADY), changed(sessions_at(0.0), **changes), limit=LIMIT, dedicated=True)
    assert found.verdict == REFUSED and found.ratio is None
    assert [reason for reason in found.reasons if words in reason and reason.startswith("the candidate's session: ")]


@pytest.mark.parametrize(("changes", "words"), [
    *UNFIT, ({"launches": session((9.9,) * LAUNCHES, canary_ns=520_000).launches}, "a fixed piece of work took -3.8%"),
])
def test_a_stored_session_in_no_fit_state_is_set_aside(changes: dict[str, Any], words: str) -> None:
    wrong = changed(sessions_at(9.9, *STEADY), created_at="2026-07-07T07:07:07+00:00", **changes)
    found = compare_stored(wrong, sessions_at(0.0), limit=LIMIT)
    assert (found.verdict, found.sessions) == (PASS, 5) and len(found.set_aside) == 1
    assert words in found.set_aside[0] and "2026-07-07T07:07:07" in found.set_aside[0]
    too_few = changed(sessions_at(*STEADY), **changes)
    found = compare_stored(too_few, sessions_at(0.0), limit=LIMIT)
    assert found.verdict == REFUSED
    assert "expected at least 5 comparable sessions, or a machine that is declared dedicated, found 4" in found.reasons


def test_a_canary_within_three_percent_is_the_same_machine() -> None:
    for canary_ns, used in ((486_000, 5), (514_000, 5), (484_000, 0), (516_000, 0)):
        candidate = recording(session((0.0,) * LAUNCHES, canary_ns=canary_ns))
        assert compare_stored(sessions_at(*STEADY), candidate, limit=LIMIT).sessions == used


def test_the_differing_fields_are_listed() -> None:
    other = sessions_at(
        0.0, fingerprint=OTHER_KERNEL, protocol=dataclasses.replace(PROTOCOL, metric="wall_time", rounds=2)
    )
    found = compare_stored(sessions_at(*STEADY), other, limit=LIMIT, dedicated=True)
    assert found.verdict == REFUSED
    assert found.reasons == (
        "kernel: 6.6 in the baseline, 6.7 now", "metric: cpu_time in the baseline, wall_time now",
        "rounds: 1 in the baseline, 2 now",
    )


def test_sessions_that_contradict_a_declaration() -> None:
    found = compare_stored(sessions_at(0.0, 0.03), sessions_at(0.0), limit=LIMIT, dedicated=True)
    assert found.verdict == REFUSED and "spread by 2.1%" in found.reasons[0] and "save 3 more" in found.reasons[0]
    many = sessions_at(0.0, 0.03, -0.03, 0.02, -0.02)  # enough of them to say how much they spread
    assert compare_stored(many, sessions_at(0.0), limit=LIMIT, dedicated=True).verdict == SUSPECT
    assert compare_stored(many, sessions_at(0.0), limit=LIMIT).verdict == REFUSED
    nothing = compare_stored(changed(sessions_at(0.0), state_after=BUSY), sessions_at(0.0), limit=LIMIT, dedicated=True)
    assert nothing.reasons == ("no stored session was made in a comparable state",)


def test_a_candidate_that_is_known_less_well_than_the_stored_sessions() -> None:
    short = recording(session((0.0,) * (LAUNCHES - 1)))
    found = compare_stored(sessions_at(*STEADY), short, limit=LIMIT)
    assert found.reasons == ("the candidate's session: expected 6 launches, as the stored sessions have, found 5",)
    rough = recording(session((-0.2, 0.2, -0.1, 0.1, -0.3, 0.3)))
    found = compare_stored(sessions_at(0.0), rough, limit=LIMIT, dedicated=True)
    assert found.verdict == REFUSED and "its 6 launches tell its time to 12.1% only" in found.reasons[0]


def test_a_candidate_is_one_session() -> None:
    with pytest.raises(ValueError, match="too many values"):
        compare_stored(sessions_at(0.0), sessions_at(0.0, 0.1), limit=LIMIT)
