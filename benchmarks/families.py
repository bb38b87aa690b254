"""Every family of models in tests/quantize/families.py from float to two integer files, as a Markdown table.

    python benchmarks/families.py [NAME ...] [--out FILE]    docs/families.md is this script's output

The networks at the end are Keras' own, whole, with random weights; each takes about a minute.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeship.progress import say

HEAD = (
    "| family | layers, lowered | float vs lowered | int8 kernels, found / expected | TFLite fully integer "
    "| ONNX Runtime, executed in integers | TFLite vs ONNX, same top-1 | top-1 float, TFLite, ONNX |"
)


def main() -> None:
    """Measure the families named, or all, and print one row for each."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests/quantize"))
    import families
    import family_row

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {'; '.join(families.FAMILIES)}")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = [HEAD, "|" + " --- |" * HEAD.count(" |")]
    for name in options.names or families.FAMILIES:
        say(name)
        lines.append(line_of(family_row.measure(name)))
        print(lines[-1], flush=True)
    table = "\n".join(lines) + "\n"
    print(f"\n{table}")
    if options.out:
        options.out.write_text(table)


def line_of(row) -> str:
    """One family as a row of the table."""
    found = len(set(row.found) & set(row.expected))
    added = f" ({row.added} scaling{'s' if row.added > 1 else ''})" if row.added else ""
    floats = sorted({operation.split(" ", 1)[0] for operation in row.executed.float_ops})
    in_float = f" ({', '.join(floats)} in float)" if floats else ""
    top1 = ", ".join(f"{share:.0%}" for share in row.top1)
    return (
        f"| {row.name} | {row.layers} | {row.float_difference:g} | {found} / {len(row.expected)}{added} "
        f"| {'yes' if row.fully_integer else 'no: ' + ', '.join(row.float_operations)} "
        f"| {row.executed.integer} / {row.executed.total}{in_float} | {row.agreement:.1%} | {top1} |"
    )


if __name__ == "__main__":
    main()
