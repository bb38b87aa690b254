"""Layers that resize or crop, called on tensors of several sizes: each call does what it did."""

from __future__ import annotations

import pytest
import tf_keras
from tf_keras import layers as L

from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, randomize

SHARED = {
    "resizing": (L.Resizing, (12, 12), {L.UpSampling2D: 2}), "center crop": (L.CenterCrop, (3, 2), {L.Cropping2D: 3}),
    "random crop": (L.RandomCrop, (24, 24), {L.UpSampling2D: 3}),
}


@pytest.mark.parametrize("name", SHARED)
def test_one_layer_of_several_sizes_is_a_layer_for_each(name):
    kind, size, expected = SHARED[name]
    images = [L.Input((side, side, 2), name=f"image{side}") for side in (6, 12, 4)]
    shared = kind(*size, name="shared")
    model = lower(randomize(tf_keras.Model(images, L.Add(name="sum")([shared(image) for image in images]), name="m")))
    simple = simplify(model)
    assert_same_to_rounding(model, simple, products=4)
    assert {kind: sum(type(layer) is kind for layer in simple.layers) for kind in expected} == expected
