"""The first convolution of a U8S8 file over blocks of columns, each of them one column of more channels.

ONNX Runtime's fastest integer convolution (MlasConvSym) wants input channels in multiples of 4. Pictures have 1 or 3,
so their first convolution goes through a copied matrix instead: of full-width ResNet-34 at 224x224x3 it takes an eighth
of the time for a thirtieth of the products. In memory (rows, columns, channels) is (rows, columns / 4, 4 x channels)
too. The convolution over that reads blocks of 4 columns and computes the outputs of a block as so many times the
channels; its kernel holds a copy of the old one for each of them, moved, with zeros elsewhere. Zeros add nothing, so
every sum is the same integer; the products are up to MOST_WORK times as many. Figures: benchmarks/README.md, "The first
convolution".

`edgeship.graph.columns` reads the plain convolution back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgeship.export.onnx_passes.editing import (
    add_initializer,
    array,
    attribute,
    consumers,
    initializers,
    producers,
    replace_array,
    set_ints,
    set_nodes,
    text_attribute,
)
from edgeship.graph.columns import COLUMNS, Fold, folded_kernel
from edgeship.graph.saturation import is_pair_safe, reduction_rows

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
CHANNELS = (1, 2, 3)  # pictures and sequences; what was measured
BLOCKS = (2, 4)
# What MlasConvSym wants: input channels in multiples of 4, 16 output channels, in multiples of 8 with AVX-VNNI.
ALIGNED, OUTPUTS_ALIGNED, FEWEST_OUTPUTS = 4, 8, 16
MOST_WORK = 4.0  # products over those of the plain convolution; a 3x3 of stride 1 over 3 channels still gains 13 %


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stem:
    """A convolution right behind an input of the file, and what stands around it."""

    picture: str
    shape: tuple[int, ...]  # NHWC
    move: onnx.NodeProto  # of the picture to NCHW
    convolution: onnx.NodeProto
    constants: tuple[onnx.NodeProto, ...]  # the DequantizeLinear of the kernel, and that of the bias if there is one
    kernel: np.ndarray  # (outputs, channels, rows, columns)
    quantize: onnx.NodeProto

    @property
    def strides(self) -> list[int]:
        """Of rows and columns."""
        return attribute(self.convolution, "strides") or [1, 1]

    @property
    def dilations(self) -> list[int]:
        """Of rows and columns."""
        return attribute(self.convolution, "dilations") or [1, 1]

    @property
    def pads(self) -> list[int]:
        """Top, left, bottom, right."""
        return attribute(self.convolution, "pads") or [0, 0, 0, 0]

    @property
    def output_rows(self) -> int:
        """How many rows the result has."""
        top, _, bottom, _ = self.pads
        span = (self.kernel.shape[2] - 1) * self.dilations[0] + 1
        return int((self.shape[1] + top + bottom - span) // self.strides[0] + 1)


def columns_as_channels(model: onnx.ModelProto) -> None:
    """Rewrite each convolution of 1 to 3 channels that reads an input of the file, where its sizes allow it.

    Requires: int8 weights, and constants that nothing else reads. Ensures: the same integers in every tensor that had a
    name; a kernel whose pairs could not saturate still cannot.
    """
    for value in model.graph.input:
        stem = _stem(model, value)
        fold = None if stem is None else _fold(stem)
        if stem is not None and fold is not None:
            _rewrite(model, stem, fold)


def _stem(model: onnx.ModelProto, value: onnx.ValueInfoProto) -> _Stem | None:
    """Return the convolution behind an input of the file; None where something else is there."""
    readers, made_by, constants = consumers(model), producers(model), initializers(model)
    shape = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    if len(shape) == 3:  # a sequence is one row
        shape = (shape[0], 1, *shape[1:])
    if value.type.tensor_type.elem_type != onnx.TensorProto.UINT8 or len(shape) != 4 or shape[-1] not in CHANNELS:
        return None
    chain = _single(readers, value.name, [("Transpose", "Reshape"), ("DequantizeLinear",), ("Conv",)])
    if chain is None or not _to_channels_first(chain[0], shape, constants):
        return None
    move, _, convolution = chain
    quantize = _quantizing(readers, convolution)
    made = tuple(made_by[name] for name in convolution.input[1:] if name in made_by)
    if quantize is None or not made or not all(_is_own(item, readers, constants) for item in made):
        return None
    return _Stem(
        picture=value.name, shape=shape, move=move, convolution=convolution, constants=made,
        kernel=array(constants[made[0].input[0]]), quantize=quantize,
    )


def _single(
    readers: dict[str, list[onnx.NodeProto]], tensor: str, kinds: list[tuple[str, ...]]
) -> list[onnx.NodeProto] | None:
    """Return the nodes behind a tensor, each the only reader of what is before it and of the kind asked for."""
    found: list[onnx.NodeProto] = []
    for wanted in kinds:
        nodes = readers.get(tensor, [])
        if len(nodes) != 1 or nodes[0].op_type not in wanted or nodes[0].input[0] != tensor:
            return None
        found.append(nodes[0])
        tensor = nodes[0].output[0]
    return found


def _to_channels_first(
    move: onnx.NodeProto, shape: tuple[int, ...], constants: dict[str, onnx.TensorProto]
) -> bool:
    """Whether a move makes NCHW of NHWC; of one channel a Reshape does too."""
    if move.op_type == "Transpose":
        return attribute(move, "perm") == TO_CHANNELS_FIRST
    batch, rows, columns, channels = shape
    target = constants.get(move.input[1])
    return channels == 1 and target is not None and array(target).tolist() in (
        [batch, 1, rows, columns], [-1, 1, rows, columns],
    )


def _quantizing(readers: dict[str, list[onnx.NodeProto]], convolution: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the QuantizeLinear of the convolution's result, behind a Relu or Clip."""
    end: list[tuple[str, ...]] = [("QuantizeLinear",)]
    found = _single(readers, convolution.output[0], end) or _single(
        readers, convolution.output[0], [("Relu", "Clip"), *end]
    )
    return None if found is None else found[-1]


def _is_own(
    dequantize: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]], constants: dict[str, onnx.TensorProto]
) -> bool:
    """Whether a constant and its scales are read by this one node, which one node reads."""
    return (
        dequantize.op_type == "DequantizeLinear" and len(readers[dequantize.output[0]]) == 1
        and all(name in constants and len(readers[name]) == 1 for name in dequantize.input)
    )


def _fold(stem: _Stem) -> Fold | None:
    """Return how columns become channels; None where they do not fall into whole blocks, or nothing is gained."""
    kernel, stride, pads = stem.kernel, stem.strides[1], stem.pads
    is_plain = (
        kernel.dtype == np.int8 and kernel.ndim == 4 and kernel.shape[1] == stem.shape[3]
        and text_attribute(stem.convolution, "auto_pad", "NOTSET") in ("", "NOTSET")
        and stem.dilations[1] == 1
    )
    block = next((item for item in BLOCKS if item * stem.shape[3] % ALIGNED == 0 and item % stride == 0), None)
    if not is_plain or block is None:
        return None
    columns = (stem.shape[2] + pads[1] + pads[3] - kernel.shape[3]) // stride + 1
    fold = Fold(block=block, stride=stride, left=pads[1], width=kernel.shape[3])
    whole_blocks = stem.shape[2] % block == 0 and columns * stride == stem.shape[2]
    return fold if whole_blocks and gains(kernel, fold) else None


def gains(kernel: np.ndarray, fold: Fold) -> bool:
    """Whether the fast kernel takes it, at little enough work, and what cannot saturate still cannot."""
    outputs = len(kernel) * fold.per_block
    if outputs < FEWEST_OUTPUTS or outputs % OUTPUTS_ALIGNED or fold.blocks * fold.block > MOST_WORK * fold.width:
        return False
    # A first or last column of zeros could not be told from what is not there when the kernel is read back.
    if not kernel[..., 0].any() or not kernel[..., -1].any():
        return False
    return is_pair_safe(reduction_rows(folded_kernel(kernel, fold))) or not is_pair_safe(reduction_rows(kernel))


def _rewrite(model: onnx.ModelProto, stem: _Stem, fold: Fold) -> None:
    batch, height, columns, channels = stem.shape
    outputs, _, rows, _ = stem.kernel.shape
    (top, _, bottom, _), output_rows, name = stem.pads, stem.output_rows, stem.quantize.output[0]
    _repeat_constants(stem, fold, initializers(model))
    set_ints(stem.convolution, "kernel_shape", [rows, fold.blocks])
    set_ints(stem.convolution, "strides", [stem.strides[0], 1])
    set_ints(stem.convolution, "pads", [top, -fold.first_block, bottom, fold.last_block])
    blocks, result = f"{name}{COLUMNS}", f"{name}/blocks"
    into = add_initializer(
        model, f"{blocks}/shape", np.array([batch, height, columns // fold.block, fold.block * channels], np.int64)
    )
    out_of = add_initializer(
        model, f"{result}/shape", np.array([batch, output_rows, columns // fold.stride, outputs], np.int64)
    )
    make = onnx.helper.make_node
    before = [
        make("Reshape", [stem.picture, into], [blocks], name=blocks),
        make("Transpose", [blocks], [stem.move.output[0]], name=stem.move.name, perm=TO_CHANNELS_FIRST),
    ]
    stem.quantize.output[0] = result
    behind = [
        make("Transpose", [result], [f"{result}/last"], name=f"{result}/last", perm=TO_CHANNELS_LAST),
        make("Reshape", [f"{result}/last", out_of], [f"{result}/wide"], name=f"{result}/wide"),
        make("Transpose", [f"{result}/wide"], [name], name=f"{result}/first", perm=TO_CHANNELS_FIRST),
    ]
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += before if node is stem.move else [node]
        nodes += behind if node is stem.quantize else []
    set_nodes(model, nodes)


def _repeat_constants(stem: _Stem, fold: Fold, constants: dict[str, onnx.TensorProto]) -> None:
    """Fold the kernel; repeat the bias, the scales and the zero points for each output of a block."""
    for dequantize in stem.constants:
        for name in dequantize.input:
            values = array(constants[name])
            if values.ndim == 4:
                replace_array(constants[name], folded_kernel(values, fold))
            elif values.ndim:
                replace_array(constants[name], np.tile(values, fold.per_block))
