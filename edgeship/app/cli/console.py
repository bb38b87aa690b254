"""What the commands print: plain lines, and tables as wide as the terminal or a log."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG_COLUMNS = 240  # in a log there is no window to fit into, and folded cells cannot be read


def print_line(text: str) -> None:
    """Print a line to standard output."""
    sys.stdout.write(text + os.linesep)


def print_json(value: object) -> None:
    """Print a value as JSON to standard output."""
    import json

    print_line(json.dumps(value, indent=2))


def wide_console() -> Console:
    """Return a console for wide tables."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else LOG_COLUMNS)
