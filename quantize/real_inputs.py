"""Which inputs a network of integers can have: real numbers, which a grid rounds."""

from __future__ import annotations

import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import maker_of
from edgeship.quantize.lowering.kinds import describe
from edgeship.quantize.simplifying.rebuild import readers_of


def require_real_inputs(model: tf_keras.Model) -> None:
    """Raise LoweringError for an input of a lowered model that is not of real numbers: tokens, integer pixels."""
    readers = readers_of(model)
    for tensor in model.inputs:
        if tensor.dtype.is_floating:
            continue
        found = f"{model.name}: the input {maker_of(tensor).name!r} is {tensor.dtype.name}"
        tables = [
            node.layer for node in readers.get(id(tensor), [])
            if node is not None and isinstance(node.layer, layers.Embedding)
        ]
        if tables:
            raise LoweringError(
                f"{found} and goes into {describe(tables[0])}; expected real numbers (float32), since edgeship writes "
                "no integer tables: give the network behind the table, tf_keras.Model(embedding.output, "
                "model.outputs), and look its rows up before it"
            )
        raise LoweringError(
            f"{found}; expected real numbers (float32): build the model with layers.Input(shape, "
            'dtype="float32"), which takes whole numbers too'
        )
