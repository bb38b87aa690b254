"""Models that are refused whole: of no Keras, not built, or already in the hands of another tool."""

from __future__ import annotations

from typing import Any

import tf_keras

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import is_graph, layers_of
from edgeship.quantize.lowering.kinds import describe

# Classes of tensorflow_model_optimization -> what its user should give instead.
WRAPPERS = {
    "PruneLowMagnitude": (
        "a pruning wrapper of tfmot; give the model without it: tfmot.sparsity.keras.strip_pruning(model)"
    ),
    "ClusterWeights": (
        "a clustering wrapper of tfmot; give the model without it: tfmot.clustering.keras.strip_clustering(model)"
    ),
    **dict.fromkeys(("QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer", "QuantizeAnnotate"), (
        "made by tfmot's quantization; give the float model as it was before, edgeship does the quantization-aware "
        'training itself (quantize.schemes = ["int8-qat"])'
    )),
}


def require_built_keras2(model: Any) -> None:
    """Raise LoweringError for what is no Keras-2 model, or one whose input shapes are not known."""
    if not isinstance(model, tf_keras.Model):
        raise LoweringError(
            f"expected a model of tf_keras or keras, found {type(model).__module__}.{type(model).__name__}"
        )
    if is_graph(model):
        return
    if not model.built or model.save_spec() is None:
        raise LoweringError(
            f"{model.name!r} ({type(model).__name__}): the model is not built, so its input shapes are not known; "
            "start a Sequential with layers.Input(...), and call any other model once on a batch"
        )


def require_no_wrappers(model: tf_keras.Model) -> None:
    """Raise LoweringError for layers that tfmot has wrapped."""
    for layer in layers_of(model):
        if type(layer).__module__.split(".")[0] == "tensorflow_model_optimization":
            what = WRAPPERS.get(type(layer).__name__, "a layer of tfmot; give the model as it was before")
            raise LoweringError(f"{describe(layer)}: {what}")
