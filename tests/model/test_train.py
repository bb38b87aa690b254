from __future__ import annotations

import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError, ModelError
from edgeship.data import Images, hold_out, load_test_split, preprocess, preprocessing_of
from edgeship.data.images import ImageFiles
from edgeship.model import batches, train
from edgeship.model.augment import augment
from edgeship.model.best_epoch import BestEpoch
from edgeship.model.score import Score

DATA = DataConfig(image_size=8, test_images=128)


def model_of(seed=0):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential([
        layers.Input((8, 8, 1)), layers.Flatten(name="f"), layers.Dense(10, activation="softmax", name="d"),
    ])


def fit(model, folder=None, *, images=None, validation=None, **schedule):
    return train.fit(
        model, load_test_split(DATA) if images is None else images, spec=preprocessing_of(DATA), label="training",
        checkpoints=folder, validation=validation,
        schedule=train.Schedule(**{"epochs": 3, "batch_size": 32, "learning_rate": 1e-2, "augmentation": "shift",
                                   **schedule}),
    )


def interrupt() -> None:
    raise KeyboardInterrupt


def made_steps(monkeypatch) -> list[int]:
    """The numbers of the batches that are made from now on."""
    steps = []
    rows = batches.TrainingBatches.rows
    monkeypatch.setattr(
        batches.TrainingBatches, "rows", lambda self, step, *share: steps.append(step) or rows(self, step, *share)
    )
    return steps


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    whole, resumed = model_of(), model_of(seed=1)  # the latter's own start is overwritten by the checkpoint
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(model_of(), tmp_path, phases=(train.Phase(first_step=0), train.Phase(first_step=5, begin=interrupt)))
    steps = made_steps(monkeypatch)
    assert fit(resumed, tmp_path).steps == 12
    assert sorted(steps) == list(range(5, 12))
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


def held_out():
    return hold_out(load_test_split(DATA), 28, seed=0)


def spoiled_after_epoch_2(model):
    """Phases of a training of 3 steps per epoch whose third epoch starts from a network that is always wrong."""
    return train.Phase(first_step=0), train.Phase(
        first_step=6, begin=lambda: model.set_weights([-10 * weight for weight in model.get_weights()])
    )


def test_the_best_epoch_on_the_validation_images_is_kept():
    images, validation = held_out()
    model, last = model_of(), model_of()
    record = fit(model, images=images, validation=validation, epochs=4, phases=spoiled_after_epoch_2(model))
    fit(last, images=images, epochs=4, phases=spoiled_after_epoch_2(last))
    assert [score.epoch for score in record.scores] == [1, 2, 3, 4]
    best = max(record.scores, key=lambda score: (score.accuracy, -score.loss, score.epoch))
    assert record.best_epoch == best.epoch < 3
    assert train.accuracy(model, validation, spec=preprocessing_of(DATA)) == best.accuracy
    assert not np.array_equal(model.get_weights()[0], last.get_weights()[0])


def test_without_validation_images_the_last_epoch_is_kept():
    record = fit(model_of(), epochs=2)
    assert (record.steps, record.best_epoch, record.scores) == (8, None, ())
    assert record.images_per_second > 0


def test_of_equal_epochs_the_lower_loss_and_then_the_later_one_is_best():
    def best_of(*scores):
        best = BestEpoch([tf.Variable(0.0)], None, writes=True)
        for epoch, (accuracy, loss) in enumerate(scores, start=1):
            best.variables[0].assign(epoch)
            best.add(epoch, Score(accuracy=accuracy, loss=loss))
        best.restore()
        assert float(best.variables[0]) == best.epoch
        return best.epoch

    assert best_of((0.5, 1.0), (0.6, 1.0), (0.4, 0.1)) == 2
    assert best_of((0.5, 1.0), (0.5, 0.9), (0.5, 1.1)) == 2
    assert best_of((0.5, 1.0), (0.5, 1.0)) == 2


@pytest.mark.parametrize("first_step", [3, 6])  # within the second epoch, and after it has been scored
def test_the_best_epoch_survives_an_interruption(tmp_path, first_step):
    images, validation = held_out()
    options = {"images": images, "validation": validation, "epochs": 4}
    whole, interrupted, resumed = model_of(), model_of(), model_of(seed=1)
    expected = fit(whole, **options, phases=spoiled_after_epoch_2(whole))
    assert expected.best_epoch < 3
    with pytest.raises(KeyboardInterrupt):
        fit(
            interrupted, tmp_path, **options,
            phases=(train.Phase(first_step=0), train.Phase(first_step=first_step, begin=interrupt)),
        )
    found = fit(resumed, tmp_path, **options, phases=spoiled_after_epoch_2(resumed))
    assert (found.steps, found.best_epoch, len(found.scores)) == (12, expected.best_epoch, 4)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        # As above; 6 steps.
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_damaged_best_epoch_is_named(tmp_path):
    images, validation = held_out()
    fit(model_of(), tmp_path, images=images, validation=validation, epochs=1)
    (tmp_path / "best.npz").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="expected the best epoch of an interrupted training, found files that cannot"):
        fit(model_of(), tmp_path, images=images, validation=validation, epochs=1)


def test_no_training_images_are_refused():
    with pytest.raises(DataError, match="training: expected training images, found none; the other splits took"):
        fit(model_of(), images=load_test_split(DATA).select(np.arange(0)))


def test_what_is_wrong_with_an_image_is_said_as_it_is(tmp_path):
    (tmp_path / "broken.png").write_text("not an image")
    images = Images(ImageFiles([tmp_path / "broken.png"] * 40, channels=1), np.zeros(40, np.int64))
    with pytest.raises(DataError, match=r"broken\.png: expected a readable JPEG or PNG image"):
        fit(model_of(), images=images)


def test_batches_are_made_ahead_and_in_order():
    made = []

    def make(step):
        made.append(step)
        return np.full((4, 2), step, np.float32), np.arange(4)

    iterator = batches.prefetched(make, range(7, 107), (tf.float32, tf.int64), replicas=2)
    (first, labels), (second, _) = next(iterator)
    assert (first.shape, second.shape, labels.numpy().tolist()) == ((2, 2), (2, 2), [0, 1])
    deadline = time.monotonic() + 30
    while len(made) < 3 and time.monotonic() < deadline:  # nobody has asked for these yet
        time.sleep(0.01)
    # Ahead, but not without bound: what lies ready, what is being made, and what tf.data holds between the two.
    assert 3 <= len(made) <= 1 + batches.LIE_READY + 2 * batches.MADE_AT_ONCE
    assert [7, *(float(replicas[1][0][0, 0]) for replicas in iterator)] == list(range(7, 107))


@pytest.mark.parametrize("kind", ["none", "shift", "flip"])
def test_a_replicas_rows_are_those_of_the_whole_batch(kind):
    images = load_test_split(DATA)
    whole = batches.TrainingBatches(
        images=images, spec=preprocessing_of(DATA), batch_size=32, augmentation=kind, seed=5
    )
    pixels, labels = whole.rows(6)
    for rows in (slice(0, 16), slice(16, 32)):
        part = whole.rows(6, rows)
        np.testing.assert_array_equal(part[0], pixels[rows])
        np.testing.assert_array_equal(part[1], labels[rows])


def test_accuracy_counts_each_image_once():
    images = load_test_split(DATA).select(np.arange(70))
    model, spec = model_of(), preprocessing_of(DATA)
    expected = np.mean(model(preprocess(images.images, spec)).numpy().argmax(-1) == images.labels)
    for batch_size in (32, 70, 256):  # the last batch of 6 is filled up
        assert train.accuracy(model, images, spec=spec, batch_size=batch_size) == expected
