"""output.json: the form of a classifier's output, and why; the stage that writes it. Read without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeship.app.pipeline import about
from edgeship.app.pipeline.stage import Stage
from edgeship.core.config import Config
from edgeship.core.files import sha256_of_file, write_json
from edgeship.core.output_forms import PROBABILITIES
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES

OUTPUT_FILE = "output.json"
SCHEMA = 1


def output_stage(
    read: dict[str, Any], *, config: Config, float_file: Path, output_file: Path, choose: Callable[[], None]
) -> Stage:
    """Return the stage that chooses the form, in either pipeline.

    Args:
        read: what all stages of the pipeline depend on.
        choose: writes `output_file`.
    """
    return Stage(
        name="output", about=about.OUTPUT, writes=(output_file,), work=lambda _: choose(),
        read={
            **read, "float": sha256_of_file(float_file), "asked": config.export.output,
            "has_int8": any(SCHEMES[name].source == FAKE_QUANTIZED for name in config.quantize.schemes),
        },
    )


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
