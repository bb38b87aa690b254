"""Fresh layers of Keras' own classes: copies of such layers, and stand-ins for what other layers inherit from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import CONVOLUTION, own_variables, was_called
from edgeship.quantize.lowering.kinds import describe, inherited_class, plain_class
from edgeship.quantize.lowering.plain_config import plain_config
from edgeship.quantize.simplifying.precision import in_float32

# A recurrent layer is unrolled, one copy of its cell a step, up to this many: the TFLite converter makes one operation
# of a rolled one, which tf2onnx (1.17) cannot read. More steps would make files of thousands of operations.
UNROLLED_STEPS = 128
RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN)


def copy_of(layer: Any, *, name: str, linear: bool, kind: Any = None) -> Any:
    """A fresh float32 layer of Keras' own class with the same configuration; the weights come once it is built."""
    kind = kind or plain_class(layer)
    config = {**in_float32(plain_config(layer, kind)), "name": name}
    # The weights are set afterwards: drawing random ones would only cost time.
    config |= {key: "zeros" for key in config if key.endswith("_initializer")}
    if linear:
        config["activation"] = "linear"
    if isinstance(layer, layers.Normalization):
        # Its statistics as constants: as weights they would count only after a call to finalize_state().
        config |= {key: np.asarray(getattr(layer, key)).reshape(-1).tolist() for key in ("mean", "variance")}
    _unroll(layer, config)
    try:
        return kind.from_config(config)
    except Exception as error:
        raise LoweringError(
            f"{describe(layer)}: it could not be built again from its own configuration ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}); "
            "use functions of Keras' own in it, or write a layer with a call() of its own"
        ) from error


def _unroll(layer: Any, config: dict[str, Any]) -> None:
    """Have a recurrent layer of known and not too many steps unrolled."""
    if not isinstance(layer, (*RECURRENT, layers.Bidirectional)) or not was_called(layer):
        return
    first = tf.nest.flatten(layer.get_input_at(0))[0]
    steps = first.shape[0 if getattr(layer, "time_major", False) else 1]
    if steps is None or steps > UNROLLED_STEPS:
        return
    inner = [config[key]["config"] for key in ("layer", "backward_layer") if config.get(key)]
    for part in inner if isinstance(layer, layers.Bidirectional) else [config]:
        if "unroll" in part:
            part["unroll"] = True


def own_weights(layer: Any) -> list[Any]:
    """A layer's weights without those of an activation that is a layer itself (`activation=PReLU()`)."""
    activation = getattr(layer, "activation", None)
    others = {id(weight) for weight in activation.weights} if isinstance(activation, layers.Layer) else set()
    return [weight for weight in layer.weights if id(weight) not in others]


def foreign_activation(layer: Any) -> Any:
    """An activation that is not one of Keras' functions, on a layer that applies it last; None otherwise."""
    if not isinstance(layer, CONVOLUTION | layers.Dense | layers.EinsumDense | layers.Activation):
        return None
    function = layer.activation
    own = {id(getattr(tf_keras.activations, name)) for name in dir(tf_keras.activations)}
    return None if function is None or id(function) in own else function


class StandIn:
    """A layer of Keras' own class that does what a subclass gets from it by `super().call()`, on its very variables."""

    def __init__(self, layer: Any, kind: Any) -> None:
        self._subclass, self._kind = layer, kind
        function = foreign_activation(layer)
        self.layer = copy_of(layer, name=layer.name, linear=function is not None, kind=kind)
        self.layer.trainable = layer.trainable
        if function is not None:
            self.layer.activation = function

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the subclass's `super().call()` call the stand-in, which makes a node of the graph, while this lasts."""
        kind, own = self._kind, vars(self._kind).get("call")
        original = kind.call

        def call(this: Any, *args: Any, **kwargs: Any) -> Any:
            return self(*args, **kwargs) if this is self._subclass else original(this, *args, **kwargs)

        kind.call = call
        try:
            yield
        finally:
            if own is None:
                del kind.call
            else:
                kind.call = own

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        fresh = not self.layer.built
        outputs = self.layer(*args, **kwargs)
        if fresh:
            self._take_over_variables()
        return outputs

    def _take_over_variables(self) -> None:
        theirs = {
            id(value): getattr(self._subclass, name)
            for name, value in vars(self.layer).items() if isinstance(value, tf.Variable)
        }
        for name, value in list(vars(self.layer).items()):
            if isinstance(value, tf.Variable):
                vars(self.layer)[name] = theirs[id(value)]
        for held in own_variables(self.layer):
            held[:] = [theirs[id(variable)] for variable in held]


def stand_in_for(layer: Any) -> StandIn | None:
    """A stand-in where a composite inherits from a layer of Keras'; None for any other."""
    kind = inherited_class(layer)
    return None if kind is None else StandIn(layer, kind)
