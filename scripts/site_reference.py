"""The pages of the site that are made from the code: the commands, and the keys of the configuration."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import io
import tokenize
from pathlib import Path

from edgeship.app.cli.main import command_parser
from edgeship.core.config import Config

IN_A_CELL = str.maketrans({"|": "\\|", "\n": " "})


def commands_page() -> str:
    """Return the page of all commands: what argparse says of each."""
    parser = command_parser()
    lines = ["# Commands", "", parser.epilog or "", ""]
    for name, command in _subcommands(parser).items():
        lines += _command(f"edgeship {name}", command)
    return "\n".join(lines)


def configuration_page() -> str:
    """Return the page of all keys: type and default of each field, and the comment beside it."""
    lines = ["# Keys of the configuration", "", "A TOML file. Every key has a default; unknown keys are refused.", ""]
    for section in dataclasses.fields(Config):
        kind = section.default_factory
        assert isinstance(kind, type)
        comments = _comments(Path(inspect.getfile(kind)).read_text(encoding="utf-8"))
        lines += [f"## [{section.name}]", "", "| key | type | default | what it is |", "|---|---|---|---|"]
        for field in dataclasses.fields(kind):
            cells = (f"`{field.name}`", f"`{field.type}`", f"`{field.default!r}`", comments[kind.__name__, field.name])
            lines.append("| " + " | ".join(cell.translate(IN_A_CELL) for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _command(name: str, parser: argparse.ArgumentParser) -> list[str]:
    lines = [f"## {name}", "", f"{parser.description}.", ""]
    if inner := _subcommands(parser):
        return lines + [line for word, command in inner.items() for line in _command(f"{name} {word}", command)]
    rows = [
        f"| `{_shown(action)}` | {(action.help or '').translate(IN_A_CELL)} | {_default(action)} |"
        for action in parser._actions if not isinstance(action, argparse._HelpAction)
    ]
    return [*lines, "| argument | what it is | default |", "|---|---|---|", *rows, ""]


def _shown(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    return " ".join(part for part in (", ".join(action.option_strings), value) if part)


def _default(action: argparse.Action) -> str:
    """A path of this machine is no default to show."""
    if action.default is None or action.nargs == 0 or isinstance(action.default, Path):
        return ""
    return f"`{action.default}`"


def _comments(source: str) -> dict[tuple[str, str], str]:
    """Return (class, field) -> the comment behind a field, after the lines of comment above it."""
    told = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT
    }
    lines, found = source.splitlines(), {}
    for kind in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for field in (node for node in kind.body if isinstance(node, ast.AnnAssign)):
            assert isinstance(field.target, ast.Name)
            first = field.lineno
            while lines[first - 2].lstrip().startswith("#"):
                first -= 1
            words = (told.get(number, "") for number in range(first, field.lineno + 1))
            found[kind.name, field.target.id] = " ".join(word for word in words if word)
    return found
