"""What the command line prints, as text: for objects that are printed in Python."""

from __future__ import annotations

import html
import io

from rich.console import Console, RenderableType

LEFT = "white-space: pre; overflow-x: auto; line-height: 1.2; font-family: Menlo, 'DejaVu Sans Mono', monospace"


def as_text(renderable: RenderableType, *, width: int) -> str:
    """Return what a terminal of `width` characters without colors would show."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(renderable)
    return stream.getvalue().rstrip()


def as_html(renderable: RenderableType, *, width: int) -> str:
    """Return the same with its colors, as HTML for a notebook."""
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(renderable)
    code = console.export_html(inline_styles=True, code_format="{code}")
    return f'<pre style="{html.escape(LEFT)}">{code}</pre>'
