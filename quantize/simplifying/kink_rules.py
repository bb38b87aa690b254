"""How a function with a kink at zero changes from operation to operation: one rule for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import layers

from edgeship.model import flat_layers


@dataclass(frozen=True, eq=False)
class Kinked:
    """A tensor as `factor * base**degree`, of two factors: one where the base is positive, one where it is negative.

    Args:
        base: the tensor it is computed from; None for a constant.
        degree: 1, or 0 where it does not depend on how large the base is (a comparison, a constant).
        above, below: the factors, a number or one for each channel.
        steps: how many operations lead from the base here.
        is_foreign: whether one of them is a comparison or a choice.
        trains: whether one of them has a weight.
    """

    base: Any
    degree: int
    above: np.ndarray
    below: np.ndarray
    steps: int = 0
    is_foreign: bool = False
    trains: bool = False

    @property
    def is_zero(self) -> bool:
        return not self.above.any() and not self.below.any()

    def scaled(self, factor: Any) -> Kinked:
        return replace(self, above=self.above * factor, below=self.below * factor)


# A node and its operands -> its result, without a base; None where that is another function.
Rule = Callable[[Any, list[Kinked]], Kinked | None]


def _alike(given: Sequence[Kinked]) -> int | None:
    """Return the degree that operands have in common; zero has any."""
    degrees = {item.degree for item in given if not item.is_zero}
    return degrees.pop() if len(degrees) == 1 else None


def _merged(above: Any, below: Any, given: Sequence[Kinked]) -> Kinked | None:
    degree = _alike(given)
    return None if degree is None else Kinked(None, degree, np.asarray(above), np.asarray(below))


def _sum(node: Any, given: list[Kinked]) -> Kinked | None:
    return _merged(sum(item.above for item in given), sum(item.below for item in given), given)


def _difference(node: Any, given: list[Kinked]) -> Kinked | None:
    return _sum(node, [given[0], given[1].scaled(-1.0)])


def _product(node: Any, given: list[Kinked]) -> Kinked | None:
    degree = sum(item.degree for item in given)
    above, below = (np.multiply.reduce([getattr(item, side) for item in given]) for side in ("above", "below"))
    return Kinked(None, degree, np.asarray(above), np.asarray(below)) if degree <= 1 else None


def _larger(node: Any, given: list[Kinked]) -> Kinked | None:
    """Of what is negative, the one of the smaller factor is larger."""
    if _alike(given) != 1:
        return None
    return _merged(_most(np.maximum, given, "above"), _most(np.minimum, given, "below"), given)


def _smaller(node: Any, given: list[Kinked]) -> Kinked | None:
    if _alike(given) != 1:
        return None
    return _merged(_most(np.minimum, given, "above"), _most(np.maximum, given, "below"), given)


def _most(choose: Any, given: Sequence[Kinked], side: str) -> Any:
    return choose.reduce(np.broadcast_arrays(*(getattr(item, side) for item in given)))


def _rectified(given: Kinked, slope: float) -> Kinked | None:
    """Multiply by a slope what is negative."""
    if given.degree != 1:
        return None
    above, below = (
        np.where(sign * factor < 0, slope * factor, factor)
        for sign, factor in ((1.0, given.above), (-1.0, given.below))
    )
    return replace(given, above=above, below=below)


def _relu(node: Any, given: list[Kinked]) -> Kinked | None:
    layer = node.layer
    if layer.max_value is not None or np.any(layer.threshold):
        return None
    return _rectified(given[0], float(layer.negative_slope or 0.0))


def _leaky_relu(node: Any, given: list[Kinked]) -> Kinked | None:
    return _rectified(given[0], float(node.layer.alpha))


def _activation(node: Any, given: list[Kinked]) -> Kinked | None:
    kind = getattr(node.layer.activation, "__name__", None)
    return given[0] if kind == "linear" else _rectified(given[0], 0.0) if kind == "relu" else None


def _clip(node: Any, given: list[Kinked]) -> Kinked | None:
    low, high = node.layer.low, node.layer.high
    if (low, high) == (0, None):
        return _rectified(given[0], 0.0)
    if (low, high) != (None, 0):
        return None
    turned = _rectified(given[0].scaled(-1.0), 0.0)
    return None if turned is None else turned.scaled(-1.0)


def _rescaling(node: Any, given: list[Kinked]) -> Kinked | None:
    scale, offset = np.asarray(node.layer.scale, np.float64), np.asarray(node.layer.offset, np.float64)
    if scale.size != 1 or offset.size != 1 or (offset.any() and given[0].degree):
        return None
    moved = given[0].scaled(scale.reshape(()))
    return replace(moved, above=moved.above + offset.reshape(()), below=moved.below + offset.reshape(()))


def _affine(node: Any, given: list[Kinked]) -> Kinked | None:
    """A factor for each channel, or a division."""
    scale, _ = node.layer.affine()
    return given[0].scaled(scale if scale.size > 1 else scale.item())


def _absolute(node: Any, given: list[Kinked]) -> Kinked | None:
    return _rectified(given[0], -1.0)


def _sign(node: Any, given: list[Kinked]) -> Kinked | None:
    if given[0].degree != 1:
        return None
    return Kinked(None, 0, np.sign(given[0].above), -np.sign(given[0].below))


def _compared(strictly_more: Callable[[np.ndarray], np.ndarray]) -> Rule:
    """Rule of a comparison with zero: of what it gives for numbers above and below zero, and zero itself."""

    def rule(node: Any, given: list[Kinked]) -> Kinked | None:
        if _alike(given) != 1:
            return None
        difference = _difference(node, given)
        if difference is None:
            return None
        above, below = strictly_more(difference.above), strictly_more(-difference.below)
        return Kinked(None, 0, above.astype(np.float64), below.astype(np.float64))

    return rule


def _chosen(node: Any, given: list[Kinked]) -> Kinked | None:
    if len(given) != 3 or given[0].degree:
        return None
    condition, first, second = given
    above, below = (
        np.where(getattr(condition, side) != 0, getattr(first, side), getattr(second, side))
        for side in ("above", "below")
    )
    return _merged(above, below, given[1:])


def _cast(node: Any, given: list[Kinked]) -> Kinked | None:
    """To another type, as long as the numbers stay what they are."""
    numbers = np.concatenate([given[0].above.reshape(-1), given[0].below.reshape(-1)])
    allowed = {tf.bool: (0, 1)}.get(node.outputs.dtype, (-1, 0, 1))
    is_kept = node.outputs.dtype.is_floating or np.isin(numbers, allowed).all()
    return given[0] if given[0].degree == 0 and is_kept else None


def _inverted(node: Any, given: list[Kinked]) -> Kinked | None:
    return replace(given[0], above=1 - given[0].above, below=1 - given[0].below)


COMPARISONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "math.greater": lambda number: number > 0, "math.greater_equal": lambda number: number >= 0,
    "math.less": lambda number: number < 0, "math.less_equal": lambda number: number <= 0,
}
CHOICES = ("where", "where_v2")
OPERANDS = {**dict.fromkeys(CHOICES, 3), **dict.fromkeys(("cast", "math.abs", "math.sign", "math.logical_not"), 1)}
RULES: dict[Any, Rule] = {
    layers.Add: _sum, layers.Subtract: _difference, layers.Multiply: _product,
    layers.Maximum: _larger, layers.Minimum: _smaller,
    layers.ReLU: _relu, layers.LeakyReLU: _leaky_relu, layers.Activation: _activation, flat_layers.Clip: _clip,
    layers.Rescaling: _rescaling, flat_layers.DivideBy: _affine, flat_layers.ChannelScale: _affine,
    "math.abs": _absolute, "math.sign": _sign, "cast": _cast, "math.logical_not": _inverted,
    **{name: _compared(comparison) for name, comparison in COMPARISONS.items()},
    **dict.fromkeys(CHOICES, _chosen),
}
FOREIGN = frozenset({*COMPARISONS, *CHOICES, "cast", "math.sign", "math.logical_not"})
