from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.config import DataConfig
from edgeship.data import load_test_split, preprocessing_of
from edgeship.errors import ModelError
from edgeship.model import train
from edgeship.model.augment import augment

DATA = DataConfig(image_size=8, test_images=128)


def model_of(seed=0):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential([
        layers.Input((8, 8, 1)), layers.Flatten(name="f"), layers.Dense(10, activation="softmax", name="d"),
    ])


def fit(model, folder=None, **schedule):
    train.fit(
        model, load_test_split(DATA), spec=preprocessing_of(DATA), label="training", checkpoints=folder,
        schedule=train.Schedule(**{"epochs": 3, "batch_size": 32, "learning_rate": 1e-2, "augmentation": "shift",
                                   **schedule}),
    )


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    whole = model_of()
    fit(whole)
    real = train.augment
    calls = []

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(train, "augment", interrupting)
    with pytest.raises(KeyboardInterrupt):
        fit(model_of(), tmp_path)
    resumed = model_of(seed=1)  # its own start is overwritten by the checkpoint
    fit(resumed, tmp_path)
    assert len(calls) == 6 + 12 - 5  # 12 steps in all, of which 5 were not done again
    for expected, found in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        # The sums of a batch may be split among threads in another order: some units in the last place.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_a_number_ends_the_training():
    model = model_of()
    model.layers[-1].kernel.assign(np.full((64, 10), np.nan))
    with pytest.raises(ModelError, match="training: the loss became nan at step 0; lower the learning rate"):
        fit(model)


def test_a_shifted_digit_is_not_mirrored():
    image = np.zeros((1, 16, 16, 1), np.float32)
    image[0, 8, 4:8, 0] = [1, 2, 3, 4]
    for seed in range(20):
        row = augment(image, "shift", np.random.default_rng(seed)).max(axis=(0, 1, 3))
        assert [value for value in row if value] == [1, 2, 3, 4]
