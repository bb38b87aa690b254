"""Every model of a folder's cases.py through `edgeship run`: how each ends, as a Markdown table.

    python -m benchmarks.field FOLDER [CASE ...] [--work DIR] [--out FILE]

FOLDER/cases.py has factories `build(input_shape, classes)`; FOLDER/data.py, where it is, writes .npz files into the
folder it is given. A case is a factory, or one of VARIANTS: a factory with options. FOLDER/variants.toml, where it is,
has more of them: a table for each case with `factory` and the sections of its configuration.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.gates import run_to_verdict
from edgeship.core.progress import say

HEAD = "| case | options | exit | verdict | what it says |"
PARAMETERS = ["input_shape", "classes"]
BASE: dict[str, dict[str, Any]] = {
    "data": {"name": "digits", "test_images": 500, "calibration_images": 200},
    "train": {"epochs": 15, "batch_size": 16, "learning_rate": 5e-3},
    "quantize": {"schemes": ["float32", "int8-ptq"]},
    "validate": {"max_accuracy_drop": 0.03},  # 500 images cannot resolve less (configs/digits.toml)
}
# Case -> the factory and what its configuration has beside BASE; "npz" is a file that data.py writes.
VARIANTS: dict[str, dict[str, Any]] = {
    "many_classes": {"data": {"npz": "many.npz"}, "train": {"epochs": 0}},
    "one_sigmoid": {"data": {"npz": "two.npz"}},
    "mirrored": {"data": {"channels": 3}},
    "reflect_only": {"quantize": {"schemes": ["float32", "float16", "dynamic-int8", "int8-ptq"]}},
    **{
        f"{factory}, {' '.join(names)} kept": {"factory": factory, "quantize": {"keep_float": names}}
        for factory, *names in (
            ("plain_concat", "join"), ("group_norm", "group_norm"), ("layer_norm", "layer_norm"), ("crnn", "lstm"),
            ("transformer", "norm1", "attention", "norm2"), ("transformer", "norm1", "norm2"),
            ("token_dense_bias", "norm"), ("reflect_only", "mirror_pad"), ("many_classes", "probabilities"),
            ("coordinates", "coordinates"), ("channels_first", "bn1"),
        )
    },
}


def main() -> None:
    """Run the cases named, or all, and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with cases.py")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="factories, or names of variants; none: all")
    parser.add_argument("--work", type=Path, default=Path("field"), help="where the runs leave their files")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    cases = cases_of(options.folder)
    unknown = [name for name in options.cases if name not in cases]
    if unknown:
        parser.error(f"expected cases of {', '.join(cases)}; found {', '.join(unknown)}")
    data = _data(options.folder, options.work)
    lines = [HEAD, "|" + " --- |" * HEAD.count(" |")]
    for name in options.cases or cases:
        say(name)
        lines.append(_line(name, cases[name], options, data))
        print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


def cases_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Case -> its factory and options; read from the source, so that nothing is run here."""
    tree = ast.parse((folder / "cases.py").read_text())
    makers = {item.name for item in tree.body if isinstance(item, ast.FunctionDef) and _returns_factory(item)}
    names = [item.name for item in tree.body if isinstance(item, ast.FunctionDef) and _is_factory(item)]
    for item in tree.body:  # name = maker(...)
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Call) and isinstance(item.value.func, ast.Name):
            names += [target.id for target in item.targets if isinstance(target, ast.Name)
                      and item.value.func.id in makers]
    known = dict(VARIANTS)
    if (folder / "variants.toml").is_file():
        known |= tomllib.loads((folder / "variants.toml").read_text())
    more = {name: options for name, options in known.items() if options.get("factory") in names}
    more = {name: _with_its_factorys(options, known) for name, options in more.items()}
    return {name: {"factory": name, **known.get(name, {})} for name in names} | more


def _with_its_factorys(options: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A variant's sections over those that the factory needs, such as its data."""
    base = known.get(options["factory"], {})
    return {**{key: value for key, value in base.items() if key not in options}, **options}


def _is_factory(function: ast.FunctionDef) -> bool:
    return [argument.arg for argument in function.args.args] == PARAMETERS


def _returns_factory(function: ast.FunctionDef) -> bool:
    return any(isinstance(item, ast.FunctionDef) and _is_factory(item) for item in function.body)


def _data(folder: Path, work: Path) -> Path:
    """Where the .npz files are, made if need be."""
    made = work.resolve() / "data"
    if (folder / "data.py").is_file() and not made.is_dir():
        subprocess.run([sys.executable, "data.py", str(made)], cwd=folder, check=True)
    return made


def _line(name: str, case: dict[str, Any], options: argparse.Namespace, data: Path) -> str:
    sections = {key: dict(value) for key, value in BASE.items()}
    for key, value in case.items():
        if key != "factory":
            sections[key] = {**sections.get(key, {}), **value}
    file = sections["data"].pop("npz", None)
    if file is not None:
        sections["data"] = {"name": "npz", "path": str(data / file), "calibration_images": 200}
    sections["model"] = {"factory": f"cases:{case['factory']}", **sections.get("model", {})}
    outcome = run_to_verdict(
        sections, modules=sorted(options.folder.glob("*.py")), folder=options.work.resolve() / name.replace(", ", "-")
    )
    given = [keys for part, keys in case.items() if part != "factory"]
    told = "; ".join(f"{key} {value}" for keys in given for key, value in keys.items())
    return f"| {name} | {told} | {outcome.exit_code} | {outcome.verdict or 'none'} | {outcome.shown} |"


if __name__ == "__main__":
    main()
