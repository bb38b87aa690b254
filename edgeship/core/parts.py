"""What `pip install edgeship` leaves out, and the sentence for it where it is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

# Import name -> what has it. Without these, files are still inspected, validated and compared.
TRAIN = (
    "tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "tf2onnx", "h5py", "safetensors", "sklearn",
    "spdx_tools",
)
REPORT = ("jinja2", "matplotlib")  # a report has no page without these; its JSON and its Markdown need none
PARTS = {"train": TRAIN, "report": REPORT}
INSTALL = 'pip install "edgeship[train]"'


def how_to_install(module: str | None) -> str | None:
    """The sentence for a module that could not be imported; None where no part of edgeship has it."""
    name = (module or "").partition(".")[0]
    part = next((part for part, modules in PARTS.items() if name in modules), None)
    return None if part is None else f'{name} is not installed, and this needs it: pip install "edgeship[{part}]"'


def missing(modules: Sequence[str]) -> str | None:
    """Return the sentence for the first of these modules that is not installed here; None where all of them are."""
    absent = next((name for name in modules if importlib.util.find_spec(name) is None), None)
    return None if absent is None else f"{absent} is not installed here ({INSTALL})"
