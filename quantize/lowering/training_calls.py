"""Layers that were called with `training=True`: they compute in inference what other layers compute in training."""

from __future__ import annotations

from typing import Any

from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import is_tensor, takes_training, with_training
from edgeship.quantize.lowering.kinds import describe

# How much of a layer is random in training; at 0 the layer does the same in inference.
RATES = ("rate", "stddev", "dropout", "recurrent_dropout", "_dropout")
BATCH_STATISTICS = (
    "it normalizes each batch by the batch's own mean and variance, and on a device the batch is one image. Call it "
    "without training=True and train again (inference then uses the moving statistics), or use GroupNormalization, "
    "kept in float"
)
RANDOM = (
    "in inference too it computes what other layers compute in training alone, and integer files have inference only. "
    "Call it without training=True"
)


def in_inference(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], training: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments with the `training` that it runs with in inference.

    Args:
        layer: one of Keras' own layers.
        training: what the call gave, or else what the composite around the layer was called with.

    Raises:
        LoweringError: the layer computes something else with `training=True`, which it was called with.
    """
    if not takes_training(layer):
        return args, {key: value for key, value in kwargs.items() if key != "training"}
    if is_tensor(training):
        raise LoweringError(f"{describe(layer)}: its `training` is a tensor; expected True, False or None")
    if training and _is_other_in_training(layer):
        why = BATCH_STATISTICS if _is_batch_norm(layer) else RANDOM
        raise LoweringError(f"{describe(layer)}: it is called with training=True: {why}")
    return with_training(layer, args, kwargs, None if training or training is None else False)


def _is_batch_norm(layer: Any) -> bool:
    return isinstance(layer, layers.BatchNormalization | layers.experimental.SyncBatchNormalization)


def _is_other_in_training(layer: Any) -> bool:
    if _is_batch_norm(layer):
        return bool(layer.trainable)  # Keras 2 runs a frozen one in inference mode, whatever it is called with
    part = getattr(layer, "forward_layer", layer)  # of a Bidirectional
    rates = [getattr(part, name, None) for name in RATES]
    known = [rate for rate in rates if isinstance(rate, int | float)]
    return any(known) if known else True
