"""A convolution over blocks of columns: how its kernel is made of the plain one, and the plain one read back.

    picture (rows, columns, channels)  =  (rows, columns / block, block x channels)     the same bytes
    output  (rows, columns, outputs)   =  (rows, columns / per block, per block x outputs)

`edgeship.export.onnx_passes.columns_as_channels` writes such convolutions and says why.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeship.graph.kinds import CLIPS
from edgeship.graph.records import BROKEN_CONTENT, Graph, Operation, Tensor

COLUMNS = "/columns"  # what the name of a picture in blocks of columns ends in
# From it to the plain convolution's result, but for a Relu or Clip.
AROUND = ("Transpose", "DequantizeLinear", "Conv", "QuantizeLinear", "Transpose", "Reshape", "Transpose")


@dataclass(frozen=True, kw_only=True)
class Fold:
    """How columns become channels. `left`: zeros in front of the first column; `width`: of the plain kernel."""

    block: int  # columns that become one
    stride: int
    left: int
    width: int

    @property
    def per_block(self) -> int:
        """How many outputs of the plain convolution one output over blocks holds."""
        return self.block // self.stride

    @property
    def first_block(self) -> int:
        """The first block that an output reads, counted from its own: 0 or negative."""
        return -self.left // self.block

    @property
    def last_block(self) -> int:
        """The last one, counted from its own."""
        return ((self.per_block - 1) * self.stride - self.left + self.width - 1) // self.block

    @property
    def blocks(self) -> int:
        """How many blocks an output reads: the columns of its kernel."""
        return self.last_block - self.first_block + 1


def folded_kernel(kernel: np.ndarray, fold: Fold) -> np.ndarray:
    """Return the kernel over blocks: (per block x outputs, block x channels, rows, blocks).

    Args:
        kernel: the plain one, (outputs, channels, rows, width).
    """
    outputs, channels, rows, width = kernel.shape
    places = fold.blocks * fold.block
    found = np.zeros((fold.per_block, outputs, channels, rows, places), kernel.dtype)
    for number in range(fold.per_block):
        start = number * fold.stride - fold.left - fold.first_block * fold.block
        found[number, ..., start : start + width] = kernel
    by_block = found.reshape(*found.shape[:-1], fold.blocks, fold.block)
    return by_block.transpose(0, 1, 5, 2, 3, 4).reshape(
        fold.per_block * outputs, fold.block * channels, rows, fold.blocks
    )


def plain_kernel(folded: np.ndarray, *, outputs: int, channels: int, stride: int) -> tuple[np.ndarray, int] | None:
    """Return the plain kernel and its first column's place in the blocks; None where it is no such kernel.

    Every copy must be the same, at its place, with zeros everywhere else. A plain kernel's first and last column are
    not all zeros, or else they are lost here.
    """
    per_block, block = len(folded) // outputs, folded.shape[1] // channels
    blocks, rows = folded.shape[3], folded.shape[2]
    if per_block * outputs != len(folded) or block * channels != folded.shape[1] or block != per_block * stride:
        return None
    lines = folded.reshape(per_block, outputs, block, channels, rows, blocks).transpose(0, 1, 3, 4, 5, 2)
    lines = lines.reshape(per_block, outputs, channels, rows, blocks * block)
    used = np.flatnonzero(lines[0].any(axis=(0, 1, 2)))
    if used.size == 0:
        return None
    first, width = int(used[0]), int(used[-1] - used[0]) + 1
    plain = lines[0][..., first : first + width]
    for number, line in enumerate(lines):
        start = first + number * stride
        rest = np.delete(line, np.s_[start : start + width], axis=-1)
        if not np.array_equal(line[..., start : start + width], plain) or rest.any():
            return None
    return plain, first


def with_plain_columns(graph: Graph) -> Graph:
    """Return an ONNX file's graph with the convolution that it had before, in place of each one over blocks.

    A convolution whose kernel is not that of a plain one stays as it is.
    """
    if graph.format != "onnx":
        return graph
    for move in [item for item in graph.operations if item.kind == "Reshape" and item.outputs[0].endswith(COLUMNS)]:
        try:
            found = _replaced(graph, move)
        except BROKEN_CONTENT:  # it only looks like one of ours
            continue
        if found is not None:
            graph = found
    return graph


def _replaced(graph: Graph, into: Operation) -> Graph | None:
    """Return the graph without one convolution over blocks; None where what stands around it is something else."""
    chain = _chain(graph, into.outputs[0])
    if chain is None:
        return None
    _, _, convolution, quantize, last, out_of, back = chain
    picture, blocks, result = (
        graph.tensors[into.inputs[0]].shape, graph.tensors[into.inputs[1]].data, graph.tensors[out_of.inputs[1]].data
    )
    kernel = _constant(graph, convolution.inputs[1])
    if picture is None or kernel is None or kernel.ndim != 4 or any(
        numbers is None or numbers.size != 4 for numbers in (blocks, result)
    ):
        return None
    assert blocks is not None and result is not None
    (columns, channels), (places, outputs) = picture[-2:], result.tolist()[2:]
    if not columns or not channels or places < 1 or outputs < 1:
        return None
    stride = columns // places
    found = plain_kernel(kernel, outputs=outputs, channels=channels, stride=stride)
    if found is None:
        return None
    plain, start = found
    constants = _constants(graph, convolution, plain)
    if constants is None:
        return None
    top, blocks_before, bottom, _ = convolution.attributes.get("pads", (0, 0, 0, 0))
    left = blocks_before * (kernel.shape[1] // channels) - start
    changed = dataclasses.replace(convolution, attributes={
        **convolution.attributes, "kernel_shape": plain.shape[2:],
        "strides": (convolution.attributes.get("strides", (1, 1))[0], stride),
        "pads": (top, left, bottom, (places - 1) * stride + plain.shape[3] - columns - left),
    })
    new = {
        id(convolution): changed, id(quantize): dataclasses.replace(quantize, outputs=back.outputs),
    }
    gone = {id(item) for item in (last, out_of, back)}
    shape = graph.tensors[into.inputs[1]]
    constants[shape.name] = dataclasses.replace(shape, data=np.array([*blocks[:2], columns, channels]))
    return dataclasses.replace(
        graph, tensors={**graph.tensors, **constants},
        operations=tuple(new.get(id(item), item) for item in graph.operations if id(item) not in gone),
    )


def _chain(graph: Graph, name: str) -> list[Operation] | None:
    """The operations behind a tensor, each the one reader of what is before it, as they are AROUND a convolution."""
    found: list[Operation] = []
    for kind in AROUND:
        reader = _reader(graph, name)
        if kind == "QuantizeLinear" and reader is not None and reader.kind in CLIPS:
            reader = _reader(graph, reader.outputs[0])
        if reader is None or reader.kind != kind or not reader.outputs:
            return None
        found.append(reader)
        name = reader.outputs[0]
    return found


def _reader(graph: Graph, name: str) -> Operation | None:
    readers = graph.consumers.get(name, ())
    return readers[0] if len(readers) == 1 else None


def _constant(graph: Graph, name: str) -> np.ndarray | None:
    maker = graph.producers.get(name)
    return None if maker is None or maker.kind != "DequantizeLinear" else graph.tensors[maker.inputs[0]].data


def _constants(graph: Graph, convolution: Operation, plain: np.ndarray) -> dict[str, Tensor] | None:
    """The kernel, the bias, their scales and zero points without the copies; None where copies differ."""
    found: dict[str, Tensor] = {}
    for name in convolution.inputs[1:]:
        maker = graph.producers.get(name)
        for item in () if maker is None else maker.inputs:
            tensor = graph.tensors[item]
            changes: dict[str, Any] = {
                field: _once(values, len(plain)) for field in ("scales", "zero_points")
                if (values := getattr(tensor, field)) is not None and values.size > 1
            }
            if tensor.data is not None and tensor.data.ndim:
                changes["data"] = plain if tensor.data.ndim == 4 else _once(tensor.data, len(plain))
            if any(values is None for values in changes.values()):
                return None
            shape = changes["data"].shape if "data" in changes else tensor.shape
            found[item] = dataclasses.replace(tensor, shape=shape, **changes)
    return found


def _once(values: np.ndarray, outputs: int) -> np.ndarray | None:
    """One of the copies of as many numbers as there are outputs; None where they are not the same."""
    copies = values.reshape(-1, outputs) if values.size % outputs == 0 else None
    return copies[0] if copies is not None and np.all(copies == copies[:1]) else None
