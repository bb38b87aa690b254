"""docs/deploy.md and docs/schemes.md say what the table of variants says, and docs/own-model.md knows the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.core.variants import (
    DEFAULT_VARIANTS,
    FIXED_KERNELS,
    PROCESSORS,
    VARIANTS,
    exact_on,
    fastest_on,
    file_of,
    in_words,
)

ROOT = Path(__file__).parents[2]
TYPES = {"u": "uint8", "s": "int8"}


def by_processor(name: str) -> str:
    found = PROCESSORS[name]
    best, *others = found.variants
    also = ", ".join(item.upper() for item in others) or "no other"
    ship = f"{best.upper()}: `{file_of('int8-qat', best)}`"
    return f"| {found.words} | {found.models} | {ship} | {also} | {found.reason} |"


def by_variant(name: str) -> str:
    return (
        f"| {name.upper()} | {TYPES[name[0]]} | {TYPES[name[2]]} | {in_words(exact_on(name))} "
        f"| {in_words(fastest_on(name))} |"
    )


@pytest.mark.parametrize("name", PROCESSORS)
def test_deploy_has_a_row_for_each_class_of_processors(name: str) -> None:
    assert by_processor(name) in (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", VARIANTS)
def test_schemes_has_a_row_for_each_variant(name: str) -> None:
    assert by_variant(name) in (ROOT / "docs" / "schemes.md").read_text(encoding="utf-8")


def test_the_release_and_the_default_are_those_of_the_code() -> None:
    release, default = ".".join(map(str, FIXED_KERNELS)), ", ".join(f"`{name}`" for name in DEFAULT_VARIANTS)
    for page in ("deploy.md", "schemes.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert f"ONNX Runtime {release} or newer" in text
    assert f"default {default}" in (ROOT / "docs" / "own-model.md").read_text(encoding="utf-8")
