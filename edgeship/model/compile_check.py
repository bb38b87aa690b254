"""`compile` and `save` of a quantized tf_keras model, with one sentence for what they cannot take or do."""

from __future__ import annotations

from typing import Any

import tf_keras

from edgeship.core.errors import ModelError

ADVICE = {
    "optimizers": 'its name ("adam") or an optimizer of tf_keras: tf_keras.optimizers.Adam(1e-3)',
    "losses": 'its name ("mse") or a loss of tf_keras: tf_keras.losses.MeanSquaredError()',
    "metrics": 'its name ("accuracy") or a metric of tf_keras: tf_keras.metrics.MeanAbsoluteError()',
}


def refuse_keras3_arguments(model: tf_keras.Model) -> None:
    """Let `model.compile` raise a ModelError for objects of Keras 3, which tf_keras cannot use."""
    compile_model = model.compile

    def checked(*args: Any, **kwargs: Any) -> None:
        for name, value in _objects((args, kwargs)):
            room = next((room for room in ADVICE if f".{room}." in f"{name}."), None)
            advice = ADVICE.get(room or "", "the same of tf_keras, or a function")
            raise ModelError(
                f"compile: {type(value).__name__} is of Keras 3 ({name}), and this is a tf_keras model; write {advice}"
            )
        compile_model(*args, **kwargs)

    model.compile = checked


def refuse_saving_whole(model: tf_keras.Model) -> None:
    """Let `model.save` raise a ModelError: its rounding layers cannot be built from a file, its weights can be kept."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ModelError(
            f"save: {model.name} rounds to integers, and a file of it could not be loaded again; keep its weights "
            "(save_weights, ModelCheckpoint(save_weights_only=True)), load them into `.keras` of the same "
            "quantize_model(...) call to go on, and export what devices run"
        )

    model.save = refuse


def _objects(value: Any) -> list[tuple[str, Any]]:
    """All objects of Keras 3 in the arguments of a call, with the module that defines each."""
    if isinstance(value, dict):
        return [found for item in value.values() for found in _objects(item)]
    if isinstance(value, list | tuple):
        return [found for item in value for found in _objects(item)]
    module = type(value).__module__
    return [(module, value)] if module.split(".")[0] == "keras" else []
