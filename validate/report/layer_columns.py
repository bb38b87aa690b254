"""The layer-by-layer tables as text: the columns, what they mean, and one sentence per table."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgeship.core.measurement import LayerError, LayerErrors
from edgeship.validate.questions.layer_errors import BAD_DB, OWN_DB
from edgeship.validate.report.columns import EXACT, NOT_APPLICABLE, share_percent

LAYER_COLUMNS = ("layer", "operation", "SQNR dB", "max LSB", "saturated", "")
FIRST_BAD = "first bad layer"
LAYER_LEGEND = (
    "each result of the integer file against the same result of the float file of its format, over all elements of a "
    "few golden examples; in the order in which they run",
    "training for integers (int8-qat) moves the weights: its layers differ from float on purpose; channels that were "
    "given other sizes (made even, equalized) are compared at their sizes",
    "max LSB: the largest distance, in steps of the result's scale",
    "saturated: share of the integers at an end of their range whose float value belongs elsewhere",
    f"{FIRST_BAD}: the first one under {BAD_DB:g} dB and more than {OWN_DB:g} dB under all that it reads, so that "
    f"nine tenths of its noise or more are its own; and what reads it is under {BAD_DB:g} dB too",
)


def layer_cells(table: LayerErrors) -> Iterator[list[str]]:
    """One row of LAYER_COLUMNS per layer."""
    for item in table.layers:
        mark = FIRST_BAD if item.layer == table.first_bad else ""
        yield [item.layer, item.kind, _sqnr(item), f"{item.max_lsb:.1f}", share_percent(item.saturated), mark]


def layer_sentence(table: LayerErrors) -> str:
    """What a table comes to: the first bad layer, or the lowest SQNR where none is bad."""
    if table.error is not None:
        return table.error
    bad = next((item for item in table.layers if item.layer == table.first_bad), None)
    if bad is not None:
        return (
            f"{FIRST_BAD} is {bad.layer} ({bad.kind}): {_sqnr(bad)} dB, up to {bad.max_lsb:.1f} LSB off, "
            f"{share_percent(bad.saturated, 1)} saturated"
        )
    worst = min((item for item in table.layers if item.sqnr_db is not None), key=_sqnr_db, default=None)
    lowest = "" if worst is None else f"; the lowest is {worst.layer} ({worst.kind}) with {_sqnr(worst)} dB"
    return f"none of {len(table.layers)} layers is bad by itself{lowest}"


def _sqnr_db(item: LayerError) -> float:
    return math.inf if item.sqnr_db is None else item.sqnr_db


def _sqnr(item: LayerError) -> str:
    if item.sqnr_db is not None:
        return f"{item.sqnr_db:.1f}"
    return NOT_APPLICABLE if item.max_lsb else EXACT
