from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.model.build import load_model
from edgeship.model.layers import SqueezeExcitation
from edgeship.model.resnet import build_resnet


def test_resnet34_has_the_published_number_of_parameters():
    assert build_resnet(input_shape=(224, 224, 3), classes=1000).count_params() == 21_814_696


@pytest.mark.parametrize("variant", [{}, {"padding": "symmetric", "se_divisor": 8}], ids=["own", "torch"])
def test_custom_layers_survive_a_keras_file(tmp_path, variant):
    model = build_resnet(input_shape=(16, 16, 1), classes=10, stage_sizes=(1, 1), width=8, se_ratio=4, **variant)
    model.save(tmp_path / "model.keras")
    noise = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    loaded = load_model(tmp_path / "model.keras")
    assert isinstance(loaded, tf_keras.Model)
    np.testing.assert_array_equal(loaded(noise), model(noise))


@pytest.mark.parametrize("size", [16, 17, 224])
def test_symmetric_padding_keeps_the_shapes_and_pads_both_sides(size):
    variants = {
        padding: build_resnet(input_shape=(size, size, 1), classes=2, stage_sizes=(1, 2, 1), width=4, padding=padding)
        for padding in ("same", "symmetric")
    }
    symmetric = variants["symmetric"]
    for layer in variants["same"].layers[1:]:
        assert symmetric.get_layer(layer.name).output_shape == layer.output_shape
    pads = {layer.name: layer.padding for layer in symmetric.layers if isinstance(layer, layers.ZeroPadding2D)}
    assert pads == {"stem_pad": ((3, 3), (3, 3)), "stem_pool_pad": ((1, 1), (1, 1))}
    padded = {"stage1_unit1": False, "stage2_unit1": True, "stage2_unit2": False, "stage3_unit1": True}
    for name, is_padded in padded.items():
        assert isinstance(symmetric.get_layer(name).main_layers[0], layers.ZeroPadding2D) == is_padded


@pytest.mark.parametrize(
    ("divisor", "expected"), [(1, {8: 1, 64: 4, 192: 12, 512: 32}), (8, {8: 8, 64: 8, 192: 16, 512: 32})]
)
def test_squeezed_channels_are_the_papers_or_timms(divisor, expected):
    for filters, squeezed in expected.items():
        layer = SqueezeExcitation(16, divisor=divisor)
        layer.build((None, 4, 4, filters))
        assert layer.reduce.units == squeezed
