"""Plots as inline SVG by matplotlib, in the page's own colours, so that they follow its light or dark mode."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.core.files import sha256_of_bytes

# matplotlib draws in colours of its own; in the SVG each of these becomes a colour of style.css.
INK, FAINT = "#010101", "#020202"
SERIES = ("#0a0101", "#0a0201", "#0a0301", "#0a0401", "#0a0501", "#0a0601")
VARIABLES = {INK: "--ink", FAINT: "--line", **{color: f"--c{place}" for place, color in enumerate(SERIES, 1)}}
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 4.6  # inches of 72 points, so about as wide as a phone: there the letters keep their size
LETTERS = 9
LETTER_WIDTH, GAP, MARK = 0.6 * LETTERS, 4, 3  # points: of a digit, from a point to its number, around a point
CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # of a point, where its number can stand
Box = tuple[float, float, float, float]  # left, bottom, right, top
ROW_HEIGHT, LINE_HEIGHT, MARGIN = 0.36, 0.15, 0.7  # inches
MOST_LETTERS, MOST_LABEL_LINES = 62, 3  # of a label: as many as the width holds
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "font.size": LETTERS, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": FAINT, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "figure.facecolor": "none",
    "axes.facecolor": "none", "axes.unicode_minus": False,
    "text.parse_math": False,  # a name with two dollar signs is no formula
}
SAID = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row of a plot: a value with its interval, and single observations."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    points: Sequence[float] = ()
    series: int = 0


def svg_of(draw: Callable[[Any], None], *, height: float, described: str, panels: int = 1) -> str:
    """Return a figure of one or more axes as an `<svg>` element to stand in a page.

    Args:
        draw: draws into the axes, or into a list of them where there are several, one below the other.
        height: in inches.
        described: what the figure shows, for who cannot see it.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    stream = io.StringIO()
    # The salt makes identifiers repeat from run to run; _inlined makes them differ from figure to figure.
    with mpl.rc_context({**STYLE, "svg.hashsalt": "edgeship"}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(panels, 1, sharex=panels > 1)
        draw(axes)
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    return _inlined(stream.getvalue(), described)


def rows_plot(
    bars: Sequence[Bar], *, unit: str, described: str, zero: bool = False, is_logarithmic: bool = False
) -> str:
    """Return a plot with a row per bar: its label, below it a dot with an interval, and single observations."""
    labels = [textwrap.wrap(bar.label, MOST_LETTERS)[:MOST_LABEL_LINES] for bar in bars]
    height = ROW_HEIGHT + LINE_HEIGHT * (max(map(len, labels)) - 1)

    def draw(axes: Any) -> None:
        for place, (bar, label) in enumerate(zip(bars, labels, strict=True)):
            color = SERIES[bar.series % len(SERIES)]
            axes.text(
                0, place - 0.06 / height, "\n".join(label), transform=axes.get_yaxis_transform(), va="bottom",
                ha="left", in_layout=False,
            )
            if bar.points:
                axes.plot(bar.points, [place] * len(bar.points), "o", color=color, markersize=3, alpha=0.55)
            ends = [end for end in (bar.low, bar.value, bar.high) if end is not None]  # an interval may have one end
            axes.plot(ends, [place] * len(ends), "-", color=color, linewidth=2)
            if bar.value is not None:
                axes.plot([bar.value], [place], MARKERS[bar.series % len(MARKERS)], color=color, markersize=6)
        if zero:
            axes.axvline(0, color=INK, linewidth=0.8)
        if is_logarithmic:
            logarithmic(axes)
        axes.set_ylim(len(bars) - 0.6, -1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit)

    return svg_of(draw, height=height * len(bars) + MARGIN, described=described)


def logarithmic(axes: Any) -> None:
    """Draw the numbers along the bottom by their logarithms, with three labels per power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def number_points(axes: Any, points: Sequence[tuple[float, float]]) -> None:
    """Write each point's number, from 1, beside it; numbers that would lie on each other stand together."""
    axes.figure.draw_without_rendering()  # settles where the axes lie
    places = axes.transData.transform(points)
    groups: list[list[int]] = []
    for number, place in enumerate(places):
        near = next((group for group in groups if _is_near(places[group[0]], place)), None)
        if near is None:
            groups.append([number])
        else:
            near.append(number)
    spots = places * 72 / axes.figure.dpi
    taken: list[Box] = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in spots]
    for group in groups:
        text = ",".join(str(number + 1) for number in group)
        boxes = {corner: _box(spots[group[0]], corner, text) for corner in CORNERS}
        free = [corner for corner, box in boxes.items() if not any(_meet(box, other) for other in taken)]
        across, up = corner = (free or CORNERS)[0]
        taken.append(boxes[corner])
        axes.annotate(
            text, points[group[0]], xytext=(GAP * across, GAP * up), textcoords="offset points",
            ha="left" if across > 0 else "right", va="bottom" if up > 0 else "top",
        )


def _box(place: Sequence[float], corner: tuple[int, int], text: str) -> Box:
    """Return about where a text at a corner of a point lies, in points."""
    width, height = len(text) * LETTER_WIDTH, float(LETTERS)
    left = place[0] + GAP if corner[0] > 0 else place[0] - GAP - width
    bottom = place[1] + GAP if corner[1] > 0 else place[1] - GAP - height
    return left, bottom, left + width, bottom + height


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _is_near(one: Sequence[float], other: Sequence[float]) -> bool:
    return abs(one[0] - other[0]) < 2 * LETTERS and abs(one[1] - other[1]) < LETTERS


def _inlined(svg: str, described: str) -> str:
    """Return matplotlib's file as an element: without what belongs to a file, with identifiers of its own."""
    text = SAID.sub("", svg).strip()
    prefix = f"p{sha256_of_bytes((described + text).encode())[:8]}-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(xlink:)?href="#', f'href="#{prefix}', text).replace("url(#", f"url(#{prefix}")
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    opening = re.match(r"<svg[^>]*>", text)
    box = re.search(r'viewBox="([^"]*)"', text)
    assert opening is not None and box is not None  # matplotlib's own writing
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{_attribute(described)}">'
    return head + text[opening.end():].replace("<defs>\n  \n </defs>", "")


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
