"""Every block of code on a page is run, read by what it is for, or says above itself that it is not run."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from edgeship.app.cli.main import command_parser
from edgeship.core.config_file import config_from_dict
from tests.support.shell_lines import EDGESHIP, commands

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
# Pages whose Python is run by test_python.py and test_pictures.py.
RUN = {"README.md", "python.md", "pictures.md"}
# A line above a block of a language that nothing here can run.
NOT_RUN = re.compile(r"<!-- not run: .+ -->")


class Block(NamedTuple):
    page: str
    language: str
    text: str
    above: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            yield Block(page.name, found[1], found[2], text[: found.start()].rstrip("\n").rpartition("\n")[2])


def of(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language]


def test_there_are_blocks_and_each_has_a_language() -> None:
    assert len(list(blocks())) > 20
    for page in PAGES:
        fences = re.findall(r"^```.*$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert all(len(fence) > 3 for fence in fences[::2]), f"{page.name}: a block without a language"


def test_blocks_that_nothing_runs_say_so() -> None:
    for block in blocks():
        if block.language in ("sh", "toml", "json", "yaml", "text") or (
            block.language == "python" and block.page in RUN
        ):
            continue
        assert NOT_RUN.fullmatch(block.above), f"{block.page}: a block of {block.language} is neither run nor marked"


@pytest.mark.parametrize("block", of("toml"), ids=lambda block: block.page)
def test_configurations_are_read(block: Block) -> None:
    config_from_dict(tomllib.loads(block.text))


@pytest.mark.parametrize("block", of("json"), ids=lambda block: block.page)
def test_json_is_well_formed(block: Block) -> None:
    text = block.text if block.text.lstrip().startswith("{") else f"{{{block.text}}}"
    json.loads(text)


@pytest.mark.parametrize("block", of("sh"), ids=lambda block: block.page)
def test_commands_of_ours_are_known(block: Block) -> None:
    """Each call of edgeship is one that the command line reads; each script of ours is there."""
    for arguments in commands(block.text, calls=EDGESHIP):
        try:
            command_parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{block.page}: edgeship {shlex.join(arguments)}")
    for module in re.findall(r"python -m (benchmarks[.\w]*)", block.text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), f"{block.page}: {module}"
    for script in re.findall(r"^(?:\./)?(scripts/[\w-]+)", block.text, re.MULTILINE):
        assert (ROOT / script).is_file(), f"{block.page}: {script}"
