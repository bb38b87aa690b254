"""What the bounds on a file's rounding ask of the file itself: how much it multiplies, and what its outputs end in."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.bounds import SIGMOID_RESOLUTION
from edgeship.graph.ends import ends_in_sigmoid
from edgeship.graph.records import Graph

MOST_PRODUCTS = 1000  # in a file that cannot be read here: more lower the bound


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is said of a file, and of its siblings alike; of one that cannot be read nothing is known."""

    products: int = MOST_PRODUCTS  # convolutions and matrix products with constant weights
    # Of each output: a difference of at most this is none, since a float32 kernel need not get it right; None: 0.
    resolutions: tuple[float, ...] | None = None

    def resolutions_of(self, outputs: int) -> tuple[float, ...]:
        """Return the resolution of each of so many outputs."""
        return (0.0,) * outputs if self.resolutions is None else self.resolutions


UNKNOWN = Content()


def content_of(graph: Graph) -> Content:
    """Return what a file holds."""
    return Content(
        products=len(graph.weighted_operations()),
        resolutions=tuple(SIGMOID_RESOLUTION if ends else 0.0 for ends in ends_in_sigmoid(graph)),
    )
