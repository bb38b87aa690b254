"""Tensors in another order of axes than their readers know: transposes that are put off until they cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tf_keras import layers

from edgeship.core.errors import LoweringError


@dataclass(frozen=True)
class View:
    """A tensor of an old graph as the new graph holds it.

    Args:
        base: the tensor of the new graph.
        axes: for each axis of the old tensor, the axis of `base` that it is. The other axes of `base` have size 1.
        name: of the layer that a transpose would be, where the old graph had one.
    """

    base: Any
    axes: tuple[int, ...]
    name: str | None = None

    @property
    def order(self) -> tuple[int | None, ...]:
        """For each axis of `base` the axis of the old tensor that it is; None for one that the old tensor has not."""
        return tuple(self.axes.index(axis) if axis in self.axes else None for axis in range(self.base.shape.rank))

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The old tensor's shape."""
        return tuple(self.base.shape[axis] for axis in self.axes)

    @property
    def rank(self) -> int:
        return len(self.axes)

    @property
    def is_plain(self) -> bool:
        """Whether it is the old tensor itself."""
        return self.axes == tuple(range(self.base.shape.rank))

    @property
    def has_last_axis(self) -> bool:
        """Whether the last axes of both are one."""
        return self.axes[-1] == len(self.base.shape) - 1

    @property
    def is_in_order(self) -> bool:
        """Whether all elements come one after the other as in the old tensor."""
        return self.axes == tuple(sorted(self.axes))

    def of(self, base: Any) -> View:
        """The same view of a tensor of the same layout."""
        return View(base, self.axes)


class Views:
    """Makes tensors of views, each transpose once."""

    def __init__(self, taken: Sequence[str]) -> None:
        self._names = set(taken)
        self._made: dict[tuple[int, tuple[int | None, ...]], Any] = {}

    def plain(self, view: View, *, reader: str) -> Any:
        """The old tensor itself, its axes in their own order."""
        return self.arranged(view, tuple(range(view.rank)), reader=reader)

    def arranged(self, view: View, order: tuple[int | None, ...], *, reader: str) -> Any:
        """A tensor of the new graph whose axes are the old tensor's in this order, None being a new axis of size 1.

        Args:
            reader: the layer that reads it, after which a transpose is named.
        """
        if view.order == order:
            return view.base
        key = (id(view.base), tuple(None if axis is None else view.axes[axis] for axis in order))
        if key not in self._made:
            self._made[key] = self._arrange(view, order, reader)
        return self._made[key]

    def _arrange(self, view: View, order: tuple[int | None, ...], reader: str) -> Any:
        wanted = [view.axes[axis] for axis in order if axis is not None]
        rest = [axis for axis in range(view.base.shape.rank) if axis not in wanted]  # of size 1
        tensor, there = view.base, [axis for axis in range(view.base.shape.rank) if axis in wanted]
        if there != wanted:
            is_whole = order == tuple(range(view.rank)) and not rest
            name = view.name if is_whole and view.name else f"{reader}_transposed"
            tensor = layers.Permute([*wanted, *rest][1:], name=self.unused(name))(tensor)
            rest = list(range(len(wanted), view.base.shape.rank))
        if rest or None in order:
            shape = tuple(1 if axis is None else view.shape[axis] for axis in order[1:])
            if None in shape:
                sizes = ", ".join("?" if size is None else str(size) for size in view.shape[1:])
                raise LoweringError(
                    f"{reader}: expected whole sizes of what it reads, since the files have fixed ones; found "
                    f"(n, {sizes}): give the model an input of whole sizes, such as keras.Input((30, 4))"
                )
            tensor = layers.Reshape(shape, name=self.unused(f"{reader}_reshaped"))(tensor)
        return tensor

    def unused(self, name: str) -> str:
        """`name`, or one like it that no layer has; a transpose of the old graph may give its name to one only."""
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate
