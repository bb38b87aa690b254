"""Which channels of a network can take a positive factor, and which of them must take the same one.

A factor per channel passes through a ReLU without an upper end, a pooling, a padding with zeros, a resize; it moves
with the channels where they are joined, cut apart or brought into another order; and what is added must have the same
one. A layer with a kernel gives its channels any factor, and takes any factor away from those that it reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.channel_sizes import Sizes
from edgeship.core.layer_names import layer_name
from edgeship.model import flat_layers
from edgeship.model.keras2 import read_by
from edgeship.quantize.ranges import Range
from edgeship.quantize.simplifying.rebuild import nodes_of
from edgeship.quantize.simplifying.rewrites import is_relu

# A channel (the last axis) that goes in times a factor comes out times the same factor.
PASSING = (
    layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D,
    layers.ZeroPadding2D, layers.UpSampling2D, layers.Resizing, layers.LeakyReLU, flat_layers.Resize,
)
# Layers that move values to other places and change none.
MOVING = (
    layers.Reshape, layers.Flatten, layers.Permute, layers.Cropping2D, flat_layers.StridedSlice, flat_layers.Take,
    flat_layers.DepthToSpace,
)


def inner_of(layer: Any) -> Any:
    """Return the layer in the wrapper that rounds its kernel, or the layer itself where it has none."""
    return getattr(layer, "layer", layer)


def is_depthwise(layer: Any) -> bool:
    """Return whether a layer, wrapped or not, reads each channel by itself."""
    return isinstance(inner_of(layer), layers.DepthwiseConv2D)


def has_one_scale(layer: Any) -> bool:
    """Return whether all channels that a wrapped layer makes share one scale of weights."""
    return getattr(layer, "has_one_scale", False)


def has_scale_per_input(layer: Any) -> bool:
    """Return whether each channel that a layer reads has a scale of weights of its own."""
    return is_depthwise(layer) and not has_one_scale(layer)


class Unions:
    """Numbers from 0 on, some of which are joined into one group (a disjoint-set forest: Tarjan 1975).

    A group with a marked number is marked.
    """

    def __init__(self, count: int = 0) -> None:
        self._parents = list(range(count))
        self._marked = [False] * count  # read at roots alone

    def new(self, count: int) -> np.ndarray:
        """Return further numbers, each a group of its own."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        self._marked.extend([False] * count)
        return np.arange(first, first + count)

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        low, high = self.root(one), self.root(other)
        self._parents[low] = high
        self._marked[high] |= self._marked[low]

    def mark(self, number: int) -> None:
        """Mark the group of a number."""
        self._marked[self.root(number)] = True

    def is_marked(self, number: int) -> bool:
        """Return whether the group of a number has a mark."""
        return self._marked[self.root(number)]

    def join_all(self, numbers: np.ndarray) -> None:
        """Make one group of several."""
        for number in numbers[1:]:
            self.join(number, numbers[0])

    def root(self, number: int) -> int:
        """Return the number that stands for its group."""
        number, parents = int(number), self._parents
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    def groups(self) -> np.ndarray:
        """Return each number's group, counted from 0."""
        roots = [self.root(number) for number in range(len(self._parents))]
        groups: np.ndarray = np.unique(roots, return_inverse=True)[1]
        return groups


Uses = dict[Any, np.ndarray]  # layer -> the group of each channel


@dataclass(frozen=True, kw_only=True)
class ChannelGroups:
    """The channels of a network by group: those of one number must take one factor."""

    is_fixed: np.ndarray  # (groups,), bool: takes no factor but 1
    made: Uses  # what each layer (wrapped where the network has fake quantization) makes
    read: Uses  # what each reads
    rounded: list[tuple[Range, Any, np.ndarray]]  # what is on a grid: its range, the tensor, its channels' groups
    results: list[tuple[str, np.ndarray]]  # the layer of each call whose result has channels, and their groups

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.is_fixed)

    def users(self, own: np.ndarray) -> tuple[Uses, Uses]:
        """Return the layers that make some of these groups, and those that read some, each with all that it has."""
        is_own = np.zeros(self.count, bool)
        is_own[own] = True
        made, read = (
            {layer: groups for layer, groups in uses.items() if is_own[groups].any()} for uses in (self.made, self.read)
        )
        return made, read

    def sizes(self, divisors: np.ndarray) -> Sizes:
        """Return what the channels of layers' results were divided by, of those results alone that were.

        Args:
            divisors: of each group.
        """
        calls = Counter(name for name, _ in self.results)
        return {
            layer_name(name): divisors[own] for name, own in self.results
            if calls[name] == 1 and np.any(divisors[own] != 1)  # of two results of one name nothing can be said
        }

    def made_together(self) -> Iterator[np.ndarray]:
        """Yield the groups that one layer makes, or several whose channels are added, in the order of the network."""
        unions = Unions(self.count)
        for groups in self.made.values():
            unions.join_all(groups)
        order = unions.groups()
        for number in dict.fromkeys(order[groups[0]] for groups in self.made.values()):
            yield np.flatnonzero(order == number)

    def sets(self) -> Iterator[np.ndarray]:
        """Yield groups whose factors depend on each other: those on one grid, and those that one scale of weights has.

        The weights of a depthwise layer's channels have a scale each, but where one is for the whole kernel.
        """
        unions = Unions(self.count)
        first: dict[int, int] = {}  # id(range) -> a group on its grid
        for item, _, groups in self.rounded:
            unions.join_all(groups)
            unions.join(groups[0], first.setdefault(id(item), groups[0]))
        for layer, groups in self.read.items():
            if not has_scale_per_input(layer):
                unions.join_all(groups)
        for layer, groups in self.made.items():
            if has_one_scale(layer):
                unions.join_all(groups)
        order = unions.groups()
        for number in range(order.max(initial=-1) + 1):
            yield np.flatnonzero(order == number)


def channel_groups(model: tf_keras.Model, weighted: Collection[str]) -> ChannelGroups:
    """Follow the channels through a simplified network, with fake quantization or before it.

    Args:
        weighted: names of the layers whose kernels are, or will be, integers.
    """
    walk = _Walk(frozenset(weighted))
    for tensor in model.inputs:
        walk.of[id(tensor)] = walk.fixed(tensor)
    for node in nodes_of(model):
        walk.visit(node)
    for tensor in model.outputs:
        walk.fix(walk.of[id(tensor)])
    return walk.finished()


@dataclass
class _Walk:
    """What is known of the tensors so far."""

    weighted: frozenset[str]
    of: dict[int, np.ndarray] = field(default_factory=dict)  # id(tensor) -> a number for each of its channels
    made: dict[Any, np.ndarray] = field(default_factory=dict)
    read: dict[Any, np.ndarray] = field(default_factory=dict)
    rounded: list[tuple[Range, Any, np.ndarray]] = field(default_factory=list)
    results: list[tuple[str, np.ndarray]] = field(default_factory=list)
    unions: Unions = field(default_factory=Unions)  # marked: the groups that take no factor but 1

    def visit(self, node: Any) -> None:
        """Give the results of a call their channels."""
        read = [self.of[id(tensor)] for tensor in read_by(node)]
        results = tf.nest.flatten(node.outputs)
        channels = self._result(node, read, results[0]) if len(results) == 1 else None
        if channels is None:
            for own in read:
                self.fix(own)
        for tensor in results:
            self.of[id(tensor)] = self.fixed(tensor) if channels is None else channels
        if channels is None or len(channels) != results[0].shape[-1]:
            return
        if isinstance(node.layer, Range):
            self.rounded.append((node.layer, results[0], channels))
        else:
            self.results.append((node.layer.name, channels))

    def _result(self, node: Any, read: list[np.ndarray], result: Any) -> np.ndarray | None:
        """The channels of a result; None: no factor passes."""
        layer = node.layer
        if layer.name in self.weighted:
            # A kernel of several calls would have to suit all of them.
            return self._product(layer, read[0], result) if len(layer.inbound_nodes) == 1 else None
        if isinstance(layer, layers.Concatenate) and layer.axis in (-1, len(result.shape) - 1):
            return np.concatenate(read)
        if type(layer) is layers.Add:
            return self._sum(read)
        if type(layer) is layers.Multiply:
            return self._gated(read, result)
        if isinstance(layer, MOVING):
            return _moved(layer, read_by(node)[0].shape[1:], read[0])
        return read[0] if len(read) == 1 and _passes(layer, read_by(node)[0], result) else None

    def _product(self, layer: Any, read: np.ndarray, result: Any) -> np.ndarray:
        inner = inner_of(layer)
        if isinstance(inner, (layers.Dense, layers.DepthwiseConv2D)) or inner.groups == 1:
            self.read[layer] = read
        else:
            self.fix(read)
        self.made[layer] = self.unions.new(result.shape[-1])
        return self.made[layer]

    def _sum(self, read: list[np.ndarray]) -> np.ndarray | None:
        if len({len(own) for own in read}) != 1:
            return None  # one of them is added to several channels
        for other in read[1:]:
            for one, two in zip(read[0], other, strict=True):
                self.unions.join(one, two)
        return read[0]

    def _gated(self, read: list[np.ndarray], result: Any) -> np.ndarray | None:
        """Channels times what takes no factor, such as a gate behind a sigmoid."""
        free = [own for own in read if not all(map(self.unions.is_marked, own))]
        return free[0] if len(free) == 1 and len(free[0]) == result.shape[-1] else None

    def fix(self, channels: np.ndarray) -> None:
        """Let channels take no factor."""
        for number in channels:
            self.unions.mark(number)

    def fixed(self, tensor: Any) -> np.ndarray:
        """Return new channels that take no factor; one for all of a tensor whose last axis is open."""
        shape = tensor.shape[1:]
        channels = self.unions.new(shape[-1] if len(shape) and shape[-1] else 1)
        self.fix(channels)
        return channels

    def finished(self) -> ChannelGroups:
        """Return what was found, by group."""
        groups = self.unions.groups()
        is_fixed = np.zeros(groups.max(initial=-1) + 1, bool)
        is_fixed[groups] = [self.unions.is_marked(number) for number in range(len(groups))]
        return ChannelGroups(
            is_fixed=is_fixed,
            made={layer: groups[own] for layer, own in self.made.items()},
            read={layer: groups[own] for layer, own in self.read.items()},
            rounded=[(item, tensor, groups[own]) for item, tensor, own in self.rounded],
            results=[(name, groups[own]) for name, own in self.results],
        )


def _passes(layer: Any, read: Any, result: Any) -> bool:
    """Return whether a positive factor per channel comes out of a layer as it went in."""
    if isinstance(layer, Range):
        # An end of a window that is not 0 would have to move with every channel.
        ends = (layer.window.low, layer.window.high)
        return layer.cap is None and not layer.fixed and not layer.window.softmax and not any(ends)
    if isinstance(layer, flat_layers.Reduce):
        return len(read.shape) - 1 not in [axis % len(read.shape) for axis in layer.axes]
    if isinstance(layer, flat_layers.Pad):
        return bool(layer.mode == "CONSTANT" and layer.value == 0 and read.shape[-1] == result.shape[-1])
    return isinstance(layer, PASSING) or is_relu(layer, without_end=True)


def _moved(layer: Any, shape: Any, channels: np.ndarray) -> np.ndarray | None:
    """Where the channels are behind a layer that moves values; None: a channel of the result has values of several.

    Args:
        shape: of what the layer reads, without the batch.
    """
    if not len(shape) or None in shape or shape[-1] != len(channels):
        return None
    # float32 holds these numbers: a tensor has fewer than 2**24 channels.
    places = layer(tf.broadcast_to(tf.range(len(channels), dtype=tf.float32), (1, *shape))).numpy()
    if places.ndim < 2:  # one number for each example
        return None
    places = places.reshape(-1, places.shape[-1]).astype(int)
    return channels[places[0]] if (places == places[0]).all() else None
