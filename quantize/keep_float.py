"""What the names in `quantize.keep_float` mean: layers of a lowered model, and their parts in the simplified one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.quantize.simplifying.rebuild import nodes_of, readers_of
from edgeship.quantize.simplifying.simplify import simplify


def kept_layers(flat: tf_keras.Model, names: Sequence[str]) -> tuple[str, ...]:
    """The layers of a lowered model that `names` mean: a layer itself, or all that a composite `x` became (`x_...`).

    A part that was split off a layer (`conv_gelu` of `conv`) may be named too; the lowered model has no such layer.

    Raises:
        LoweringError: a name that means no layer.
    """
    kept: dict[str, None] = {}
    for name in names:
        kept.update(dict.fromkeys(_roots(name, _names(flat), lambda: _names(simplify(flat)))))
    return tuple(kept)


def _roots(name: str, present: list[str], split: Callable[[], list[str]]) -> list[str]:
    """The lowered layers that a name means; none for a part that was split off, which only the simplified model has."""
    found = _meant(name, present)
    if not found and name not in split():
        raise LoweringError(
            f"keep_float: no layer is called {name!r}; the layers are {', '.join(present)}"
        )
    return found


def _names(model: tf_keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)]


def _meant(name: str, present: list[str]) -> list[str]:
    if name in present:
        return [name]
    # What follows a composite's name is the name of a layer in it; a number belongs to the name of another composite.
    return [layer for layer in present if re.match(rf"{re.escape(name)}_(?!\d+(_|$))", layer)]


def kept_parts(simple: tf_keras.Model, flat: tf_keras.Model, names: Sequence[str]) -> frozenset[str]:
    """The simplified layers that come from the named ones: themselves, and what was split off them.

    Raises:
        LoweringError: a name that means no layer, or one of which nothing is left.
    """
    before, after = _names(flat), _names(simple)
    kept: set[str] = set()
    for name in names:
        roots = _roots(name, before, lambda: after)
        found = [layer for layer in after if _origin(layer, before) in roots] if roots else [name]
        if not found:
            raise LoweringError(
                f"keep_float: {name!r} is no operation of its own: it does nothing in inference, or is folded "
                "into the weights of the layer before it; name that layer"
            )
        kept |= set(found)
    # A ReLU that is part of a product's operation goes with it.
    readers = readers_of(simple)
    for node in nodes_of(simple):
        read = readers.get(id(node.outputs), []) if node.layer.name in kept else []
        if len(read) == 1 and read[0] is not None and type(read[0].layer) is layers.ReLU:
            kept.add(read[0].layer.name)
    return frozenset(kept)


def _origin(layer: str, before: list[str]) -> str:
    """The lowered layer that a simplified one comes from: it has its name, or its name and what the part does."""
    return max((name for name in before if f"{layer}_".startswith(f"{name}_")), key=len)
