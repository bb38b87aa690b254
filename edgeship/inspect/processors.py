"""On which processors an int8 ONNX file is exact and the fastest, by the types of its products."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.saturation import Saturation
from edgeship.core.variants import exact_on, fastest_on, in_words
from edgeship.graph import Graph

# Activations and weights -> the variant.
VARIANT_OF = {("uint8", "uint8"): "u8u8", ("uint8", "int8"): "u8s8", ("int8", "int8"): "s8s8"}
SATURATING = "u8s8"  # the variant whose products can overflow 16 bits


@dataclass(frozen=True, kw_only=True)
class Processors:
    """The classes of processors (edgeship/core/variants.py) that a file is exact on, and those it is the fastest on."""

    variant: str
    exact_on: tuple[str, ...]
    fastest_on: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """In words, for people."""
        fastest = in_words(self.fastest_on) or "none"
        return f"{self.variant.upper()}: exact on {in_words(self.exact_on)}; the fastest on {fastest}"


def processors_of(graph: Graph, saturation: Saturation) -> Processors | None:
    """Return the processors of an ONNX file whose integer products are all of one variant; None for other files."""
    if graph.format != "onnx":
        return None
    products = {(item.input.dtype, item.weights.dtype) for item in graph.weighted_operations() if item.input.is_integer}
    variants = {VARIANT_OF.get(pair) for pair in products}
    variant = variants.pop() if len(variants) == 1 else None
    if variant is None:
        return None
    small = variant == SATURATING and saturation.cannot_saturate is True
    return Processors(
        variant=variant, exact_on=exact_on(variant, cannot_saturate=small),
        fastest_on=fastest_on(variant, cannot_saturate=small),
    )
