"""Lines that GitHub Actions shows beside a job: an error per regression, a warning where there is no verdict.

Source: docs.github.com, "Workflow commands for GitHub Actions"; the escapes are those of actions/toolkit.
"""

import os
from collections.abc import Iterator, Mapping

from edgeship.core.comparison import INCONCLUSIVE, REFUSED, REGRESSION, Comparison
from edgeship.validate.compare.forms.columns import INTERRUPTED

COMMANDS = {REGRESSION: "error", INCONCLUSIVE: "warning", REFUSED: "warning"}
# The percent sign first: it begins every escape.
IN_MESSAGES = {"%": "%25", "\r": "%0D", "\n": "%0A"}
IN_TITLES = {**IN_MESSAGES, ":": "%3A", ",": "%2C"}


def comparison_to_annotations(
    comparison: Comparison, *, variables: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """One line per check that is no pass; none outside GitHub Actions, where they would mean nothing.

    `variables` are the environment's; None: the process's own.
    """
    if (os.environ if variables is None else variables).get("GITHUB_ACTIONS") != "true":
        return ()
    return tuple(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    for check in comparison.checks:
        if check.verdict in COMMANDS:
            message = "\n".join((*check.reasons, *check.advice))
            yield _command(COMMANDS[check.verdict], f"{check.label}: {check.verdict}", message)
    if comparison.interrupted:
        yield _command("warning", "Latency comparison", INTERRUPTED)


def _command(name: str, title: str, message: str) -> str:
    return f"::{name} title={_escaped(title, IN_TITLES)}::{_escaped(message, IN_MESSAGES)}"


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    for sign, escape in escapes.items():
        text = text.replace(sign, escape)
    return text
