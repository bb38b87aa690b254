"""A GELU by hand, x * 0.5 * (1 + erf(x / sqrt(2))), as the layer that means it: LiteRT has no erf but in a GELU.

The factor 0.5 may stand anywhere, since a product with a power of two is exact.
"""

from __future__ import annotations

import math
from typing import Any

from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.model.keras2 import maker_of, node_of, read_by
from edgeship.quantize.lowering.operator_arguments import Replacement

ERF = "math.erf"
ROOT = math.sqrt(2.0)
# sqrt(2) as float32 is right to 2^-24; as people write it, to four digits at the least.
NEAR = 1e-4


def gelu_of(first: Any, second: Any, *, factor: float = 1.0) -> Replacement | None:
    """Return the layer that means `first * second * factor`; None where that is no GELU."""
    for side, share in ((first, second), (second, first)):
        tensor, half = _scaled(side)
        raised, other_half = _scaled(share)
        made = _under(raised, 1.0, 1.0)
        scale = None if made is None or factor * half * other_half != 0.5 else _erf_of(made, tensor)
        if scale is not None:
            return Replacement(flat_layers.ErfGelu(**scale, name="gelu"), tensor)
    return None


def halved_gelu(tensor: Any, scale: float) -> Replacement | None:
    """Return the layer that means `tensor * scale`, a tensor that is a product already; None where that is no GELU."""
    maker = maker_of(tensor)
    return gelu_of(*read_by(node_of(tensor)), factor=scale) if type(maker) is layers.Multiply else None


def _scaled(tensor: Any) -> tuple[Any, float]:
    """What a tensor is a multiple of, and its factor."""
    maker = maker_of(tensor)
    if type(maker) is layers.Rescaling and maker.offset == 0 and isinstance(maker.scale, float):
        return read_by(node_of(tensor))[0], maker.scale
    return tensor, 1.0


def _under(tensor: Any, scale: float, offset: float) -> Any:
    """What a tensor is `scale * x + offset` of; None where it is not."""
    maker = maker_of(tensor)
    fits = type(maker) is layers.Rescaling and maker.scale == scale and maker.offset == offset
    return read_by(node_of(tensor))[0] if fits else None


def _erf_of(tensor: Any, x: Any) -> dict[str, float] | None:
    """How x is scaled where a tensor is erf(x / sqrt(2)); None where it is not."""
    if maker_of(tensor).get_config().get("function") != ERF:
        return None
    inner = read_by(node_of(tensor))[0]
    maker = maker_of(inner)
    if type(maker) is flat_layers.DivideBy and maker.divisor.size == 1:
        divided, divisor = read_by(node_of(inner))[0], float(maker.divisor)
        return {"divisor": divisor} if divided is x and abs(divisor / ROOT - 1) < NEAR else None
    divided, factor = _scaled(inner)
    return {"factor": factor} if divided is x and abs(factor * ROOT - 1) < NEAR else None
