"""Positions of an axis in another order, or several times -> slices joined, where a few slices are all of them.

A roll is two slices, a tile is the tensor itself several times, a shuffle of two groups of channels is two slices of
every second one. Slices and concatenations are what most runtimes have. Another order is an operation of both files
(GATHER, Gather), which moves integers as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tf_keras import layers

from edgeship.model.flat_layers import StridedSlice, Take
from edgeship.quantize.simplifying.replacement import Replacement

MOST_SLICES = 4
WHOLE = (None, None, None)
Run = tuple[int, int | None, int]  # start, stop (None: to the end) and step of a slice


def taken(layer: Any) -> Replacement:
    """Return what stands for a `Take`."""
    return Replacement(layer, lambda parts, tensor: _taken(parts, tensor, layer.positions, layer.axis))


def repeated_vector(layer: Any) -> Replacement:
    """Return what stands for a RepeatVector: the vector as a sequence of one step, taken several times."""

    def build(parts: Replacement, tensor: Any) -> Any:
        sequence = parts.layer("sequence", layers.Reshape, (1, -1))(tensor)
        return _taken(parts, sequence, [0] * int(layer.n), 1)

    return Replacement(layer, build)


def _taken(parts: Replacement, tensor: Any, positions: Sequence[int], axis: int) -> Any:
    runs, length = runs_of(positions), tensor.shape[axis]
    if len(runs) > MOST_SLICES:
        return parts.layer("", Take, positions, axis)(tensor)

    def part(run: Run, suffix: str) -> Any:
        if run == (0, length, 1):
            return tensor
        return parts.layer(suffix, StridedSlice, [WHOLE] * (axis - 1) + [run])(tensor)

    if len(runs) == 1:
        return part(runs[0], "")
    # Equal slices are made once.
    return parts.layer("", layers.Concatenate, axis=axis)([part(run, f"part{runs.index(run) + 1}") for run in runs])


def runs_of(positions: Sequence[int]) -> list[Run]:
    """Return the slices that take these positions, one after the other."""
    runs: list[Run] = []
    first = 0
    while first < len(positions):
        step = positions[first + 1] - positions[first] if first + 1 < len(positions) else 0
        last = first
        while step and last + 1 < len(positions) and positions[last + 1] - positions[last] == step:
            last += 1
        stop = positions[last] + (1 if step >= 0 else -1)
        runs.append((positions[first], None if stop < 0 else stop, step or 1))
        first = last + 1
    return runs
