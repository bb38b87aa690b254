"""Whatever imports TensorFlow in the pipeline imports `edgeship.model` first, which holds its notices back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from edgeship.app import pipeline

KERAS = {"tensorflow", "tf_keras"}
FILES = sorted(Path(pipeline.__file__).parent.glob("*.py"))


def imported(body: list[ast.stmt]) -> list[str]:
    names = [
        [alias.name for alias in item.names] if isinstance(item, ast.Import) else [item.module or ""]
        for item in body if isinstance(item, ast.Import | ast.ImportFrom)
    ]
    return [name for several in names for name in several]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_notices_are_held_back(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [item for item in ast.walk(tree) if isinstance(item, ast.FunctionDef)]
    for place in (tree, *functions):
        names = imported(place.body)
        first = next((number for number, name in enumerate(names) if name.split(".")[0] in KERAS), None)
        if first is not None:
            assert any(name.startswith("edgeship.model") for name in names[:first]), f"{path.name}: {names}"
