"""Models that are refused whole: of no Keras, not built, or already in the hands of another tool."""

from __future__ import annotations

from typing import Any

import tf_keras

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import is_graph, layers_of
from edgeship.model.keras3.recognize import require_one_keras
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
    """Raise LoweringError for what is no Keras-2 model, with layers of Keras 3 in it, or of unknown input shapes."""
    if not isinstance(model, tf_keras.Model):
        raise LoweringError(f"expected a model of tf_keras or keras, {_found(model)}")
    require_one_keras(layers_of(model))
    if is_graph(model):
        return
    if not model.built or model.save_spec() is None:
        raise LoweringError(
            f"{model.name!r} ({type(model).__name__}): the model is not built, so its input shapes are not known; "
            "start a Sequential with layers.Input(...), and call any other model once on a batch"
        )


def _found(given: Any) -> str:
    """What was given in the place of a model, and what to give."""
    kind = f"{type(given).__module__}.{type(given).__name__}"
    if isinstance(given, type):
        return f"found the class {given.__name__}; make a model of it and call the model once on a batch"
    if callable(given) and hasattr(given, "__name__"):
        return f"found the function {given.__name__}; give the model that the function returns"
    if hasattr(given, "get_config"):
        return f"found {kind}; put a layer into a model: keras.Sequential([keras.Input(shape), layer])"
    return f"found {kind}"


def require_no_wrappers(model: tf_keras.Model) -> None:
    """Raise LoweringError for layers that tfmot has wrapped."""
    for layer in layers_of(model):
        if type(layer).__module__.split(".")[0] == "tensorflow_model_optimization":
            what = WRAPPERS.get(type(layer).__name__, "a layer of tfmot; give the model as it was before")
            raise LoweringError(f"{describe(layer)}: {what}")
