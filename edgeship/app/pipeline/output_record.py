"""output.json: the form of a classifier's output, and why; read without TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

from edgeship.core.files import write_json
from edgeship.core.output_forms import PROBABILITIES

SCHEMA = 1


def write_output(path: Path, output: str | None, *, asked: str, why: str) -> None:
    """Write what was asked for, the form that it came to (None: the network has no softmax at its end), and why."""
    write_json(path, {"schema": SCHEMA, "asked": asked, "output": output, "why": why})


def read_output(path: Path) -> str | None:
    """Return the form in a file of `write_output`."""
    form: str | None = json.loads(path.read_text())["output"]
    return form


def form_for_graphs(output: str | None) -> str:
    """Return the form that the graphs are made in: where there is no softmax, as they are."""
    return output or PROBABILITIES
