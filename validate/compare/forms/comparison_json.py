"""`comparison.json`: the whole record with its raw samples, from which every other form is drawn.

It is described by `comparison.schema.json` beside this file. Plain text, not compressed: a check of 30 launches and
20 rounds takes about 50 kB.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeship.core.comparison import (
    CHANGED,
    COMPARISON_SCHEMA,
    METRIC_NAMES,
    NOT_MEASURED,
    SAME,
    VERDICTS,
    WORSE,
    Comparison,
)
from edgeship.core.decode import read_record
from edgeship.core.encode import encode

OUTCOMES = (SAME, CHANGED, WORSE, NOT_MEASURED)
METRICS = tuple(METRIC_NAMES)


def comparison_to_json(comparison: Comparison) -> str:
    """JSON text. Raises ValueError on NaN and infinities, which JSON does not have."""
    return encode(comparison)


def comparison_from_json(text: str, *, where: Path) -> Comparison:
    """The inverse of `comparison_to_json`; `where` is named in messages.

    Raises:
        InputError: not JSON, another schema version, a field missing, unknown or of the wrong form.
    """
    return read_record(
        Comparison, text, where=where, schema=COMPARISON_SCHEMA, what="comparison", again="compare again",
        check=_check_words,
    )


def _check_words(comparison: Comparison) -> None:
    for place, word, expected in _words(comparison):
        if word not in expected:
            raise ValueError(f"{place}: expected one of {', '.join(expected)}, found {word!r}")


def _words(comparison: Comparison) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(place, the word there, the words that may be there): what types do not say."""
    yield "verdict", comparison.verdict, VERDICTS
    for index, check in enumerate(comparison.checks):
        yield f"checks[{index}].verdict", check.verdict, VERDICTS
        for number, item in enumerate(check.exact):
            yield f"checks[{index}].exact[{number}].outcome", item.outcome, OUTCOMES
        if check.timing is not None:
            yield f"checks[{index}].timing.metric", check.timing.metric, METRICS
