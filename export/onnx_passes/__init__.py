"""Rewrites of the ONNX graph, in the order they run. Each says what it requires and checks what it ensures."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from edgeship.export.onnx_passes.canonical import canonical
from edgeship.export.onnx_passes.channels_first_scaling import channels_first_scaling
from edgeship.export.onnx_passes.columns_as_channels import columns_as_channels
from edgeship.export.onnx_passes.fold_pad import fold_pad
from edgeship.export.onnx_passes.integer_bias import integer_bias
from edgeship.export.onnx_passes.integer_clip import integer_clip
from edgeship.export.onnx_passes.integer_moves import integer_moves
from edgeship.export.onnx_passes.integer_pad import integer_pad
from edgeship.export.onnx_passes.mean_as_pool import mean_as_pool
from edgeship.export.onnx_passes.one_product import one_product
from edgeship.export.onnx_passes.own_products import own_products
from edgeship.export.onnx_passes.requantize import requantize
from edgeship.export.onnx_passes.resized_codes import resized_codes
from edgeship.export.onnx_passes.standard_resize import standard_resize
from edgeship.export.onnx_passes.tanh_codes import tanh_codes
from edgeship.export.onnx_passes.unshare import unshare
from edgeship.export.onnx_passes.unsigned import unsigned_activations, unsigned_weights
from edgeship.export.onnx_passes.written_gelu import written_gelu

Pass = Callable[[onnx.ModelProto], None]

BOTH: tuple[Pass, ...] = (written_gelu, one_product, fold_pad, channels_first_scaling, standard_resize)
FLOAT_PASSES: tuple[Pass, ...] = (*BOTH, unshare, canonical)
INTEGER_PASSES: tuple[Pass, ...] = (*BOTH, mean_as_pool, unshare, integer_bias, own_products)
# They put the zero points as they are into the graph, so they come after those are final.
ON_INTEGERS: tuple[Pass, ...] = (
    integer_pad, integer_moves, integer_clip, requantize, resized_codes, tanh_codes
)
VARIANTS: dict[str | None, tuple[Pass, ...]] = {
    None: FLOAT_PASSES,
    "u8u8": (*INTEGER_PASSES, unsigned_activations, unsigned_weights, *ON_INTEGERS, canonical),
    "u8s8": (*INTEGER_PASSES, unsigned_activations, *ON_INTEGERS, columns_as_channels, canonical),
    "s8s8": (*INTEGER_PASSES, *ON_INTEGERS, canonical),
}


def run_passes(model: onnx.ModelProto, *, variant: str | None) -> onnx.ModelProto:
    """Run the passes of one variant on a copy. Raises ExportError where a pass finds its promise broken."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for run in VARIANTS[variant]:
        run(result)
    return result
