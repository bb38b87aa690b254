"""The largest or smallest of several tensors -> sums and a ReLU: ONNX Runtime has no integer kernel for either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tf_keras import layers

from edgeship.quantize.simplifying.replacement import Replacement


def largest(layer: Any) -> Replacement:
    """Return what stands for a Maximum: max(a, b) = a + relu(b - a)."""
    return Replacement(layer, lambda parts, tensors: _one_by_one(parts, tensors, _larger))


def smallest(layer: Any) -> Replacement:
    """Return what stands for a Minimum: min(a, b) = a - relu(a - b)."""
    return Replacement(layer, lambda parts, tensors: _one_by_one(parts, tensors, _smaller))


def _one_by_one(parts: Replacement, tensors: Any, choose: Callable[..., Any]) -> Any:
    result, last = tensors[0], len(tensors) - 1
    for position, tensor in enumerate(tensors[1:], 1):
        result = choose(parts, "" if position == last else f"part{position}", result, tensor)
    return result


def _larger(parts: Replacement, name: str, first: Any, second: Any) -> Any:
    return parts.layer(name, layers.Add)([first, _excess(parts, name, second, first)])


def _smaller(parts: Replacement, name: str, first: Any, second: Any) -> Any:
    back = parts.layer(_joined(name, "back"), layers.Rescaling, -1.0)(_excess(parts, name, first, second))
    return parts.layer(name, layers.Add)([first, back])


def _excess(parts: Replacement, name: str, one: Any, other: Any) -> Any:
    """By how much `one` is above `other`; 0 where it is not."""
    minus = parts.layer(_joined(name, "minus"), layers.Rescaling, -1.0)(other)
    difference = parts.layer(_joined(name, "difference"), layers.Add)([one, minus])
    return parts.layer(_joined(name, "relu"), layers.ReLU)(difference)


def _joined(*words: str) -> str:
    return "_".join(filter(None, words))
