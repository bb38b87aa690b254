"""Every family of models in benchmarks/networks/families.py from float to two integer files, as a Markdown table.

    python -m benchmarks.families [NAME ...] [--out FILE]    docs/families.md is this script's output
    python -m benchmarks.families --gates [NAME ...]         only the column "gates"
    python -m benchmarks.families --keras3 [NAME ...]        only the column "Keras 3"

The networks at the end are Keras' own, whole, with random weights; each takes about a minute, and some more for the
column "gates": `edgeship run` with the default gates, on handwritten digits, after a little training.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.gates import run_to_verdict
from benchmarks.networks import families
from benchmarks.networks import row as family_row
from edgeship.core.progress import say

HEAD = (
    "| family | layers, lowered | float vs lowered | int8 kernels, found / expected | TFLite fully integer "
    "| ONNX Runtime, executed in integers | TFLite vs ONNX, same top-1 | top-1 float, TFLite, ONNX | gates "
    "| Keras 3 |"
)
GATES_HEAD, KERAS3_HEAD = "| family | gates |", "| family | Keras 3 |"
ROOT = Path(__file__).resolve().parent.parent
# A factory of one family, as a module beside the configuration.
FACTORY = """import sys

sys.path.insert(0, {root!r})
from benchmarks.networks import families


def build(input_shape, classes):
    return families.build({name!r})
"""
ONE_INPUT_AND_OUTPUT = "does not apply: no classifier of images"
EPOCHS = 4


def main() -> None:
    """Measure the families named, or all, and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {'; '.join(families.FAMILIES)}")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--gates", action="store_true", help="only the column gates")
    parser.add_argument("--keras3", action="store_true", help="only the column Keras 3")
    parser.add_argument("--work", type=Path, default=Path("families"), help="where the runs leave their files")
    options = parser.parse_args()
    head = GATES_HEAD if options.gates else KERAS3_HEAD if options.keras3 else HEAD
    lines = [head, "|" + " --- |" * head.count(" |")]
    for name in options.names or families.FAMILIES:
        say(name)
        if options.keras3:
            lines.append(f"| {name} | {keras3_of(name)} |")
        else:
            gates = gates_of(name, families.build(name), options.work.resolve())
            lines.append(
                f"| {name} | {gates} |" if options.gates
                else f"{line_of(family_row.measure(name))} {gates} | {keras3_of(name)} |"
            )
        print(lines[-1], flush=True)
    table = "\n".join(lines) + "\n"
    print(f"\n{table}")
    if options.out:
        options.out.write_text(table)


def gates_of(name: str, model: Any, work: Path) -> str:
    """How `edgeship run` ends for a family, with the default gates."""
    if len(model.inputs) > 1 or len(model.outputs) > 1 or len(model.output_shape) != 2:
        return ONE_INPUT_AND_OUTPUT
    from benchmarks.networks.images import largest_pixel

    folder = work / "modules" / name.replace("/", " ")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "family.py").write_text(FACTORY.format(root=str(ROOT), name=name))
    size, channels = model.input_shape[1], model.input_shape[3]
    outcome = run_to_verdict(
        {
            # Networks that scale their images themselves take 0 to 255.
            "data": {"name": "digits", "image_size": size, "channels": channels, "std": [1 / largest_pixel(model)]},
            "model": {"factory": "family:build"},
            "train": {"epochs": EPOCHS},
            "quantize": {"schemes": ["float32", "int8-ptq"]},
        },
        modules=[folder / "family.py"], folder=work / "runs" / name.replace("/", " "),
    )
    return outcome.gates


def keras3_of(name: str) -> str:
    """What a family is lowered to in Keras 3: the same layers, and how far the answers of the model are away."""
    from benchmarks.networks.third import in_both, same_layers

    both = in_both(name)
    layers = f"{len(both.flat3.layers)} layers of its own"
    if same_layers(both.flat3, both.flat2, names=False):
        layers = "the same layers" + ("" if same_layers(both.flat3, both.flat2) else " with other names")
    return f"{layers}, {both.weights} weights, {both.difference:.0e}"


def line_of(row) -> str:
    """One family as a row of the table."""
    found = len(set(row.found) & set(row.expected))
    added = f" ({row.added} constant{'s' if row.added > 1 else ''})" if row.added else ""
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
