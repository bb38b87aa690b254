"""What a comparison of an artifact with itself says of the machine: can it be gated on, and what could be seen?"""

from __future__ import annotations

from edgeship.core.comparison import IMPROVED, PASS, REGRESSION, Check, Comparison


def self_test_sentences(comparison: Comparison) -> tuple[str, ...]:
    """A sentence per check; none where the comparison is no self-test."""
    return tuple(f"{check.label}: {_sentence(check)}" for check in comparison.checks) if comparison.self_test else ()


def _sentence(check: Check) -> str:
    timing, reasons = check.timing, "; ".join(check.reasons)
    if timing is None or timing.smallest_detectable is None:
        return f"whether this machine can be gated on was not measured: {reasons}"
    effort = f"{timing.launches} launches in {timing.seconds:.0f} s"
    if check.verdict == REGRESSION:
        return (
            f"a false alarm ({effort}), as at most {timing.alpha:.2%} of checks may raise: repeat it, and do not gate "
            "on this machine if it comes again"
        )
    if check.verdict not in (PASS, IMPROVED):
        return f"this machine cannot be gated on as it is now ({effort}): {reasons}"
    seen = f"with {effort}, 9 of 10 checks would see a slowdown of {timing.smallest_detectable:.1%}"
    if timing.smallest_detectable > timing.limit:
        return (
            f"this machine cannot be gated on in this time: {seen}, and the limit is {timing.limit:.1%}; raise "
            "--max-seconds or --limit, or use a quieter machine"
        )
    return f"this machine can be gated on: {seen}; the limit is {timing.limit:.1%}"
