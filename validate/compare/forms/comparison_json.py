"""`comparison.json`: the whole record with its raw samples, from which every other form is drawn.

It is described by `comparison.schema.json` beside this file. Plain text, not compressed: a check of 30 launches and
20 rounds takes about 50 kB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from edgeship.comparison import (
    CHANGED,
    COMPARISON_SCHEMA,
    CPU_TIME,
    NOT_MEASURED,
    SAME,
    VERDICTS,
    WALL_TIME,
    WORSE,
    Comparison,
)
from edgeship.errors import InputError
from validate.compare.decode import decode, parse
from validate.compare.encode import encode

OUTCOMES = (SAME, CHANGED, WORSE, NOT_MEASURED)
METRICS = (CPU_TIME, WALL_TIME)


def comparison_to_json(comparison: Comparison) -> str:
    """JSON text. Raises ValueError on NaN and infinities, which JSON does not have."""
    return encode(comparison)


def comparison_from_json(text: str, *, where: Path) -> Comparison:
    """The inverse of `comparison_to_json`; `where` is named in messages.

    Raises:
        InputError: not JSON, another schema version, a field missing, unknown or of the wrong form.
    """
    try:
        document = parse(text)
    except ValueError as error:
        raise InputError(f"{where}: expected JSON, found none ({error}); compare again") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != COMPARISON_SCHEMA:
        raise InputError(
            f"{where}: expected a comparison of schema {COMPARISON_SCHEMA}, found {json.dumps(schema)[:40]}; "
            "use the edgeship version that wrote it, or compare again"
        )
    try:
        comparison = decode(Comparison, document)
        for place, word, expected in _words(comparison):
            if word not in expected:
                raise ValueError(f"{place}: expected one of {', '.join(expected)}, found {word!r}")
    except ValueError as error:
        raise InputError(f"{where}: not a complete comparison ({error}); compare again") from error
    return comparison


def _words(comparison: Comparison) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(place, the word there, the words that may be there): what types do not say."""
    yield "verdict", comparison.verdict, VERDICTS
    for index, check in enumerate(comparison.checks):
        yield f"checks[{index}].verdict", check.verdict, VERDICTS
        for number, item in enumerate(check.exact):
            yield f"checks[{index}].exact[{number}].outcome", item.outcome, OUTCOMES
        if check.timing is not None:
            yield f"checks[{index}].timing.metric", check.timing.metric, METRICS
