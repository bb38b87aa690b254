"""Two formats of one model on this machine: how far their answers part, in words and against what rounding explains."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.core.bounds import FLOAT32_DB, LEAST_AGREEMENT
from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import Agreement
from edgeship.validate.questions.findings import FAIL, Finding
from edgeship.validate.runner.table import FORMATS, taking_part

ROUNDED_LSB = 1  # one rounding at the output alone


def format_findings(agreement: Agreement, config: ValidateConfig) -> Iterator[Finding]:
    """Yield what is wrong with how far two formats of one model part, end to end."""
    if not between_formats(agreement):
        return
    artifacts = tuple(label.rsplit(" / ", 1)[0] for label in (agreement.first, agreement.second))
    found = f"{agreement.first} and {agreement.second}: {formats_sentence(agreement)}"
    allowed, least = config.max_format_lsb, agreement.least_sqnr_db
    if allowed is not None and agreement.max_lsb is not None and agreement.max_lsb > allowed:
        yield Finding(verdict=FAIL, artifacts=artifacts, sentence=f"{found}; validate.max_format_lsb is {allowed}")
        return
    rounded = agreement.max_lsb is not None and agreement.max_lsb <= ROUNDED_LSB
    if agreement.sqnr_db is None or least is None or rounded or agreement.sqnr_db >= least:
        return
    if agreement.max_lsb is None and least >= FLOAT32_DB:
        why = f"they hold the same numbers, so rounding leaves at least {least:.0f} dB; one of them computes otherwise"
    else:
        why = (
            f"their rounding explains {least:.1f} dB: the better one of them is much nearer to float Keras than to the "
            "other file, so the other one computes something else or rounds worse"
        )
    yield Finding(verdict=FAIL, artifacts=artifacts, sentence=f"{found}; {why}")


def between_formats(agreement: Agreement) -> bool:
    """Whether it is of a TFLite and an ONNX file on the runtimes that users have here."""
    return between(agreement, FORMATS)


def between(agreement: Agreement, check: str) -> bool:
    """Whether it is of two runtimes of this machine that take part in the check."""
    runtimes = {label.rsplit(" / ", 1)[1] for label in (agreement.first, agreement.second)}
    return len(runtimes) == 2 and runtimes <= taking_part(check)


def formats_sentence(agreement: Agreement) -> str:
    """How far two formats part, in words."""
    parts = ["equal in every output"] if agreement.max_lsb == 0 else []
    if agreement.max_lsb:
        parts.append(f"up to {agreement.max_lsb} LSB apart")
        if agreement.differing_share is not None:
            parts.append(f"{agreement.differing_share:.1%} of the outputs differ")
    if agreement.top1_agreement is not None:
        parts.append(
            f"the same class for {agreement.top1_agreement:.1%} of {agreement.images:,} examples{_explained(agreement)}"
        )
    if agreement.sqnr_db is not None and agreement.max_lsb != 0:
        parts.append(f"{agreement.sqnr_db:.1f} dB from each other on the golden examples")
    return ", ".join(parts) or f"the same values for {agreement.images:,} examples"


def _explained(agreement: Agreement) -> str:
    """Why two right files may part so far, where they do."""
    same, least = agreement.top1_agreement, agreement.least_agreement
    if same is None or least is None or same >= LEAST_AGREEMENT or same < least:
        return ""
    return " (both are so far from float Keras that rounding explains it)"
