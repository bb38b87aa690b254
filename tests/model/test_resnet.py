from __future__ import annotations

import numpy as np
import tf_keras

from edgeship.model.build import load_model
from edgeship.model.resnet import build_resnet


def test_resnet34_has_the_published_number_of_parameters():
    assert build_resnet(input_shape=(224, 224, 3), classes=1000).count_params() == 21_814_696


def test_custom_layers_survive_a_keras_file(tmp_path):
    model = build_resnet(input_shape=(16, 16, 1), classes=10, stage_sizes=(1, 1), width=8, se_ratio=4)
    model.save(tmp_path / "model.keras")
    noise = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    loaded = load_model(tmp_path / "model.keras")
    assert isinstance(loaded, tf_keras.Model)
    np.testing.assert_array_equal(loaded(noise), model(noise))
