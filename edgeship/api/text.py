"""What the command line prints, as text: for objects that are printed in Python."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


def as_text(renderable: RenderableType, *, width: int) -> str:
    """Return what a terminal of `width` characters without colors would show."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(renderable)
    return stream.getvalue().rstrip()
