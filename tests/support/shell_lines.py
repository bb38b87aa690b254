"""Calls of edgeship in a text that a shell reads."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator

# What a shell may call -> the arguments that it stands for.
EDGESHIP = {"edgeship": [], ".venv/bin/edgeship": []}


def commands(text: str, *, calls: dict[str, list[str]]) -> Iterator[list[str]]:
    """The arguments of each call in a shell text, up to the next `||`, `;`, `>` or line's end, without `"$@"`."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += ":@%,+"  # of targets and tolerances; a shell reads them as parts of a word
        words = list(lexer)
        for start, word in enumerate(words):
            if word in calls:
                arguments = itertools.takewhile(lambda item: not set(item) <= set("|&;<>"), words[start + 1:])
                yield [*calls[word], *(item for item in arguments if item != "$@")]
