"""Records -> JSON text for people and repositories: indented, but a list of numbers on one line.

`json.dumps(indent=2)` gives each sample of a comparison a line of its own, thousands of them.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any


def encode(record: Any) -> str:
    """A dataclass as JSON text.

    Raises:
        ValueError: NaN or an infinity in it, which JSON does not have.
    """
    return _to_text(dataclasses.asdict(record), "") + "\n"


def _to_text(value: Any, margin: str) -> str:
    inner = margin + "  "
    if isinstance(value, dict) and value:
        items = [f"{inner}{json.dumps(str(key))}: {_to_text(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{margin}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        return "[\n" + ",\n".join(inner + _to_text(item, inner) for item in value) + f"\n{margin}]"
    return json.dumps(value, allow_nan=False)
