"""The verdict: figures against the limits of `[validate]`. Pure functions; every failure is told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from edgeship.core.bounds import LEAST_AGREEMENT
from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import Agreement, Grid, Row
from edgeship.core.schemes import SCHEMES
from edgeship.core.ship import ShipLine
from edgeship.core.text import some
from edgeship.validate.questions.difference import difference_of
from edgeship.validate.questions.findings import (
    FAIL,
    INCONCLUSIVE,
    NAMED_OPERATIONS,
    REFUSED,
    Finding,
    label_of,
    sentences_of,
    worst,
)
from edgeship.validate.questions.formats import between, between_formats, format_findings
from edgeship.validate.questions.grid import NOT_MEASURED
from edgeship.validate.questions.proportions import images_needed, wilson_interval
from edgeship.validate.questions.same_bits import different_bits
from edgeship.validate.questions.speed_gate import speed_findings
from edgeship.validate.runner.table import FORMATS, OPTIMIZER, RUNTIMES, taking_part
from edgeship.validate.subject.rows import CPU
from edgeship.validate.targets.target import EMULATED

FAR_DB = 10.0  # noise of a tenth of the signal's power; right int8 files of networks that are of use leave 15 to 40 dB
ON_TARGET = " on "  # in a row's label: not on this machine


def judge(
    rows: Sequence[Row],
    grids: Sequence[Grid],
    agreements: Sequence[Agreement],
    config: ValidateConfig,
    *,
    others: Collection[str] = (),
    ship: Sequence[ShipLine] = (),
    scored: bool = True,
    exact: Collection[str] = (),
    guess: Finding | None = None,
) -> tuple[str, tuple[str, ...]]:
    """The verdict ("pass", "fail", "inconclusive" or "refused") and the reasons, as sentences.

    `others`: the labels of rows whose file is made for other processors than their target's; they decide nothing.
    `ship`: what is to be shipped, whose speed has a gate.
    `scored`: there are targets and a metric, so that a row without a figure of its accuracy is not proven.
    `exact`: the artifacts that give the same bits on every x86 processor (same_bits.py).
    `guess`: what chance.py finds of float Keras's answers.

    A failure outweighs a refusal, which outweighs an inconclusive figure.
    """
    findings = [
        *_rows(rows, config, others, scored), *_bits(rows, exact), *_grids(grids, config),
        *_agreements(agreements, config, others), *speed_findings(ship, config),
    ]
    if guess is not None:
        findings.append(guess)
    return worst(*(finding.verdict for finding in findings)), tuple(sentences_of(findings))


def verdict_of(rows: Sequence[Row], config: ValidateConfig, *, scored: bool = True) -> str:
    """Return the verdict of some rows alone, errors included."""
    errors = [REFUSED if row.refused else FAIL for row in rows if row.error is not None]
    return worst(*errors, *(finding.verdict for row in rows for finding in _row(row, config, scored=scored)))


def wrong_answers(
    rows: Sequence[Row], grids: Sequence[Grid], agreements: Sequence[Agreement], config: ValidateConfig,
    others: Collection[str] = (),
) -> frozenset[str]:
    """The artifacts that fail here for what they answer: accuracy, agreement, or not on the grid they should be on."""
    findings = [*_grids(grids, config), *_agreements(agreements, config, others)]
    for row in rows:
        if RUNTIMES[row.runtime].production and label_of(row) not in others:
            findings += [*_accuracy(row, config, scored=False), *_rounding(row, config)]
    return frozenset(name for finding in findings if finding.verdict == FAIL for name in finding.artifacts)


def _rows(
    rows: Sequence[Row], config: ValidateConfig, others: Collection[str], scored: bool
) -> Iterator[Finding]:
    rows = [row for row in rows if row.refused or label_of(row) not in others]
    gated = [row for row in rows if RUNTIMES[row.runtime].production]
    if not gated and others:
        yield Finding(verdict=REFUSED, sentence=(
            "every file is made for other processors than its target has, so nothing is proven; add u8u8 to "
            "export.onnx_variants, or validate on a target of theirs (validate.targets)"
        ))
    elif not gated:
        runtimes = ", ".join(sorted(taking_part(FORMATS)))
        yield Finding(verdict=REFUSED, sentence=(
            f"no artifact was run on a runtime that users have ({runtimes}), so nothing is proven; add one of "
            "them to validate.runtimes, or artifacts of their formats to the bundle"
        ))
    errors = {row.error: REFUSED if row.refused else FAIL for row in rows if row.error is not None}
    for sentence, verdict in errors.items():  # each once: a target that is not there says it for all its rows
        yield Finding(verdict=verdict, sentence=sentence)
    for row in gated:
        yield from _row(row, config, scored=scored)


def _row(row: Row, config: ValidateConfig, *, scored: bool) -> Iterator[Finding]:
    yield from _accuracy(row, config, scored=scored)
    yield from _rounding(row, config)
    if not scored:
        yield from _far_from_float(row)
    if SCHEMES[row.scheme].integer and RUNTIMES[row.runtime].by_runner:
        yield from _coverage(row, config)


def _bits(rows: Sequence[Row], exact: Collection[str]) -> Iterator[Finding]:
    for row in rows:
        found = different_bits(row, exact)
        if found is not None:
            yield Finding(verdict=FAIL, label=label_of(row), sentence=found)


def _accuracy(row: Row, config: ValidateConfig, *, scored: bool) -> Iterator[Finding]:
    """Non-inferiority: is the whole interval of the paired difference above what is allowed?"""
    label = label_of(row)
    not_expected = RUNTIMES[row.runtime].tool or (row.kind == EMULATED and not SCHEMES[row.scheme].integer)
    difference = difference_of(row, config)
    if difference is None:
        # Of a tool or an emulated float row a note says so; the same artifact is gated where it can be run.
        if scored and row.error is None and not (not_expected and row.accuracy is None and row.score is None):
            yield Finding(
                verdict=REFUSED, sentence=f"{label}: its accuracy was not compared with float Keras"
            )
        return
    (lower, upper), limit = difference.interval, difference.limit
    if upper < limit:
        yield Finding(
            verdict=FAIL, label=label, sentence=f"{difference.found}; {difference.allowed}",
            artifacts=(row.artifact,) if row.target == CPU else (),
        )
    elif lower < limit:
        needed = images_needed(
            interval=(lower, upper), difference=difference.value, limit=limit, count=difference.examples
        )
        advice = (
            f"no number of {difference.noun} decides a difference that equals the limit" if needed is None
            else f"about {needed:,} test {difference.noun} would decide it"
        )
        yield Finding(verdict=INCONCLUSIVE, label=label, sentence=(
            f"{difference.found}, which is too wide to decide: {difference.allowed}; {advice}"
        ))


def _rounding(row: Row, config: ValidateConfig) -> Iterator[Finding]:
    """What computes in float is as near to float Keras as the rounding of its numbers leaves it."""
    parity, label = row.parity, label_of(row)
    artifacts = (row.artifact,) if row.target == CPU else ()
    if parity is None or parity.least_sqnr_db is None or parity.least_agreement is None:
        return
    differs = (parity.max_abs_error or 0) > 0
    if parity.sqnr_db is not None and differs and parity.sqnr_db < parity.least_sqnr_db:
        yield Finding(verdict=FAIL, label=label, artifacts=artifacts, sentence=(
            f"its answers to the golden examples are {parity.sqnr_db:.1f} dB from float Keras's, and the rounding of a "
            f"{row.scheme} file leaves at least {parity.least_sqnr_db:.0f} dB; it computes something else"
        ))
    if row.accuracy is None or row.accuracy.agreement is None:
        return
    least = min(_least_agreement(config), parity.least_agreement)
    # Few images cannot prove 98 %, so the whole interval must be below.
    _, upper = wilson_interval(round(row.accuracy.agreement * row.accuracy.images), row.accuracy.images)
    if upper < least:
        yield Finding(verdict=FAIL, label=label, artifacts=artifacts, sentence=(
            f"predicts float Keras's class for {row.accuracy.agreement:.1%} of {row.accuracy.images:,} examples (at "
            f"most {upper:.1%} of all, with 95 % confidence), and the rounding of a {row.scheme} file leaves at least "
            f"{least:.1%}; it computes something else"
        ))


def _far_from_float(row: Row) -> Iterator[Finding]:
    """Where nothing is scored, nothing says that an integer file far from float Keras is good enough."""
    sqnr_db = None if row.parity is None else row.parity.sqnr_db
    if SCHEMES[row.scheme].integer and sqnr_db is not None and sqnr_db < FAR_DB:
        yield Finding(verdict=INCONCLUSIVE, label=label_of(row), sentence=(
            f"its answers to the golden examples are {sqnr_db:.1f} dB from float Keras's (below {FAR_DB:.0f} dB the "
            "error has more than a tenth of their power), and no targets say whether that is good enough; bring some"
        ))


def _coverage(row: Row, config: ValidateConfig) -> Iterator[Finding]:
    label, coverage = label_of(row), row.coverage
    if coverage is None:
        if row.error is None:
            yield Finding(verdict=FAIL, sentence=f"{label}: which operations ran as integers is not known")
        return
    if coverage.promised_share < config.min_coverage:
        outside = " outside the layers kept in float" if coverage.kept_float else ""
        yield Finding(verdict=FAIL, sentence=(
            f"{label}: {coverage.integer} of {coverage.promised} executed operations{outside} are integer "
            f"({coverage.promised_share:.1%}), validate.min_coverage is {config.min_coverage:.1%}; "
            f"in float: {some(coverage.float_ops, shown=NAMED_OPERATIONS, by='; ')}"
        ))
    if coverage.lost_scales:
        yield Finding(verdict=FAIL, sentence=(
            f"{label}: {coverage.lost_scales} of {coverage.weighted} integer "
            "convolutions have one weight scale for all channels, expected one per channel; the runtime or "
            "the converter quantized them again"
        ))


def _grids(grids: Sequence[Grid], config: ValidateConfig) -> Iterator[Finding]:
    for grid in grids:
        pair = f"{grid.onnx} against {grid.tflite}"
        if grid.error is not None and not grid.error.startswith(NOT_MEASURED):
            yield Finding(verdict=FAIL, sentence=f"{pair}: {grid.error}")
        if grid.error is None and not grid.tensors_compared:
            yield Finding(verdict=FAIL, artifacts=(grid.tflite, grid.onnx), sentence=(
                f"{pair}: no tensor of the one file could be matched with one of the other, so that they are one "
                "network is not proven; export the bundle again"
            ))
        elif grid.layers_total is not None and not grid.layers_compared:
            yield Finding(verdict=INCONCLUSIVE, sentence=(
                f"{pair}: no layer could be run alone, so that both compute the same layer by layer is not proven: "
                f"{some(grid.not_compared, shown=NAMED_OPERATIONS, by='; ')}"
            ))
        if grid.mismatches:
            yield Finding(verdict=FAIL, artifacts=(grid.tflite, grid.onnx), sentence=(
                f"{pair}: {len(grid.mismatches)} of {grid.tensors_compared} tensors are not on one integer "
                f"grid: {some(grid.mismatches, shown=NAMED_OPERATIONS, by='; ')}"
            ))
        if grid.layer_max_lsb is not None and grid.layer_max_lsb > config.max_layer_lsb:
            yield Finding(verdict=FAIL, artifacts=(grid.tflite, grid.onnx), sentence=(
                f"{pair}: given the same integers, layer {grid.worst_layer} differs by "
                f"{grid.layer_max_lsb} LSB, validate.max_layer_lsb is {config.max_layer_lsb}; a layer "
                "alone may differ by rounding only"
            ))


def _agreements(
    agreements: Sequence[Agreement], config: ValidateConfig, others: Collection[str]
) -> Iterator[Finding]:
    for agreement in agreements:
        if agreement.first in others or agreement.second in others:
            continue
        yield from format_findings(agreement, config)
        computes_in_float = between_formats(agreement) and agreement.max_lsb is None
        same, least = agreement.top1_agreement, _least_agreement(config, agreement)
        if same is None or same >= least or computes_in_float:
            continue
        if ON_TARGET in agreement.second.rsplit(" / ", 1)[1]:
            yield from _other_target(agreement, same, least)
            continue
        first, second = (label.rsplit(" / ", 1)[0] for label in (agreement.first, agreement.second))
        found = (
            f"{agreement.first} and {agreement.second} predict the same class for {same:.1%} of "
            f"{agreement.images:,} examples, {_expected(agreement, config, least)}"
        )
        if between_formats(agreement):
            yield Finding(
                verdict=FAIL, artifacts=(first, second), sentence=f"{found}; the two files ship as one model"
            )
        elif first == second and between(agreement, OPTIMIZER):
            yield Finding(verdict=FAIL, artifacts=(first,), sentence=(
                f"{found}; the optimized kernels compute something else: on x86 CPUs without VNNI, "
                "products of uint8 activations and int8 weights saturate; ship the u8u8 variant there"
            ))


def _least_agreement(config: ValidateConfig, agreement: Agreement | None = None) -> float:
    """Return the share of same classes that is asked for: the user's, or what rounding explains of two formats."""
    if config.min_agreement is not None:
        return config.min_agreement
    explained = None if agreement is None else agreement.least_agreement
    return LEAST_AGREEMENT if explained is None else min(LEAST_AGREEMENT, explained)


def _expected(agreement: Agreement, config: ValidateConfig, least: float) -> str:
    if config.min_agreement is not None:
        return f"validate.min_agreement is {least:.1%}"
    if agreement.least_agreement is None or least == LEAST_AGREEMENT:
        return f"expected {least:.1%} (validate.min_agreement)"
    return f"where their distance from float Keras explains no less than {least:.1%}"


def _other_target(agreement: Agreement, share: float, least: float) -> Iterator[Finding]:
    """The same artifact on two machines. Few images cannot prove 99.9 %, so the whole interval must be below."""
    same = round(share * agreement.images)
    _, upper = wilson_interval(same, agreement.images)
    if upper < least:
        yield Finding(verdict=FAIL, sentence=(
            f"{agreement.second}: predicts the same class as on this machine for {share:.1%} of "
            f"{agreement.images:,} examples (at most {upper:.1%} of all, with 95 % confidence), "
            f"expected {least:.1%} (validate.min_agreement); its kernels compute something else"
        ))
