"""What kind of thing a layer is: one of Keras' own, or a composite to be opened."""

from __future__ import annotations

import tf_keras
from tf_keras import layers

from edgeship.model.keras2 import arguments_of, calls_of, inner_layers
from edgeship.quantize.lowering.operators_products import is_of_matrix

# Composites of composites are opened one inside the other; deeper nesting than this is a cycle.
MAX_DEPTH = 64
OWN_LAYERS = "edgeship.model.flat_layers"
# tf_keras defines composite classes of its own beside its networks (ConvNeXt's LayerScale).
COMPOSITES_OF_KERAS = ("tf_keras.src.applications.",)
# Random in training, nothing in inference. (RandomCrop resizes in inference.)
AUGMENTATION = (
    layers.RandomBrightness, layers.RandomContrast, layers.RandomFlip, layers.RandomHeight, layers.RandomRotation,
    layers.RandomTranslation, layers.RandomWidth, layers.RandomZoom,
)
# Layers that treat every position alike: over the last axis, or each number by itself.
POSITION_WISE = (
    layers.Dense, layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax, layers.Dropout,
    layers.Rescaling,
)
# Layers around a layer that is computed by their own `call()`.
WRAPPERS = (layers.SpectralNormalization,)


def is_keras_class(kind: type) -> bool:
    """Whether a class is a layer that Keras (or `flat_layers`) defines."""
    module = kind.__module__
    return module == OWN_LAYERS or (module.startswith("tf_keras.") and not module.startswith(COMPOSITES_OF_KERAS))


def plain_class(layer: layers.Layer) -> type | None:
    """The class of Keras' whose layer this is: its own, or the one it inherits everything that computes from."""
    for kind in type(layer).__mro__:
        if is_keras_class(kind):
            return None if kind in (layers.Layer, layers.Lambda, *WRAPPERS) else kind
        if {"call", "build", "__call__", "convolution_op", "_jit_compiled_convolution_op"} & set(vars(kind)):
            return None
    return None


def inherited_class(layer: layers.Layer) -> type | None:
    """The class of Keras' that a composite inherits more from than being a layer or a model; None where it does not."""
    kind = next(kind for kind in type(layer).__mro__ if is_keras_class(kind))
    if kind is type(layer):
        return None  # a layer of Keras' own that is opened for what it holds
    no_other = kind in (layers.Layer, layers.Lambda, *WRAPPERS) or issubclass(kind, tf_keras.Model)
    return None if no_other else kind


def is_composite(layer: layers.Layer) -> bool:
    """Whether a layer must be opened: a nested model, a Lambda, or any class that is not a plain layer of Keras'.

    So must one of Keras' that holds another that is none (`TimeDistributed(MyLayer())`), and a product that is a dense
    layer in other words.
    """
    if isinstance(layer, tf_keras.Model) or plain_class(layer) is None:
        return True
    if isinstance(layer, layers.EinsumDense) and is_of_matrix(layer.equation):
        return True
    if isinstance(layer, layers.MultiHeadAttention | layers.Attention) and _attends_to_all(layer):
        return True
    return any(_is_foreign(inner) for inner in inner_layers(layer))


def _attends_to_all(layer: layers.Layer) -> bool:
    """Whether an attention is two products with a softmax between, without a mask and a dropout of its own."""
    if isinstance(layer, layers.Attention) and (layer.score_mode != "dot" or layer.dropout or layer.causal):
        return False
    masks = ("mask", "attention_mask", "use_causal_mask")
    return not any(
        any(value is not None and value is not False for key, value in arguments_of(node)[1].items() if key in masks)
        or len(arguments_of(node)[0]) > 3 for node in calls_of(layer)
    )


def position_wise(layer: layers.Layer) -> layers.Layer | None:
    """The layer that a TimeDistributed repeats, where it treats every position alike and so means the same alone."""
    if type(layer) is not layers.TimeDistributed or is_composite(layer.layer):
        return None
    inner = layer.layer
    over_last = getattr(inner, "axis", -1) == -1
    return inner if type(inner) in POSITION_WISE and over_last else None


def _is_foreign(layer: layers.Layer) -> bool:
    return not is_keras_class(type(layer)) or isinstance(layer, layers.Lambda)


def describe(layer: layers.Layer) -> str:
    return f"{layer.name} ({type(layer).__name__})"
