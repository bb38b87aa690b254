"""Why a layer has no integer form, and which layers have none in float either that both formats hold."""

from __future__ import annotations

from typing import Any

from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import arguments_of, read_by
from edgeship.quantize.lowering.kinds import describe
from edgeship.quantize.lowering.layer_copies import RECURRENT, UNROLLED_STEPS
from edgeship.quantize.lowering.operator_arguments import as_slice
from edgeship.quantize.lowering.operators import is_operator, operation_of, unversioned_operation_of

NEITHER = "neither LiteRT nor ONNX Runtime has an integer kernel for it"
LITERT_ALONE = "LiteRT has an integer kernel for it, ONNX Runtime has none"
# What `grids.describe` calls a layer -> which runtime has what (LiteRT 2.3, ONNX Runtime 1.32).
REASONS = {
    **dict.fromkeys((
        "activation gelu", "ErfGelu", "activation elu", "activation exponential", "ELU", "tf.math.exp", "tf.math.rsqrt",
        "tf.math.squared_difference", "tf.math.log", "tf.math.l2_normalize", "UnitNormalization",
    ), LITERT_ALONE),
    **dict.fromkeys((
        "LayerNormalization", "GroupNormalization", "activation selu", "activation softplus", "activation softsign",
        "tf.math.softplus", "tf.math.sqrt",
    ), NEITHER),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "Bidirectional"), (
        "both runtimes have float kernels for it, and integer ones for LSTM alone, in different arithmetic"
    )),
    **dict.fromkeys(("UpSampling2D", "Resizing"), (
        "both runtimes have integer kernels for nearest and bilinear interpolation of a whole image alone"
    )),
    "MultiHeadAttention": (
        "without a mask it is products and a softmax, which both runtimes have; a mask adds -1e9, which no grid of 8 "
        "bits holds beside other numbers"
    ),
    "Attention": 'with score_mode="dot", no mask and no dropout it is products and a softmax, which both runtimes have',
    "Dot": "for the lengths that normalize=True divides by LiteRT has an integer kernel, ONNX Runtime has none",
    "PReLU": "its slopes are not known for an image of open size",
    **dict.fromkeys(("Conv3D", "Conv3DTranspose", "MaxPooling3D", "AveragePooling3D"), (
        "LiteRT has kernels for it in float alone"
    )),
}
# Operators that take values from places, or put them there.
OF_PLACES = ("gather", "gather_nd", "batch_gather", "roll", "repeat", "reverse", "tile", "boolean_mask")
# Functions that TFLite has no operation for in float either (TensorFlow 2.21).
NOT_IN_TFLITE = frozenset(f"math.{name}" for name in (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i0", "cosh", "cumprod", "digamma", "erf", "erfc",
    "erfinv", "ndtri", "sinh", "tan",
))
OTHERS = "edgeship knows no integer form of it that LiteRT and ONNX Runtime both compute"


def reason_of(layer: Any, described: str) -> str:
    """Why integers cannot compute a layer: what the runtimes have."""
    return REASONS.get(described, OTHERS)


def require_float_form(node: Any) -> None:
    """Raise LoweringError for a layer that cannot be kept in float either.

    It is a recurrent one of too many steps, moves values to places that the network computes, takes examples out of the
    batch, or is an operator that TFLite lacks.
    """
    layer = node.layer
    if is_operator(layer):
        _require_operation(layer)
        _require_constant_places(node)
        _require_whole_batch(node)
        return
    inner = layer.forward_layer if isinstance(layer, layers.Bidirectional) else layer
    if not isinstance(inner, RECURRENT) or inner.unroll:
        return
    steps = read_by(node)[0].shape[1]
    found = "an open number" if steps is None else f"{steps:,}"
    raise LoweringError(
        f"{describe(layer)}: expected at most {UNROLLED_STEPS} steps, found {found}. Integers cannot compute it, and "
        "in float it is written out step by step, since tf2onnx cannot read TFLite's recurrent operation; give it "
        "fewer steps, or use convolutions"
    )


def _require_operation(layer: Any) -> None:
    operation = unversioned_operation_of(layer)
    if operation in NOT_IN_TFLITE:
        in_gelu = " (a GELU has one: x * 0.5 * (1 + erf(x / sqrt(2))))" if operation == "math.erf" else ""
        raise LoweringError(
            f"{layer.name} (tf.{operation}): TFLite has no operation for it, in integers or in float, so no file can "
            f"hold it; use another function{in_gelu}"
        )


def _require_constant_places(node: Any) -> None:
    operation = unversioned_operation_of(node.layer)
    if operation in OF_PLACES and any(not tensor.dtype.is_floating for tensor in read_by(node)):
        raise LoweringError(
            f"{node.layer.name} (tf.{operation}): expected constant places, found some that the network computes from "
            "its input. Integers cannot compute it, and kept in float it reads whole numbers, which integer files have "
            "no form for; give it a constant, or use another operation"
        )


def _require_whole_batch(node: Any) -> None:
    # One number is no example: it is on its way to an operator that reads it, and has a sentence of its own.
    if not operation_of(node.layer).endswith("getitem") or node.outputs.shape.rank == 0:
        return
    args, kwargs = arguments_of(node)
    items = kwargs.get("slice_spec", args[1] if len(args) > 1 else slice(None))
    first = as_slice(items[0] if isinstance(items, tuple | list) and items else items)
    ends = (first.start, first.stop, first.step) if isinstance(first, slice) else (first,)
    if any(end is not None and end is not Ellipsis for end in ends):
        raise LoweringError(
            f"{node.layer.name} (tf.Tensor[...]): it takes examples out of the batch, and on a device a batch is one "
            "example; take parts of another axis"
        )
