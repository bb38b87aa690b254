"""Which of several ONNX variants to ship to a kind of processor: same bits, fewer instructions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from edgeship.core.measurement import Row
from edgeship.core.schemes import SCHEMES
from edgeship.validate.questions.same_bits import X86_TARGET

# Below this an order means nothing: ONNX Runtime's counts repeat within 0.6 % (measured).
WORTH_SAYING = 0.01


def advice(rows: Sequence[Row], *, exact: Collection[str] = ()) -> Iterator[str]:
    """Yield a sentence for each emulated processor: its variants by instructions, and int8 against float.

    `exact`: the ONNX files that are right on every x86 processor; others are not advised there.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.instructions is not None and row.error is None and not _is_wrong_there(row, exact):
            groups.setdefault((row.target, row.runtime), []).append(row)
    for (target, runtime), members in groups.items():
        integer = sorted((row for row in members if SCHEMES[row.scheme].integer), key=_instructions)
        floats = sorted((row for row in members if row.scheme == "float32"), key=_instructions)
        if not integer:
            continue
        least = integer[0]
        sentence = f"{runtime} on {target}: {least.artifact} executes the fewest instructions ({_millions(least)})"
        others = [
            f"{row.artifact} {_instructions(row) / _instructions(least):.2f} times as many" for row in integer[1:]
            if _instructions(row) > _instructions(least) * (1 + WORTH_SAYING)
        ]
        if others:
            sentence += "; " + ", ".join(others)
        if floats:
            ratio = _instructions(floats[0]) / _instructions(least)
            sentence += f"; {floats[0].artifact} {ratio:.1f} times as many"
        yield sentence


def _is_wrong_there(row: Row, exact: Collection[str]) -> bool:
    return (
        row.target.startswith(X86_TARGET) and row.artifact.endswith((".onnx", ".ort")) and SCHEMES[row.scheme].integer
        and row.artifact not in exact
    )


def _instructions(row: Row) -> int:
    return row.instructions or 0


def _millions(row: Row) -> str:
    return f"{_instructions(row) / 1e6:.1f} million per inference"
