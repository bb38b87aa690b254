from __future__ import annotations

import pytest
import tensorflow as tf
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.simplifying.rewrites import weights_of
from edgeship.quantize.simplifying.roles import RESIZES, ROLES, ROUNDED, Role, fixed_range, role_of


@pytest.mark.parametrize(("layer", "role"), [
    (layers.Conv2D(1, 1), Role.WEIGHTED), (layers.DepthwiseConv2D(1), Role.WEIGHTED), (layers.Dense(1), Role.WEIGHTED),
    (layers.Add(), Role.RANGE), (layers.Multiply(), Role.RANGE), (layers.ReLU(6.0), Role.RANGE),
    (layers.LeakyReLU(), Role.RANGE), (layers.GlobalAveragePooling2D(), Role.RANGE),
    (flat_layers.Reduce("mean", [1]), Role.RANGE), (flat_layers.Reduce("max", [3]), Role.SAME),
    (layers.Concatenate(), Role.SAME), (layers.MaxPooling2D(), Role.SAME), (layers.AveragePooling2D(), Role.SAME),
    (layers.ZeroPadding2D(), Role.SAME), (layers.Reshape((1,)), Role.SAME), (layers.UpSampling2D(), Role.SAME),
    (flat_layers.Pad([[0, 0], [1, 1]]), Role.SAME), (flat_layers.DepthToSpace(2), Role.SAME),
    (layers.Activation("sigmoid"), Role.FIXED), (layers.Activation("softmax"), Role.FIXED),
    (layers.Activation("tanh"), Role.FIXED), (layers.Softmax(), Role.FIXED),
], ids=lambda item: type(item).__name__ if isinstance(item, layers.Layer) else item.value)
def test_a_layer_has_a_role(layer, role):
    assert role_of(layer) is role


class OwnConv2D(layers.Conv2D):
    """Computes what it likes."""


@pytest.mark.parametrize("layer", [
    layers.Activation("gelu"), layers.ReLU(negative_slope=0.1), layers.ReLU(threshold=1.0), layers.BatchNormalization(),
    layers.Conv2DTranspose(1, 1), layers.Conv3D(1, 1), layers.LayerNormalization(), layers.Lambda(tf.abs),
    flat_layers.Reduce("min", [1]), flat_layers.Pad([[0, 0], [1, 1]], value=1.0),
    flat_layers.Pad([[0, 0], [1, 1]], mode="REFLECT"), OwnConv2D(1, 1),
], ids=lambda layer: layer.name)
def test_a_layer_that_integers_cannot_compute_has_none(layer):
    assert role_of(layer) is None


def test_fixed_ranges_are_those_of_the_specification():
    """tensorflow.org/lite/performance/quantization_spec: LOGISTIC and SOFTMAX 1/256 and -128, TANH 1/128 and 0."""
    for layer, scale, zero_point in [
        (layers.Activation("sigmoid"), 1 / 256, -128), (layers.Activation("softmax"), 1 / 256, -128),
        (layers.Softmax(), 1 / 256, -128), (layers.Activation("tanh"), 1 / 128, 0),
    ]:
        low, high = fixed_range(layer)
        assert (high - low) / 255 == scale and -128 - low / scale == zero_point


def test_the_tables_fit_together():
    weighted = {kind for kind, role in ROLES.items() if role is Role.WEIGHTED}
    # A transposed convolution becomes an ordinary one.
    assert weighted == set(weights_of) - {layers.Conv2DTranspose}
    # What a resize is depends on its interpolation.
    assert all(ROLES[kind] is Role.SAME for kind in set(ROUNDED) - set(RESIZES))
    assert role_of(layers.UpSampling2D(interpolation="bilinear")) is Role.SAME
    assert role_of(layers.UpSampling2D(interpolation="bicubic")) is None
